"""What is wrong with a configuration: where, what, why, how to fix it. And how that looks on a terminal."""

import re
from dataclasses import dataclass
from typing import Literal

Path = tuple[str | int, ...]
"""Keys and list positions from the root to a value."""

Severity = Literal["error", "warning"]
Code = Literal["INVALID_CONFIG", "MISSING_CONFIG"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key or value was written. `line` and `column` count from 1; both 0 outside of a file."""

    source: str
    line: int = 0
    column: int = 0
    length: int = 1
    text: str = ""

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True, slots=True)
class Issue:
    """One finding. `key` is the dotted path of the value; `hint` says how to fix it."""

    key: str
    message: str
    hint: str = ""
    place: Place | None = None
    severity: Severity = "error"

    def __str__(self) -> str:
        at = f"{self.place}: " if self.place else ""
        key = f"{self.key}: " if self.key else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{at}{self.severity}: {key}{self.message}{hint}"


class ConfigError(Exception):
    """The configuration cannot be used. `issues` has every error and warning found, in the order of the file."""

    def __init__(self, issues: tuple[Issue, ...], code: Code = "INVALID_CONFIG") -> None:
        super().__init__("\n".join(str(issue) for issue in issues))
        self.issues = issues
        self.code = code


def dotted(path: Path) -> str:
    """`providers.openai.keys[0].weight`; a key with a dot or a slash stands in quotes: `models."openai/gpt-5"`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (step if re.fullmatch(r"[\w-]+", step) else f'"{step}"')
    return text


def render(issue: Issue) -> str:
    """An issue as compilers show them: place, source line, caret, how to fix it. No colour, no credential.

    heimdall.yaml:12:3: error: router.alhpa: there is no such key
       12 |   alhpa: 0.7
          |   ^~~~~
       = did you mean alpha?
    """
    at = f"{issue.place}: " if issue.place else ""
    key = f"{issue.key}: " if issue.key else ""
    lines = [f"{at}{issue.severity}: {key}{issue.message}"]
    if issue.place and issue.place.line:
        lines += _excerpt(issue.place)
    if issue.hint:
        lines.append(f"   = {issue.hint}")
    return "\n".join(lines)


_WIDEST = 160


def _excerpt(place: Place) -> list[str]:
    # A tab counts as one column for YAML; as one blank it keeps the caret below its character.
    start = max(0, place.column - 1 - _WIDEST // 2)
    text = place.text.replace("\t", " ")[start : start + _WIDEST]
    column = place.column - 1 - start
    length = max(1, min(place.length, len(text) - column))
    gutter = f"{place.line:>5} | "
    return [gutter + text, " " * 5 + " | " + " " * column + "^" + "~" * (length - 1)]


_SECRET_KEY = r"value|proxy|access_key|[\w-]*(?:secret|password|token|credential|authorization|api[_-]?key)[\w-]*"
_SECRET_VALUE = re.compile(
    rf"(?i)((?:^|[\s{{,\"'])(?:{_SECRET_KEY})[\"']?\s*:\s*)(\"[^\"]*\"?|'[^']*'?|[^,}}\n#][^,}}\n]*)"
)
_USER_INFO = re.compile(r"(://)([^/@\s\"']+)(?=@)")
_QUERY = re.compile(r"(://[^\s\"'?]*\?)([^\s\"']+)")
_KNOWN_KEY = re.compile(r"\b(?:sk|pk|gsk|xai|rk|AIza|ya29|AKIA|ASIA|ghp|eyJ)[-_.A-Za-z0-9]{8,}")


def mask_line(line: str) -> str:
    """A line of a configuration file with every literal credential as asterisks of the same length.

    References such as ${NAME} stay, since they tell where the credential comes from.
    """

    def stars(match: re.Match[str]) -> str:
        return match[1] + (match[2] if "${" in match[2] else "*" * len(match[2]))

    line = _QUERY.sub(stars, _USER_INFO.sub(stars, _SECRET_VALUE.sub(stars, line)))
    return _KNOWN_KEY.sub(lambda match: "*" * len(match[0]), line)
