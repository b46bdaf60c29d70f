"""The queue of one partition."""

import asyncio
from collections.abc import Sequence

import pytest

from heimdall_fleet.kafka.errors import DeliveryRefused, DeliveryUnknown
from heimdall_fleet.kafka.lanes import MAX_ATTEMPTS, Entry, Lane, Tally
from heimdall_fleet.kafka.records import Outgoing


class Builder:
    """A batch with room for some records; the first always fits, as in aiokafka."""

    def __init__(self, room: int = 1000) -> None:
        self.values: list[bytes | None] = []
        self._room = room

    def extend(self, records: Sequence[Outgoing], start: int, stop: int) -> int:
        fitting = max(self._room - len(self.values), 0 if self.values else 1)
        taken = records[start : min(stop, start + fitting)]
        self.values += [record.value for record in taken]
        return start + len(taken)


@pytest.fixture
async def lane() -> Lane:
    return Lane("t", 0, Tally())


def add(lane: Lane, *values: bytes, sent_at: float = 0.0) -> Entry:
    records = [Outgoing("t", value) for value in values]
    entry = Entry(records, 0, sum(map(len, values)), sent_at, asyncio.get_running_loop().create_future())
    lane.add(entry)
    lane.tally.size_bytes += entry.size_bytes
    return entry


async def test_confirmed_records_leave_the_lane_with_their_offsets(lane: Lane) -> None:
    one, three = add(lane, b"a"), add(lane, b"b", b"c", b"d")
    batch = Builder()
    flight = lane.load(batch)
    assert flight is not None
    assert batch.values == [b"a", b"b", b"c", b"d"]
    assert not lane.idle
    lane.confirm(flight, 10)
    assert (one.done.result(), three.done.result()) == (10, 13)
    assert lane.tally == Tally(0)
    assert lane.queued_bytes == 0


async def test_a_call_larger_than_a_batch_is_sent_in_several(lane: Lane) -> None:
    entry = add(lane, b"a", b"b", b"c", b"d", b"e")
    sent: list[bytes | None] = []
    for offset in (0, 2, 4):
        batch = Builder(room=2)
        flight = lane.load(batch)
        assert flight is not None
        sent += batch.values
        lane.confirm(flight, offset)
    assert sent == [b"a", b"b", b"c", b"d", b"e"]
    assert entry.done.result() == 4
    assert lane.load(Builder()) is None


async def test_what_a_lost_producer_had_is_sent_again_in_order(lane: Lane) -> None:
    add(lane, b"a")
    flight = lane.load(Builder())
    assert flight is not None
    add(lane, b"b")
    lane.lose(flight, RuntimeError("poisoned"))
    again = Builder()
    lane.load(again)
    assert again.values == [b"a", b"b"]


async def test_a_record_is_not_sent_again_for_ever(lane: Lane) -> None:
    entry = add(lane, b"a")
    for _ in range(MAX_ATTEMPTS):
        flight = lane.load(Builder())
        assert flight is not None
        lane.lose(flight, RuntimeError("poisoned"))
    with pytest.raises(DeliveryUnknown, match="gave up after"):
        entry.done.result()
    assert lane.tally == Tally(0)


async def test_only_the_refused_record_of_a_batch_fails(lane: Lane) -> None:
    before, call, after = add(lane, b"a"), add(lane, b"b", b"bad", b"c"), add(lane, b"d")
    sent: list[bytes | None] = []
    offset = 0
    while lane.queue:
        batch = Builder()
        flight = lane.load(batch)
        assert flight is not None
        if b"bad" in batch.values:
            lane.refuse(flight)
        else:
            lane.confirm(flight, offset)
            offset += len(batch.values)
            sent += batch.values
    assert sent == [b"a", b"b", b"c", b"d"]
    assert before.done.result() == 0
    assert after.done.result() == 3
    with pytest.raises(DeliveryRefused, match="1 of 3") as caught:
        call.done.result()
    assert [record.value for record in caught.value.refused] == [b"bad"]
    assert lane.alone == 0


async def test_what_waited_too_long_is_given_up_and_the_rest_is_kept(lane: Lane) -> None:
    old, young = add(lane, b"old", sent_at=1.0), add(lane, b"young", sent_at=5.0)
    assert lane.expire(sent_before=3.0) == 1
    with pytest.raises(DeliveryUnknown):
        old.done.result()
    batch = Builder()
    lane.load(batch)
    assert batch.values == [b"young"]
    assert not young.done.done()
    assert lane.tally == Tally(5)


async def test_a_call_that_was_cancelled_is_not_sent(lane: Lane) -> None:
    add(lane, b"a")
    add(lane, b"b").done.cancel()
    add(lane, b"c")
    batch = Builder()
    flight = lane.load(batch)
    assert flight is not None
    assert batch.values == [b"a", b"c"]
    lane.confirm(flight, 0)
    assert lane.tally == Tally(0)
