"""One YAML file as plain values, with the place of every key and value.

Scalars are read as YAML 1.2 reads them: `on`, `12:30` and dates stay text, where PyYAML's 1.1 rules would turn them
into booleans, numbers and dates.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml

from heimdall_fleet.config.interpolate import InterpolationError, Interpolator
from heimdall_fleet.config.issues import Issue, Path, Place, dotted, mask_line

_MAX_BYTES = 1_048_576
_MAX_NODES = 100_000
_MAX_DEPTH = 50
_INT = re.compile(r"[-+]?(0|[1-9][0-9_]*)|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_CONSTANTS = {"": None, "~": None, "null": None, "true": True, "false": False}
_SPECIAL_FLOATS = {".inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}


@dataclass(slots=True)
class Tree:
    """Plain values with their places. `keys` holds places of keys, `values` those of values."""

    data: dict[str, Any] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)

    def place(self, path: Path, *, key: bool = False) -> Place | None:
        """The place of a value (or of its key), else of the nearest thing around it."""
        if key and path in self.keys:
            return self.keys[path]
        for end in range(len(path), -1, -1):
            if path[:end] in self.values:
                return self.values[path[:end]]
        return None


@dataclass(slots=True)
class Reading:
    """What came out of reading one file."""

    tree: Tree
    issues: list[Issue]


def read_document(file: FilePath, interpolator: Interpolator) -> Reading:
    """Read a file; whatever is wrong with it is in `issues`, with its place. Only OSError is raised."""
    content = file.read_bytes()
    if len(content) > _MAX_BYTES:
        return Reading(Tree(), [Issue("", f"{file} is larger than {_MAX_BYTES:,} bytes; is it the right file?")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        place = Place(str(file), before.count("\n") + 1, len(before) - before.rfind("\n"))
        return Reading(Tree(), [Issue("", "this is not UTF-8", "save the file in UTF-8", place)])
    return parse_document(str(file), text, interpolator)


def parse_document(source: str, text: str, interpolator: Interpolator) -> Reading:
    """Read a text; `source` is what its places are called."""
    return _Reader(source, text, interpolator).read()


class _Reader:
    def __init__(self, source: str, text: str, interpolator: Interpolator) -> None:
        self._source = source
        self._text = text
        self._lines = [mask_line(line) for line in re.split(r"\r\n|\r|\n", text)]
        self._interpolator = interpolator
        self._tree = Tree()
        self._issues: list[Issue] = []
        self._nodes = 0
        self._overflowed = False

    def read(self) -> Reading:
        root = self._compose()
        if isinstance(root, yaml.MappingNode):
            self._tree.values[()] = self._place(root.start_mark, root.start_mark)
            self._tree.data = self._mapping(root, ())
        elif root is not None and not (isinstance(root, yaml.ScalarNode) and not root.value):
            place = self._place(root.start_mark, root.end_mark)
            self._issues.append(Issue("", "the file is not a mapping", "write keys such as router:", place))
        return Reading(self._tree, self._issues)

    def _compose(self) -> yaml.Node | None:
        try:
            return yaml.compose(self._text, yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = self._place(mark, mark) if mark else None
            self._issues.append(Issue("", f"this is not YAML: {error.problem or error.context}", "", place))
        except yaml.reader.ReaderError as error:
            before = self._text[: error.position]
            line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
            place = Place(self._source, line, column, 1, self._line(line - 1))
            self._issues.append(Issue("", f"character U+{int(error.character):04X} is not allowed", "", place))
        except RecursionError:
            self._issues.append(Issue("", f"{self._source} is nested too deeply"))
        return None

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self._nodes += 1
        self._tree.values[path] = self._place(node.start_mark, node.end_mark)
        if self._nodes > _MAX_NODES or len(path) > _MAX_DEPTH:
            if not self._overflowed:
                self._issues.append(Issue(dotted(path[:5]), "too many or too deep values; is an alias inside itself?"))
            self._overflowed = True
            self._nodes = _MAX_NODES
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, key_node, value_node in self._entries(node, path):
            here = (*path, name)
            place = self._place(key_node.start_mark, key_node.end_mark)
            if name in result:
                first = self._tree.keys[here]
                message = f"the key stands twice, first in line {first.line}"
                self._issues.append(Issue(dotted(here), message, "remove one of them", place))
                continue
            self._tree.keys[here] = place
            result[name] = self._value(value_node, here)
        return result

    def _entries(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        for key_node, value_node in node.value:
            place = self._place(key_node.start_mark, key_node.end_mark)
            if not isinstance(key_node, yaml.ScalarNode):
                self._issues.append(Issue(dotted(path), "a key must be text", "quote it", place))
            elif key_node.tag == "tag:yaml.org,2002:merge":
                hint = "repeat the keys, or use an overlay file: heimdall.<environment>.yaml"
                self._issues.append(Issue(dotted(path), "merge keys (<<) are not read", hint, place))
            else:
                yield self._interpolated(key_node, path), key_node, value_node

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        text = self._interpolated(node, path)
        if isinstance(node, yaml.ScalarNode) and node.style is None and text == node.value:
            return plain_scalar(text)
        return text

    def _interpolated(self, node: yaml.Node, path: Path) -> str:
        try:
            return self._interpolator.replace(str(node.value))
        except InterpolationError as error:
            place = self._place(node.start_mark, node.end_mark)
            self._issues.append(Issue(dotted(path), str(error), "", place))
            return ""

    def _place(self, start: Any, end: Any) -> Place:
        line = self._line(start.line)
        length = end.column - start.column if end.line == start.line else len(line) - start.column
        return Place(self._source, start.line + 1, start.column + 1, max(1, length), line)

    def _line(self, index: int) -> str:
        return self._lines[index] if index < len(self._lines) else ""


def plain_scalar(text: str) -> Any:
    """The value of an unquoted scalar: null, boolean, integer, float, else the text itself."""
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    if _INT.fullmatch(text) and len(text) <= 40:
        return int(text.replace("_", ""), 0)
    if text.lower() in _SPECIAL_FLOATS:
        return _SPECIAL_FLOATS[text.lower()]
    return float(text) if _FLOAT.fullmatch(text) else text
