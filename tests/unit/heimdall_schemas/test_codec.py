import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_schemas.codec import DEFAULT_LIMITS, Limits, check_depth, decode, encode
from heimdall_schemas.failure import Failure, FailureCode

BAD, LARGE = FailureCode.CALLER_BAD_REQUEST, FailureCode.CALLER_TOO_LARGE

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


def refused(value: bytes | None, limits: Limits = DEFAULT_LIMITS) -> Failure:
    with pytest.raises(Failure) as caught:
        decode(value, limits)
    return caught.value


def outcome(value: bytes) -> FailureCode | None:
    try:
        decode(value)
    except Failure as failure:
        return failure.code
    return None


def nesting(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(nesting, value.values()), default=0)
    return 1 + max(map(nesting, value), default=0) if isinstance(value, list) else 0


@pytest.mark.parametrize(
    ("value", "code", "said"),
    [
        (None, BAD, "no value"),
        (b"", BAD, "no value"),
        (b"{", BAD, "not JSON"),
        (b'{"a": "\xff"}', BAD, "not JSON in UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', BAD, "not JSON in UTF-8"),
        (b'{"a": "\\ud800}', BAD, "not JSON in UTF-8"),
        (b"\xef\xbb\xbf{}", BAD, "not JSON in UTF-8"),
        (b'{"a": NaN}', BAD, "not JSON"),
        (b'{"a": 1e999}', BAD, "not JSON"),
        (b"[1]", BAD, "JSON array"),
        (b'"text"', BAD, "JSON string"),
        (b"null", BAD, "JSON null"),
        (b"true", BAD, "JSON boolean"),
        (b"1.5", BAD, "JSON number"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, LARGE, "limits.max_json_depth"),
        (b"[" * 10_000, LARGE, "deeper than 64"),
        (b'{"a": "' + b"x" * 1_500_000 + b'"}', LARGE, "limits.max_body_bytes"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(value: bytes | None, code: FailureCode, said: str) -> None:
    failure = refused(value)
    assert failure.code is code
    assert said in failure.message


HALVES = [
    (r'"cut \ud83d"', "cut \ufffd"),
    (r'"\udc69\uD83D\uDC69"', "\ufffd\U0001f469"),
    (r'"\ud83d\ud83d\udc69"', "\ufffd\U0001f469"),
    (r'"\\ud83d \"\ud800\u0041"', '\\ud83d "\ufffdA'),
]


@pytest.mark.parametrize(("written", "read"), HALVES)
def test_an_escaped_half_of_a_character_is_read_as_a_replacement_character(written: str, read: str) -> None:
    assert decode(f'{{"a": {written}}}'.encode()) == {"a": read}


@given(json_values)
def test_depth_is_counted_as_a_parser_counts_it(value: Any) -> None:
    text = json.dumps({"a": value}).encode()
    depth = nesting({"a": value})
    check_depth(text, depth)
    with pytest.raises(Failure):
        check_depth(text, depth - 1)


@given(st.text(alphabet='[]{}"\\ax', max_size=300), st.booleans())
def test_brackets_inside_strings_never_count(prose: str, pretty: bool) -> None:
    text = json.dumps({"messages": [{"content": prose}]}, indent=2 if pretty else None).encode()
    assert decode(text, Limits(max_depth=3)) == {"messages": [{"content": prose}]}


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused_with_a_failure(value: bytes) -> None:
    assert outcome(value) in (None, BAD, LARGE)


@given(st.dictionaries(st.text(max_size=4), json_values, max_size=4))
def test_what_is_encoded_can_be_decoded(value: dict[str, Any]) -> None:
    assert decode(encode(value)) == value


def test_a_body_of_exactly_the_limit_is_read() -> None:
    value = b'{"a":"' + b"x" * 92 + b'"}'
    assert len(value) == 100
    assert decode(value, Limits(max_body_bytes=100)) == {"a": "x" * 92}
    assert refused(value, Limits(max_body_bytes=99)).context == {"limit": "max_body_bytes", "bytes": 100, "max": 99}


@pytest.mark.parametrize("size", [300, 3_000, 9_000])
def test_what_is_encoded_takes_no_more_memory_than_it_has_bytes(size: int) -> None:
    value = {"content": "a" * size}
    tracemalloc.start()
    try:
        encoded = encode(value)
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(encoded) <= kept_bytes < len(encoded) + 200
