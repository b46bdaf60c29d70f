"""Dead letters: chosen, sent again whole, marked as settled."""

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from heimdall_fleet.dispatch.letters import (
    REDRIVEN,
    OpenLetters,
    Wanted,
    mark,
    read_letter,
    redriven,
    times_redriven,
    told,
)
from heimdall_fleet.dlq import Undertaker
from heimdall_fleet.kafka.records import DamagedBatch, Outgoing, Record
from heimdall_schemas import headers as h
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.order import read_order
from heimdall_schemas.topics import Topics

if TYPE_CHECKING:
    from tests.unit.heimdall_fleet.dispatch.conftest import Bench

TOPICS = Topics()
NOTHING = Wanted()
DIED_MS = 1_700_000_000_000


def buried(
    record: Record, code: FailureCode = FailureCode.HEIMDALL_INTERNAL, *, request_id: str = "r1", most: int = 1_000
) -> Outgoing:
    undertaker = Undertaker(TOPICS.dlq, "w1", "g", most)
    return undertaker.letter(record, Failure(code, "a bug"), request_id, now_ms=DIED_MS)


def look(records: list[Record], wanted: Wanted = NOTHING, at_most: int = 100) -> OpenLetters:
    letters = OpenLetters(wanted, at_most)
    for record in records:
        letters.see(record)
    return letters


def written(outgoing: Outgoing, offset: int = 0, partition: int = 2) -> Record:
    value, headers = outgoing.value, tuple(outgoing.headers)
    return Record(TOPICS.dlq, partition, offset, DIED_MS, outgoing.key, value, headers)


def request(*headers: tuple[str, bytes], value: bytes = b'{"messages":[]}') -> Record:
    return Record(TOPICS.requests, 5, 9, DIED_MS - 60_000, b"session", value, headers)


def test_an_order_goes_back_to_its_partition_with_its_id_and_the_time_it_had(bench: "Bench") -> None:
    record = bench.order("openai/gpt-5", request_id="r9", ttl_ms=30_000, attempts_before=2, max_cost_usd_micros=7)
    rested = record._replace(headers=(*record.headers, ("heimdall-attempts", b"[{}]")))
    again = redriven(read_letter(written(buried(rested, request_id="r9"))), TOPICS, 5_000_000)
    assert (again.topic, again.partition, again.value) == (record.topic, 17, record.value)
    order = read_order(again.value, h.last(again.headers))
    assert (order.request_id, order.plan.attempts_before, order.plan.max_cost_usd_micros) == ("r9", 0, 7)
    assert (order.plan.received_ms, order.plan.deadline_ms) == (5_000_000, 5_030_000)
    names = [name for name, _ in again.headers]
    assert "heimdall-attempts" not in names
    assert not [name for name in names if name.startswith("heimdall-dlq-")]
    assert times_redriven(h.last(again.headers)) == 1


def test_a_letter_sent_again_twice_counts_on(bench: "Bench") -> None:
    once = redriven(read_letter(written(buried(bench.order()))), TOPICS, 1)
    back = Record(once.topic, 17, 3, 0, None, once.value, tuple(once.headers))
    assert times_redriven(h.last(redriven(read_letter(written(buried(back))), TOPICS, 1).headers)) == 2


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((), {"ce_id": b"r1"}),
        ((("ce_id", b"own"),), {"ce_id": b"own"}),
        ((("heimdall-ttl-ms", b"5000"),), {"ce_id": b"r1", "heimdall-ttl-ms": b"5000"}),
        ((("ce_expirytime", b"not a time"),), {"ce_id": b"r1", "ce_expirytime": b"not a time"}),
    ],
)
def test_a_request_keeps_its_headers_and_gets_its_id(headers: Any, expected: dict[str, bytes]) -> None:
    again = redriven(read_letter(written(buried(request(*headers)))), TOPICS, 1)
    assert (again.topic, again.partition) == (TOPICS.requests, 5)
    assert dict(again.headers) == {**expected, REDRIVEN: b"1"}


def test_a_request_gets_the_time_it_had() -> None:
    sent_ms = DIED_MS - 60_000
    expiring = request(("ce_expirytime", b"2023-11-14T22:12:30Z"))
    again = redriven(read_letter(written(buried(expiring))), TOPICS, sent_ms + 3_600_000)
    left_ms = (h.expiry_ms(h.last(tuple(again.headers)), 0) or 0) - (sent_ms + 3_600_000)
    assert left_ms == (h.expiry_ms(h.last(expiring.headers), 0) or 0) - sent_ms


