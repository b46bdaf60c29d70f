"""Bytes to JSON values and back, with limits that hold before any schema looks at the value."""

import re
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import orjson

from heimdall_schemas.failure import Failure, FailureCode

_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may weigh. Crossing one is a `caller_too_large` or `caller_bad_request` failure.

    `max_body_bytes` must stay below the topic's `max.message.bytes`.
    """

    max_body_bytes: int = 1_500_000
    max_depth: int = 64
    max_messages: int = 10_000
    max_headers: int = 64
    max_header_bytes: int = 16 * 1024


DEFAULT_LIMITS = Limits()


def decode(value: bytes | None, limits: Limits = DEFAULT_LIMITS) -> dict[str, Any]:
    """Parse one JSON object.

    Raises Failure: `caller_bad_request` for nothing, not UTF-8, not JSON, not an object; `caller_too_large` for a body
    over `max_body_bytes` or nested deeper than `max_depth`.
    """
    parsed = parse(value, limits)
    check_depth(value or b"", limits.max_depth)
    return parsed


def parse(value: bytes | None, limits: Limits = DEFAULT_LIMITS) -> dict[str, Any]:
    """As `decode`, for whoever sees by the object itself that it is not nested too deep; the parser stops at 1,024."""
    if not value:
        raise Failure(FailureCode.CALLER_BAD_REQUEST, "the record has no value; send a Chat Completions body as JSON")
    if len(value) > limits.max_body_bytes:
        raise Failure(
            FailureCode.CALLER_TOO_LARGE,
            f"the body has {len(value):,} bytes, the limit is {limits.max_body_bytes:,} (limits.max_body_bytes)",
            context={"limit": "max_body_bytes", "bytes": len(value), "max": limits.max_body_bytes},
        )
    try:
        parsed = loads(value)
    except orjson.JSONDecodeError as error:
        check_depth(value, limits.max_depth)  # what is too deep for the parser is too deep, and not "no JSON"
        raise Failure(FailureCode.CALLER_BAD_REQUEST, f"the body is not JSON in UTF-8: {error}") from error
    if type(parsed) is not dict:
        check_depth(value, limits.max_depth)
        raise Failure(
            FailureCode.CALLER_BAD_REQUEST,
            f"the body is a JSON {_kind(parsed)}; a Chat Completions object is needed",
        )
    return parsed


def loads(value: bytes) -> Any:
    """Any JSON value. An escaped half of a character (`\\ud83d`, from a text cut inside an emoji) is read as U+FFFD.

    Raises orjson.JSONDecodeError.
    """
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        whole = _ESCAPES.sub(lambda found: b"\\ufffd" if found[1] else found[0], value)
        if whole == value:
            raise
        return orjson.loads(whole)


def check_depth(value: bytes, max_depth: int) -> None:
    """Refuse JSON nested deeper than `max_depth`, at the cost of two counts for a body that cannot be so deep.

    Brackets inside strings count in that first test; only a body that fails it is looked at closely.
    """
    if value.count(b"[") + value.count(b"{") <= max_depth:
        return
    if _deepest(value) > max_depth:
        raise Failure(
            FailureCode.CALLER_TOO_LARGE,
            f"the JSON is nested deeper than {max_depth} levels (limits.max_json_depth)",
            context={"limit": "max_json_depth", "max": max_depth},
        )


_STRING = re.compile(rb'"[^"]*"')
_NOT_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
_STEP = {0x5B: 1, 0x7B: 1, 0x5D: -1, 0x7D: -1}


def _deepest(value: bytes) -> int:
    """The deepest nesting: strings are cut out first, so that brackets in prose and code do not count."""
    bare = _STRING.sub(b"", value.replace(b"\\\\", b"").replace(b'\\"', b""))
    brackets = bare.translate(None, delete=_NOT_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0)


def _kind(parsed: object) -> str:
    if parsed is None:
        return "null"
    return {list: "array", str: "string", bool: "boolean", int: "number", float: "number"}.get(type(parsed), "value")


def encode(value: Any) -> bytes:
    """JSON bytes of plain values and dataclasses; numpy scalars and arrays are taken as numbers."""
    # A copy, since orjson's bytes keep the buffer that they grew in, which is up to eight times as large.
    return b"%b" % orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
