from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_schemas import headers as h
from heimdall_schemas.codec import Limits
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.text import readable, rfc3339


def code_of(caught: pytest.ExceptionInfo[Failure]) -> FailureCode:
    return caught.value.code


def test_the_last_of_a_repeated_header_counts_and_one_without_a_value_does_not() -> None:
    assert h.last([("a", b"1"), ("b", None), ("a", b"2"), ("a", None)]) == {"a": b"2"}


@pytest.mark.parametrize("name", ["Authorization", "authorization", "X-Api-Key", "cookie"])
def test_a_credential_never_travels_on(name: str) -> None:
    assert h.without([(name, b"secret"), ("traceparent", b"00"), ("empty", None)], ()) == [("traceparent", b"00")]


def test_named_headers_are_left_out() -> None:
    assert h.without([("reply-to", b"t"), ("x", b"1")], [h.REPLY_TO]) == [("x", b"1")]


@pytest.mark.parametrize(
    ("headers", "limits"),
    [
        ([("a", b"1"), ("b", b"2"), ("c", b"3")], Limits(max_headers=2)),
        ([("name", b"123456")], Limits(max_header_bytes=9)),
    ],
)
def test_too_many_or_too_large_headers_are_refused(headers: h.Headers, limits: Limits) -> None:
    with pytest.raises(Failure) as caught:
        h.check(headers, limits)
    assert code_of(caught) is FailureCode.CALLER_TOO_LARGE


def test_headers_at_the_limit_pass() -> None:
    headers = [("name", b"123456")]
    h.check(headers, Limits(max_headers=1, max_header_bytes=10))
    assert h.text(h.last(headers), "name") == "123456"


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"x" * 2000])
def test_text_that_is_no_text_or_too_long_is_refused(raw: bytes) -> None:
    with pytest.raises(Failure, match="header reply-to") as caught:
        h.text({h.REPLY_TO: raw}, h.REPLY_TO)
    assert code_of(caught) is FailureCode.CALLER_BAD_REQUEST


@given(st.integers(0, 999_999))
def test_a_partition_as_digits_is_read_back(number: int) -> None:
    assert h.partition({h.REPLY_PARTITION: str(number).encode()}) == number


@given(st.integers(0, 2**24 - 1))
def test_a_partition_as_four_bytes_is_read_back(number: int) -> None:
    assert h.partition({h.REPLY_PARTITION: number.to_bytes(4, "big")}) == number


@pytest.mark.parametrize("raw", [b"", b"-1", b"abc", b"1234567", b"\x00\x01", "²".encode()])
def test_any_other_partition_is_refused(raw: bytes) -> None:
    with pytest.raises(Failure) as caught:
        h.partition({h.REPLY_PARTITION: raw})
    assert code_of(caught) is FailureCode.CALLER_REPLY_TOPIC


def test_a_missing_partition_is_none() -> None:
    assert h.partition({}) is None


@given(st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30)))  # noqa: DTZ001  # made aware below
def test_the_expiry_time_is_read_to_the_millisecond(moment: datetime) -> None:
    unix_ms = int(moment.replace(tzinfo=UTC, microsecond=0).timestamp()) * 1000 + moment.microsecond // 1000
    read = h.expiry_ms({h.CE_EXPIRY: rfc3339(unix_ms).encode()}, 0)
    assert read is not None
    assert abs(read - unix_ms) <= 1


def test_the_expiry_time_goes_before_the_span_and_the_span_counts_from_the_record() -> None:
    both = {h.CE_EXPIRY: b"1970-01-01T01:00:01+01:00", h.TTL_MS: b"5"}
    assert h.expiry_ms(both, 7) == 1000
    assert h.expiry_ms({h.TTL_MS: b"5"}, 7) == 12
    assert h.expiry_ms({}, 7) is None


@pytest.mark.parametrize(
    "headers",
    [
        {h.CE_EXPIRY: b"tomorrow"},
        {h.CE_EXPIRY: b"2026-11-21T12:00:00"},
        {h.CE_EXPIRY: b"2026-11-21"},
        {h.CE_EXPIRY: b"\xff"},
        {h.TTL_MS: b"-5"},
        {h.TTL_MS: b"5s"},
        {h.TTL_MS: "²".encode()},
        {h.TTL_MS: b"9" * 17},
    ],
)
def test_an_expiry_that_cannot_be_read_is_the_callers_fault(headers: dict[str, bytes]) -> None:
    with pytest.raises(Failure, match="header") as caught:
        h.expiry_ms(headers, 0)
    assert code_of(caught) is FailureCode.CALLER_BAD_REQUEST


@given(st.binary(max_size=40))
def test_opaque_bytes_become_text_that_tells_them_apart(value: bytes) -> None:
    text = readable(value)
    assert text.isprintable()
    assert text == value.decode(errors="ignore") or text.startswith("base64:")
