"""From plain values to a Config, with every finding at once, each at its place."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from heimdall_fleet.config.describe import Described, at, elsewhere, keys_at, models_in, suggestion
from heimdall_fleet.config.document import Tree
from heimdall_fleet.config.issues import Issue, Path, dotted
from heimdall_fleet.config.merge import get
from heimdall_fleet.config.model import Config
from heimdall_fleet.config.provider_types import PROVIDER_TYPES

_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Validated:
    """`config` is None when there are issues. `sound` is what is left when the values at `wrong` count as not set: the
    rules that look across sections run on it, so that they speak up together with everything else."""

    config: Config | None
    sound: Config | None
    issues: list[Issue]
    wrong: set[Path]


def validate(tree: Tree) -> Validated:
    """Check every value of the tree by itself and within its section."""
    issues = _misplaced_booleans(tree, tree.data, ())
    data: Any = copy.deepcopy(tree.data)
    wrong: set[Path] = set()
    for _ in range(_ROUNDS):
        try:
            config = Config.model_validate(data)
        except ValidationError as error:
            found = [(_path(detail, data), detail) for detail in error.errors(include_url=False, include_input=False)]
            issues += [_issue(detail, path, tree) for path, detail in found if path not in wrong]
            wrong.update(path for path, _ in found)
            for path, _ in sorted(found, key=lambda pair: len(pair[0]), reverse=True):
                _forget(data, path)
        else:
            return Validated(None if issues else config, config, issues, wrong)
    return Validated(None, None, issues, wrong)


def empty_sections(data: Mapping[str, Any], path: Path = ()) -> list[Path]:
    """Sections that are written without anything in them (`router:`); YAML reads these as null."""
    found: list[Path] = []
    for key, value in data.items():
        here = (*path, key)
        described = at(here)
        if described is None or not any(models_in(described.annotation)):
            continue
        if value is None and not _optional(described):
            found.append(here)
        elif isinstance(value, dict):
            found += empty_sections(value, here)
    return found


def _optional(described: Described) -> bool:
    return "None" in str(described.annotation)


def _path(detail: ErrorDetails, data: Any) -> Path:
    """The path in the file: pydantic's location without its own steps (names of union members, `[key]`)."""
    path: Path = ()
    location = detail["loc"]
    for index, step in enumerate(location):
        inside = get(data, path)
        known = (isinstance(inside, dict) and step in inside) or (isinstance(inside, list) and isinstance(step, int))
        absent = index == len(location) - 1 and detail["type"] in ("missing", "extra_forbidden")
        if known or absent:
            path = (*path, step)
    return path


def _forget(data: Any, path: Path) -> None:
    """Remove what is wrong; a wrong or incomplete item takes its whole list or entry along."""
    while path:
        parent = get(data, path[:-1])
        if isinstance(parent, dict) and path[-1] in parent:
            del parent[path[-1]]
            return
        path = path[:-1]


def _issue(detail: ErrorDetails, path: Path, tree: Tree) -> Issue:
    kind = detail["type"]
    describe = _DESCRIBE.get(kind) or _DESCRIBE.get(kind.rpartition("_")[2], _other)
    message, hint = describe(detail, path, tree)
    at_key = kind == "extra_forbidden" or "[key]" in detail["loc"]
    return Issue(dotted(path), message, hint, tree.place(path, key=at_key))


Finding = tuple[str, str]


def _unknown_key(_: ErrorDetails, path: Path, tree: Tree) -> Finding:
    name = str(path[-1])
    known = keys_at(path[:-1])
    hint = suggestion(name, known)
    if not hint.startswith("did you mean"):
        hint = elsewhere(name) or hint
    return "there is no such key", hint


def _missing(_: ErrorDetails, path: Path, tree: Tree) -> Finding:
    described = at(path)
    meaning = described.field.description if described and described.field else ""
    allowed = described.allowed if described else ""
    hint = f"write one of {allowed}" if described and described.choices else " ".join((meaning or "").split())
    return "this key is missing", hint


