from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from heimdall_fleet.addresses import ReplyRules
from heimdall_fleet.kafka.records import DamagedBatch, Record
from heimdall_fleet.triage.read import Incoming, ReadRules, Unreadable, expired, read
from heimdall_schemas import headers as h
from heimdall_schemas.codec import Limits
from heimdall_schemas.failure import FailureCode
from heimdall_schemas.text import rfc3339
from heimdall_schemas.topics import Topics

TOPICS = Topics("heimdall")
SENT_MS = 1_800_000_000_000
RULES = ReadRules(Limits(max_body_bytes=100_000), ReplyRules.from_patterns(TOPICS, []), default_ttl_ms=60_000)
BODY = {"messages": [{"role": "user", "content": "hi"}]}


def record(value: bytes | None = None, headers: dict[str, bytes] | None = None, offset: int = 7) -> Record:
    body = orjson.dumps(BODY) if value is None else value
    return Record(TOPICS.requests, 3, offset, SENT_MS, None, body, tuple((headers or {}).items()))


def partitions(topic: str) -> int | None:
    return 24 if topic == TOPICS.replies else None


def accepted(value: dict[str, Any] = BODY, headers: dict[str, bytes] | None = None) -> Incoming:
    incoming = read(record(orjson.dumps(value), headers), RULES, partitions)
    assert isinstance(incoming, Incoming), incoming
    return incoming


def refused(value: bytes, headers: dict[str, bytes] | None = None) -> Unreadable:
    incoming = read(record(value, headers), RULES, partitions)
    assert isinstance(incoming, Unreadable)
    return incoming


def test_the_ce_id_header_is_the_request_id_and_the_default_correlation_id() -> None:
    incoming = accepted(headers={"ce_id": b"r-1"})
    assert incoming.request_id == "r-1"
    assert incoming.address.correlation_id == b"r-1"


def test_the_header_wins_over_the_body() -> None:
    body = {**BODY, "heimdall": {"request_id": "body"}}
    assert accepted(body, {"ce_id": b"header"}).request_id == "header"
    assert accepted(body).request_id == "body"
    assert accepted(body).address.correlation_id == b"body"


def test_a_request_without_an_id_gets_the_same_one_each_time_it_is_read() -> None:
    assert accepted().request_id == accepted().request_id
    other = read(record(offset=8), RULES, partitions)
    assert other.request_id != accepted().request_id


@pytest.mark.parametrize(
    ("options", "headers", "expected_ms"),
    [
        ({}, {}, SENT_MS + 60_000),
        ({"ttl_ms": 500}, {}, SENT_MS + 500),
        ({}, {"heimdall-ttl-ms": b"250"}, SENT_MS + 250),
        ({"ttl_ms": 500}, {"heimdall-ttl-ms": b"250"}, SENT_MS + 500),
        ({"deadline": "2027-01-15T08:00:10Z"}, {}, int(datetime(2027, 1, 15, 8, 0, 10, tzinfo=UTC).timestamp() * 1000)),
        ({}, {"ce_expirytime": b"2027-01-15T08:00:10+00:00"}, 1_800_000_010_000),
    ],
)
def test_the_deadline_is_the_bodys_word_then_the_headers_then_the_default(
    options: dict[str, Any], headers: dict[str, bytes], expected_ms: int
) -> None:
    assert accepted({**BODY, "heimdall": options}, headers).deadline_ms == expected_ms


def test_a_request_past_its_deadline_is_told_by_how_much() -> None:
    incoming = accepted({**BODY, "heimdall": {"ttl_ms": 1000}})
    assert expired(incoming, SENT_MS + 999) is None
    failure = expired(incoming, SENT_MS + 1500)
    assert failure is not None
    assert "500 ms" in failure.message
    assert rfc3339(SENT_MS) in failure.message


BAD = {
    "empty": (b"", FailureCode.CALLER_BAD_REQUEST),
    "not utf-8": (b'{"messages":[{"role":"user","content":"\xff\xfe"}]}', FailureCode.CALLER_BAD_REQUEST),
    "not json": (b"hello", FailureCode.CALLER_BAD_REQUEST),
    "a list": (b"[]", FailureCode.CALLER_BAD_REQUEST),
    "deep": (b'{"messages":' + b"[" * 10_000 + b"]" * 10_000 + b"}", FailureCode.CALLER_TOO_LARGE),
    "no messages": (b'{"messages":[]}', FailureCode.CALLER_BAD_REQUEST),
    "unknown role": (b'{"messages":[{"role":"wizard","content":"x"}]}', FailureCode.CALLER_BAD_REQUEST),
    "large": (b'{"messages":[{"role":"user","content":"' + b"x" * 200_000 + b'"}]}', FailureCode.CALLER_TOO_LARGE),
    "unknown option": (
        b'{"messages":[{"role":"user","content":"x"}],"heimdall":{"tennant":"a"}}',
        FailureCode.CALLER_BAD_REQUEST,
    ),
}


@pytest.mark.parametrize(("value", "code"), BAD.values(), ids=BAD.keys())
def test_a_bad_body_keeps_its_reply_address(value: bytes, code: FailureCode) -> None:
    unreadable = refused(value, {"ce_id": b"r-1", "correlation-id": b"c-1"})
    assert unreadable.failure.code is code
    assert unreadable.request_id == "r-1"
    assert unreadable.address is not None
    assert unreadable.address.correlation_id == b"c-1"


def test_a_batch_that_cannot_be_decoded_has_no_address_since_it_is_many_requests() -> None:
    batch = DamagedBatch("requests", 0, 7, 0, None, b"raw", ((h.DLQ_DAMAGE, b"at 5 to 7: its checksum is wrong"),))
    unreadable = read(batch, RULES, partitions)
    assert isinstance(unreadable, Unreadable)
    assert unreadable.failure.code is FailureCode.HEIMDALL_UNREADABLE
    assert unreadable.failure.message == "at 5 to 7: its checksum is wrong"
    assert unreadable.address is None


def test_a_fault_is_named_by_its_place_and_never_echoes_the_prompt() -> None:
    message = refused(b'{"messages":[{"role":"user","content":{"secret":"canary"}}]}').failure.message
    assert "messages[0].content" in message
    assert "canary" not in message


def test_a_reply_topic_that_is_not_allowed_leaves_no_address() -> None:
    unreadable = refused(orjson.dumps(BODY), {"reply-to": b"__consumer_offsets"})
    assert unreadable.failure.code is FailureCode.CALLER_REPLY_TOPIC
    assert unreadable.address is None
    assert unreadable.correlation_id == unreadable.request_id.encode()


def test_who_cannot_be_answered_is_still_found_by_the_correlation_id() -> None:
    headers = {"reply-to": b"__consumer_offsets", "correlation-id": b"mine"}
    assert refused(orjson.dumps(BODY), headers).correlation_id == b"mine"


def test_too_many_headers_are_refused_but_answered() -> None:
    unreadable = refused(orjson.dumps(BODY), {f"x-{n}": b"1" for n in range(100)})
    assert unreadable.failure.code is FailureCode.CALLER_TOO_LARGE
    assert unreadable.address is not None
