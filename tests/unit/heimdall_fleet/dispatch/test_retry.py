from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.dispatch.cost import Tokens
from heimdall_fleet.dispatch.retry import RetryHandler, earlier_attempts, resting, returning, step_for
from heimdall_fleet.dispatch.run import Attempt, begin
from heimdall_fleet.kafka.records import DamagedBatch, Outgoing, Record
from heimdall_schemas import headers as h
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.headers import last
from heimdall_schemas.order import read_order
from heimdall_schemas.topics import Delay, Topics

if TYPE_CHECKING:
    from tests.unit.heimdall_fleet.dispatch.conftest import Bench


class Still:
    """A clock that stands."""

    def __init__(self, unix_ms: int) -> None:
        self._unix_ms = unix_ms

    def unix_ms(self) -> int:
        return self._unix_ms

    def mono_ms(self) -> float:
        return 0.0


TOPICS = Topics()


@given(st.floats(0, 2_000_000), st.floats(0, 2_000_000))
def test_a_rest_is_never_longer_than_asked_for_or_than_the_time_left_if_a_step_fits(delay: float, left: float) -> None:
    span_ms = step_for(delay, left).span.total_seconds() * 1_000
    assert span_ms <= max(10_000, min(delay, left))


def test_the_longest_fitting_step_is_taken() -> None:
    assert [step_for(delay, 10**9) for delay in (0, 59_000, 60_000, 700_000)] == [
        Delay.SHORT,
        Delay.SHORT,
        Delay.MEDIUM,
        Delay.LONG,
    ]


async def test_an_order_comes_back_as_it_was_with_what_it_tried(bench: "Bench") -> None:
    record = bench.order(ttl_ms=60_000)
    order = read_order(record.value, h.last(record.headers))
    run = begin(order, {}, 1_000, 0.0)
    limited = FailureCode.PROVIDER_RATE_LIMITED
    run.attempts.append(Attempt("p", "m", "k", 429, limited, 5.0, 0, Tokens()))
    rest = resting(record, run, Delay.SHORT, Topics(), 1_000)
    due_ms, back = returning(_as_read(rest))
    assert due_ms == 11_000
    assert (back.topic, back.partition, back.value) == (record.topic, record.partition, record.value)
    assert read_order(back.value, h.last(back.headers)) == order
    assert [attempt["key"] for attempt in earlier_attempts(last(back.headers))] == ["k"]


async def test_a_rest_ends_at_the_deadline_at_the_latest(bench: "Bench") -> None:
    record = bench.order(ttl_ms=4_000)
    order = read_order(record.value, h.last(record.headers))
    rest = resting(record, begin(order, {}, 0, 0.0), Delay.LONG, Topics(), order.plan.deadline_ms - 4_000)
    assert returning(_as_read(rest))[0] == order.plan.deadline_ms


async def test_a_due_order_is_sent_back_at_once(bench: "Bench") -> None:
    record = bench.order()
    run = begin(read_order(record.value, h.last(record.headers)), {}, 0, 0.0)
    rest = resting(record, run, Delay.SHORT, Topics(), 0)
    await RetryHandler(bench.producer, Still(20_000), bench.worker.refuse).handle(_as_read(rest))
    assert [sent.topic for sent in bench.producer.sent] == [record.topic]


async def test_a_record_that_does_not_rest_and_a_batch_that_cannot_be_decoded_are_dead_lettered(bench: "Bench") -> None:
    handler = RetryHandler(bench.producer, Still(0), bench.worker.refuse)
    await handler.handle(Record("retry", 3, 7, 0, None, b"?", ()))
    await handler.handle(DamagedBatch("retry", 3, 9, 0, None, b"raw", ((h.DLQ_DAMAGE, b"its checksum is wrong"),)))
    letters = [h.last(tuple(sent.headers)) for sent in bench.producer.to(TOPICS.dlq)]
    assert [letter[h.DLQ_REASON] for letter in letters] == [b"heimdall_internal", b"heimdall_unreadable"]
    assert letters[1][h.DLQ_ERROR] == b"its checksum is wrong"


async def test_a_record_that_does_not_rest_says_so(bench: "Bench") -> None:
    with pytest.raises(Failure, match="does not rest"):
        returning(bench.order())
    with pytest.raises(Failure, match="heimdall-attempts"):
        earlier_attempts({"heimdall-attempts": b"{"})


def _as_read(sent: Outgoing) -> Record:
    return Record(sent.topic, sent.partition or 0, 0, 0, sent.key, sent.value, tuple(sent.headers))