def test_a_record_that_failed_while_it_rested_goes_to_where_it_would_have_gone(bench: "Bench") -> None:
    order = bench.order()
    resting = order._replace(
        topic="heimdall.retry.60s.v1",
        partition=5,
        headers=(
            *order.headers,
            ("heimdall-retry-source-topic", b"heimdall.dispatch.hard.v1"),
            ("heimdall-retry-source-partition", b"17"),
            ("heimdall-retry-due-ms", b"1"),
        ),
    )
    again = redriven(read_letter(written(buried(resting))), TOPICS, 1)
    assert (again.topic, again.partition) == ("heimdall.dispatch.hard.v1", 17)
    assert "heimdall-retry-due-ms" not in dict(again.headers)


def test_what_cannot_be_sent_again_says_why(bench: "Bench") -> None:
    cut = read_letter(written(buried(request(value=b"x" * 50), most=10)))
    with pytest.raises(Failure, match="first bytes of 50"):
        redriven(cut, TOPICS, 1)
    order = bench.order()
    torn = order._replace(headers=tuple(each for each in order.headers if each[0] != h.PLAN))
    with pytest.raises(Failure, match=h.PLAN):
        redriven(read_letter(written(buried(torn))), TOPICS, 1)
    unreadable = order._replace(headers=(*(e for e in order.headers if e[0] != h.PLAN), (h.PLAN, b"{")))
    with pytest.raises(Failure, match="plan cannot be read"):
        redriven(read_letter(written(buried(unreadable))), TOPICS, 1)
    batch = DamagedBatch(*request(value=b"raw")._replace(headers=((h.DLQ_DAMAGE, b"its checksum is wrong"),)))
    with pytest.raises(Failure, match="its checksum is wrong"):
        redriven(read_letter(written(buried(batch))), TOPICS, 1)
    with pytest.raises(Failure, match="discarded"):
        redriven(read_letter(written(buried(request()._replace(topic="other")))), TOPICS, 1)


def test_settled_letters_are_no_longer_open() -> None:
    letters = [written(buried(request(), request_id=name), offset) for offset, name in enumerate("abc")]
    facts = {"by": "me"}
    marks = [written(mark(read_letter(letters[n]), "discarded", facts, TOPICS, 1), 10 + n) for n in (0, 2)]
    elsewhere = written(mark(read_letter(letters[1]), "redriven", facts, TOPICS, 1), 20, partition=4)
    found = look([*letters, *marks, elsewhere]).oldest_first()
    assert [letter.request_id for letter in found] == ["b"]
    assert marks[0].partition == letters[0].partition
    assert orjson.loads(marks[0].value or b"")["by"] == "me"


def test_so_many_letters_are_held_and_the_others_counted_until_they_are_settled() -> None:
    letters = [written(buried(request(), request_id=name), offset) for offset, name in enumerate("abcd")]
    held = look(letters, at_most=2)
    assert [letter.request_id for letter in held.oldest_first()] == ["a", "b"]
    assert held.more == 2
    held.see(written(mark(read_letter(letters[3]), "discarded", {}, TOPICS, 1), 10))
    assert held.more == 1


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(), "ab"),
        (Wanted(ids=frozenset({"b"})), "b"),
        (Wanted(reasons=("caller_bad_request",)), "a"),
        (Wanted(reasons=("caller_*", "heimdall_*")), "ab"),
        (Wanted(reasons=("provider_*",)), ""),
        (Wanted(since_ms=DIED_MS), "ab"),
        (Wanted(since_ms=DIED_MS + 1), ""),
        (Wanted(until_ms=DIED_MS), ""),
        (Wanted(tenant="acme"), "b"),
        (Wanted(tenant="acme", reasons=("caller_*",)), ""),
    ],
)
def test_letters_are_chosen_by_every_condition_at_once(wanted: Wanted, expected: str, bench: "Bench") -> None:
    letters = [
        written(buried(request(value=b"\xff"), FailureCode.CALLER_BAD_REQUEST, request_id="a"), 0),
        written(buried(bench.order(tenant="acme"), request_id="b"), 1),
    ]
    assert "".join(letter.request_id for letter in look(letters, wanted).oldest_first()) == expected


def test_the_tenant_of_a_request_is_read_from_its_body() -> None:
    letter = read_letter(written(buried(request(value=b'{"heimdall":{"tenant":"acme"}}'))))
    assert letter.tenant == "acme"
    assert told(letter)["tenant"] == "acme"


@pytest.mark.parametrize("headers", [(), ((h.DLQ_PARTITION, b"x"), (h.DLQ_REASON, b"\xff")), ((REDRIVEN, b"x"),)])
def test_a_letter_of_any_kind_can_be_shown(headers: Any) -> None:
    record = Record(TOPICS.dlq, 0, 0, 1, None, None, headers)
    assert orjson.dumps(told(read_letter(record)))
