"""`${NAME}`, `${NAME:-default}` and `${file:/run/secrets/x}` in any scalar of the configuration.

It runs on scalars after YAML was parsed, so that a secret with a colon or a quote in it cannot change the document.
`$${` stands for a literal `${`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_REFERENCE = re.compile(r"\$(\$\{)|\$\{([^{}$]*)\}|(\$\{)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_SECRET_BYTES = 64 * 1024


class InterpolationError(ValueError):
    """A reference that cannot be replaced; the text names the variable or file and how to fix it."""


@dataclass(slots=True)
class Interpolator:
    """Replaces references; remembers which files it read, so that a rotated secret can be noticed.

    `folder` is where relative `${file:…}` paths start.
    """

    env: Mapping[str, str]
    folder: Path
    files: set[Path] = field(default_factory=set)

    def replace(self, text: str) -> str:
        """The text with every reference replaced. Raises InterpolationError naming the one that cannot be."""
        if "${" not in text:
            return text
        return _REFERENCE.sub(self._value, text)

    def _value(self, match: re.Match[str]) -> str:
        if match[1]:
            return "${"
        if match[3]:
            raise InterpolationError(
                "a ${ is not closed, or holds another ${; write ${NAME}, ${NAME:-default} or ${file:/path}, "
                "and $${ for a literal ${"
            )
        body = match[2]
        if body.startswith("file:"):
            return self._file(body.removeprefix("file:"))
        name, has_default, default = body.partition(":-")
        if not _NAME.fullmatch(name):
            raise InterpolationError(f"${{{body}}} does not name an environment variable")
        if has_default:
            return self.env.get(name) or default
        if name not in self.env:
            raise InterpolationError(
                f"the environment variable {name} is not set; set it, or give a default: ${{{name}:-…}}"
            )
        return self.env[name]

    def _file(self, name: str) -> str:
        path = self.folder / name
        self.files.add(path)
        try:
            with path.open("rb") as file:
                content = file.read(_MAX_SECRET_BYTES + 1)
            text = content.decode()
        except OSError as error:
            raise InterpolationError(f"the file {path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise InterpolationError(f"the file {path} is not text in UTF-8") from error
        if len(content) > _MAX_SECRET_BYTES:
            raise InterpolationError(f"the file {path} is larger than {_MAX_SECRET_BYTES // 1024} KiB")
        return text.rstrip("\r\n")