def _choice(_: ErrorDetails, path: Path, tree: Tree) -> Finding:
    described = at(path)
    choices = described.choices if described else ()
    value = get(tree.data, path)
    hint = suggestion(str(value), choices)
    listed = PROVIDER_TYPES if set(PROVIDER_TYPES) <= set(choices) else choices
    return f"{_shown(value, described)} is not one of {', '.join(listed)}", hint if "mean" in hint else ""


def _out_of_range(_: ErrorDetails, path: Path, tree: Tree) -> Finding:
    described = at(path)
    allowed = described.allowed if described else ""
    return f"{_shown(get(tree.data, path), described)} is out of range; {allowed} is allowed", ""


def _wrong_type(detail: ErrorDetails, path: Path, tree: Tree) -> Finding:
    described = at(path)
    wanted = _KINDS.get(detail["type"].rpartition("_")[0], "of the right kind")
    allowed = described.allowed if described else ""
    shown = _shown(get(tree.data, path), described)
    return f"{shown} is not {wanted}{f'; {allowed} is allowed' if allowed else ''}", ""


def _pattern(_: ErrorDetails, path: Path, tree: Tree) -> Finding:
    described = at(path)
    return f"{_shown(get(tree.data, path), described)} has characters or a length that is not allowed", (
        "letters, digits and . _ - are allowed; see the key in docs/configuration.md"
    )


def _too_short(_: ErrorDetails, path: Path, tree: Tree) -> Finding:
    return "must not be empty", ""


def _rule(detail: ErrorDetails, path: Path, tree: Tree) -> Finding:
    return str(detail.get("ctx", {}).get("error", detail["msg"])), ""


def _other(detail: ErrorDetails, path: Path, tree: Tree) -> Finding:
    return detail["msg"].removeprefix("Value error, "), ""


_DESCRIBE: dict[str, Callable[[ErrorDetails, Path, Tree], Finding]] = {
    "extra_forbidden": _unknown_key,
    "missing": _missing,
    "literal_error": _choice,
    "greater_than": _out_of_range,
    "greater_than_equal": _out_of_range,
    "less_than": _out_of_range,
    "less_than_equal": _out_of_range,
    "finite_number": _out_of_range,
    "string_pattern_mismatch": _pattern,
    "too_short": _too_short,
    "string_too_short": _too_short,
    "value_error": _rule,
    "parsing": _wrong_type,
    "type": _wrong_type,
    "size": _wrong_type,
    "float": _wrong_type,
}

_KINDS: dict[str, str] = {
    "int": "a whole number",
    "int_from": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text; put it in quotes",
    "tuple": "a list",
    "dict": "a mapping of keys to values",
    "model": "a section: a mapping of keys to values",
    "model_attributes": "a section: a mapping of keys to values",
}


def _shown(value: object, described: Described | None) -> str:
    """A value for a message: short, on one line, and never a credential."""
    if described is not None and "SecretStr" in str(described.annotation):
        return "the value"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(value)
    if value is None or isinstance(value, bool):
        text = "null" if value is None else str(value).lower()
    return text if len(text) <= 60 else text[:60] + "…"


def _misplaced_booleans(tree: Tree, data: Any, path: Path) -> list[Issue]:
    """true and false where a number belongs: pydantic would read them as 1 and 0."""
    if isinstance(data, dict | list):
        items = data.items() if isinstance(data, dict) else enumerate(data)
        return [issue for key, value in items for issue in _misplaced_booleans(tree, value, (*path, key))]
    described = at(path) if isinstance(data, bool) else None
    if described is None or "bool" in str(described.annotation) or described.annotation is Any:
        return []
    numeric = any(kind in str(described.annotation) for kind in ("int", "float"))
    if not numeric or "timedelta" in str(described.annotation) or described.field is None:
        return []
    return [Issue(dotted(path), f"{_shown(data, described)} is not a number", "", tree.place(path))]
