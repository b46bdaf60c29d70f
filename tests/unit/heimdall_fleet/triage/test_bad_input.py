"""What nobody should send: each comes to a decision that says what was left out, or to a refusal that says why."""

import base64
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from heimdall_fleet.addresses import ReplyRules
from heimdall_fleet.dlq import Undertaker
from heimdall_fleet.kafka.records import Record
from heimdall_fleet.triage.emit import Desk
from heimdall_fleet.triage.pipeline import Bench, Written, triage
from heimdall_fleet.triage.read import ReadRules
from heimdall_models.bundle import Bundle, load_bundle
from heimdall_models.cache import Memory
from heimdall_models.conversation import SCAN_CHARS, WALKED_MESSAGES, read_conversation
from heimdall_models.judge import Judge
from heimdall_models.shipped import shipped
from heimdall_schemas import headers as h
from heimdall_schemas.codec import Limits
from heimdall_schemas.failure import FailureCode
from heimdall_schemas.topics import Topics

TOPICS = Topics("heimdall")
NOW_MS = 1_800_000_000_000
WIDE = Limits(max_body_bytes=20_000_000, max_messages=1_000_000)


@pytest.fixture(scope="module")
def judge(make: Callable[[Bundle], Judge]) -> Judge:
    return make(load_bundle(shipped("bundles/default")))


def triaged(judge: Judge, limits: Limits, *values: bytes) -> Written:
    desk = Desk(TOPICS, "triage-test-1", Undertaker(TOPICS.dlq, "w", "g", max_value_bytes=1_000_000), 12, 24)
    rules = ReadRules(limits, ReplyRules.from_patterns(TOPICS, []), 300_000)
    records = [
        Record(TOPICS.requests, 3, at, NOW_MS, None, value, ((h.CE_ID, f"r-{at}".encode()),))
        for at, value in enumerate(values)
    ]
    bench = Bench(rules, judge, Memory(), lambda: 0.0, desk)  # no budget of time runs out here
    return triage(records, bench, lambda _topic: 24, NOW_MS)


def body(content: Any, **fields: Any) -> bytes:
    return orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": content}], **fields})


def features(written: Written, at: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = written.decided[at].record["features"]
    return found


TINY = orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": "x"}] * 100_000})
IMAGE = "data:image/png;base64," + base64.b64encode(bytes(range(256)) * 4_000).decode()


@pytest.mark.parametrize("value", [body("a" * 1_000_000), body("文" * 300_000), TINY], ids=["one", "wide", "tiny"])
def test_what_is_too_much_to_read_is_decided_from_a_part_and_flagged(judge: Judge, value: bytes) -> None:
    written = triaged(judge, WIDE, value)
    assert not written.refused
    assert features(written)["truncated"]
    assert features(written)["token_count"] > 100_000
    scanned = read_conversation(orjson.loads(value))
    assert len(scanned.text) <= 2 * SCAN_CHARS < 10 * WALKED_MESSAGES


def test_ten_megabytes_of_one_character_fit_no_window_and_the_reply_says_so(judge: Judge) -> None:
    (refused,) = triaged(judge, WIDE, body("a" * 10_000_000)).refused
    assert refused.code is FailureCode.CALLER_CONTEXT_TOO_LONG
    assert "do not fit a window" in refused.message


@pytest.mark.parametrize("value", [body("a" * 10_000_000), TINY], ids=["one", "tiny"])
def test_by_default_such_a_request_is_refused_before_its_schema_is_looked_at(judge: Judge, value: bytes) -> None:
    (refused,) = triaged(judge, Limits(), value).refused
    assert refused.code is FailureCode.CALLER_TOO_LARGE


@pytest.mark.parametrize(
    "text",
    [
        "\x01\x02\x1b[31m\x7f\x85",
        "\x00",
        "\u202eright to left\u202c שלום مرحبا",
        "👩‍👩‍👧‍👦" * 500,
        "e" + "\u0301" * 5_000,
        "\ufeff\ufffe\uffff",
        " \n\t" * 5_000,
    ],
    ids=["control", "nul", "bidi", "emoji", "marks", "noncharacters", "blank"],
)
def test_odd_characters_are_text_like_any_other(judge: Judge, text: str) -> None:
    written = triaged(judge, Limits(), body(text), body("hello"))
    assert not written.refused
    assert [features(written, at)["truncated"] for at in (0, 1)] == [len(text) > 2 * SCAN_CHARS, False]
    assert all(one.fallback_reason is None for one in written.decided)


def test_a_text_that_was_cut_inside_a_character_is_decided_and_bytes_that_are_no_text_are_refused(judge: Judge) -> None:
    half, none = b'{"messages":[{"role":"user","content":"hello \\ud83d"}]}', b'{"messages":"\xed\xa0\x80"}'
    written = triaged(judge, Limits(), half, none)
    assert len(written.decided) == 1
    assert [refused.code for refused in written.refused] == [FailureCode.CALLER_BAD_REQUEST]


def test_the_largest_limit_on_the_output_that_json_can_say_is_one_like_any_other(judge: Judge) -> None:
    most = 2**64 - 1
    written = triaged(judge, Limits(), body("hello", max_tokens=most), body("hello", max_tokens=most, model="gpt-5.5"))
    assert [refused.code for refused in written.refused] == [FailureCode.CALLER_CONTEXT_TOO_LONG]
    assert [pinned.model for pinned in written.decided] == ["openai/gpt-5.5"]


def test_the_bytes_of_an_image_are_not_read_as_text(judge: Judge) -> None:
    image = {"type": "image_url", "image_url": {"url": IMAGE}}
    written = triaged(judge, WIDE, body([{"type": "text", "text": "What is this?"}, image]))
    assert written.decided[0].record["asked"]["images"]
    assert features(written)["token_count"] < 2_000


def test_an_image_written_into_the_text_is_flagged(judge: Judge) -> None:
    assert features(triaged(judge, WIDE, body(f"What is this? {IMAGE}")))["truncated"]


def test_a_bad_record_changes_nothing_of_its_neighbours(judge: Judge) -> None:
    alone = triaged(judge, WIDE, body("hello"))
    among = triaged(judge, WIDE, b"\xff", body("a" * 1_000_000), b"{}", body("hello"), b"[]", b"")
    assert among.decided[1].decision["alpha_scores"] == alone.decided[0].decision["alpha_scores"]
    assert len(among.refused) == 4
