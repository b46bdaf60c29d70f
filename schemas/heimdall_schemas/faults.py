"""What is wrong with a message, in the words of whoever wrote it, who does not know pydantic."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_MOST = 8
_PATH_CHARS = 200
_UNION_TAGS = frozenset({"str", "list[Part]", "dict[str,any]"})
"""Steps that pydantic puts into a path for the members of a union; no writer wrote them."""


class Faults(NamedTuple):
    """`text`: each fault as `path: what is wrong`, at most eight; `param`: the path of the first."""

    text: str
    param: str


def faults_of(
    error: ValidationError, *, within: str = "", known: Iterable[str] = (), otherwise: str = "take it out"
) -> Faults:
    """Every fault that pydantic found. `within`: the name of the message, before each path. Of a field that does not
    exist: it may be one of `known` misspelt, and what to do `otherwise`.

    The values at fault are never told, since they can be text of a prompt.
    """
    found = error.errors(include_input=False, include_url=False, include_context=False)
    paths = [_path((within, *fault["loc"]) if within else fault["loc"]) for fault in found[:_MOST]]
    lines = [f"{path}: {_words(fault, known, otherwise)}" for path, fault in zip(paths, found, strict=False)]
    if len(found) > len(lines):
        lines.append(f"and {len(found) - len(lines)} more")
    return Faults("; ".join(lines), paths[0])


def _words(fault: ErrorDetails, known: Iterable[str], otherwise: str) -> str:
    match fault["type"]:
        case "extra_forbidden":
            near = get_close_matches(str(fault["loc"][-1])[:64], list(known), n=1)
            return "no such field; " + (f"did you mean {near[0]}?" if near else otherwise)
        case "timezone_aware":
            return "a time needs its zone, as in 2026-11-21T12:00:30Z"
        case "missing":
            return "is required"
        case "model_type" | "dict_type":
            return "must be an object"
        case _:
            return fault["msg"].removeprefix("Value error, ")


def _path(location: tuple[int | str, ...]) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location if step not in _UNION_TAGS)
    return "".join(steps).lstrip(".")[:_PATH_CHARS] or "body"
