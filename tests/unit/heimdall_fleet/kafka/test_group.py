"""Rebalances and failures that no broker plays on demand."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tests.brokers.fakes import FakeConsumer, FakeLog
from tests.brokers.tools import until

from heimdall_fleet.kafka.driver.consuming import Listener
from heimdall_fleet.kafka.errors import BrokerUnavailable
from heimdall_fleet.kafka.group import Group, Want
from heimdall_fleet.kafka.offsets import Checkpoint, OffsetTracker
from heimdall_fleet.kafka.records import DamagedBatch, Partition, Record

A: Partition = ("t", 0)
B: Partition = ("t", 1)
PLENTY = Want(100, 1_000_000, spread=True)


class Scene:
    """A group whose consumers are fakes; `prepare` is called with each before it starts."""

    def __init__(self) -> None:
        self.log = FakeLog()
        self.consumers: list[FakeConsumer] = []
        self.prepare: Callable[[FakeConsumer], None] = lambda _: None
        self.ahead_s = 0.0
        self.group = Group(self._open, commit_interval_s=0.005, clock=lambda: time.monotonic() + self.ahead_s)

    def _open(self, listener: Listener) -> FakeConsumer:
        consumer = FakeConsumer(self.log, listener, [A, B])
        self.prepare(consumer)
        self.consumers.append(consumer)
        return consumer

    @property
    def consumer(self) -> FakeConsumer:
        return self.consumers[-1]

    async def take(self, wanted: int, want: Want = PLENTY) -> dict[Partition, list[int]]:
        """Take until so many records were handed out; their offsets by partition."""
        found: dict[Partition, list[int]] = {}
        async with asyncio.timeout(5):
            while sum(len(offsets) for offsets in found.values()) < wanted:
                for chunk in await self.group.take(want, 0.01):
                    place = (chunk.records[0].topic, chunk.records[0].partition)
                    found.setdefault(place, []).extend(record.offset for record in chunk.records)
                    self.trackers[place] = chunk.tracker
        return found

    trackers: dict[Partition, OffsetTracker]

    async def committed(self, partition: Partition, checkpoint: Checkpoint) -> None:
        await until(lambda: self.log.commits.get(partition) == checkpoint)


@asynccontextmanager
async def scene(per_partition: int = 5) -> AsyncIterator[Scene]:
    made = Scene()
    made.trackers = {}
    for place in (A, B):
        made.log.append(place, *(b"x" * 10 for _ in range(per_partition)))
    made.group.start()
    yield made
    await made.group.close()


async def test_returning_partitions_keep_what_runs() -> None:
    async with scene() as s:
        assert await s.take(10) == {A: [0, 1, 2, 3, 4], B: [0, 1, 2, 3, 4]}
        await s.consumer.rebalance([A, B])
        s.log.append(A, b"new")
        assert await s.take(1) == {A: [5]}


async def test_a_partition_that_comes_back_drops_what_another_member_finished() -> None:
    async with scene() as s:
        await s.take(10)
        s.trackers[A].finish(4)
        await s.consumer.rebalance([B])
        s.log.commits[A] = Checkpoint(2, "h1:1,1")  # another member finished 0, 1 and 3
        s.log.history.clear()
        await s.consumer.rebalance([A, B])
        s.log.append(A, b"new")
        assert (await s.take(1))[A] == [5]
        for offset in (0, 2, 3):
            s.trackers[A].finish(offset)
        await s.committed(A, Checkpoint(5, ""))
        assert all(a.get(A, Checkpoint(9, "")).position >= 2 for a in s.log.history)


async def test_a_position_that_the_broker_forgot_repeats_nothing_and_moves_no_commit_back() -> None:
    async with scene() as s:
        await s.take(10)
        for offset in range(4):
            s.trackers[A].finish(offset)
        await s.committed(A, Checkpoint(4, ""))
        s.log.commits.clear()
        s.log.history.clear()
        await s.consumer.rebalance([A, B])
        s.log.append(A, b"new")
        assert await s.take(1) == {A: [5]}
        s.trackers[A].finish(4)
        await s.committed(A, Checkpoint(5, ""))
        assert all(commit.get(A, Checkpoint(5, "")).position >= 4 for commit in s.log.history)


async def test_a_position_that_was_told_too_low_moves_no_commit_back() -> None:
    """A broker that stood still was seen to tell an older position than it had acknowledged to another member."""
    async with scene() as s:
        s.log.commits[A] = Checkpoint(1, "")
        await s.take(9)
        s.log.commits[A] = Checkpoint(4, "")  # what the other member had really committed
        s.log.history.clear()
        s.trackers[A].finish(1)
        s.trackers[B].finish(0)
        await s.committed(B, Checkpoint(1, ""))
        assert s.group.holds(A, 3) is False
        assert s.group.holds(A, 4) is True
        s.trackers[A].finish(4)
        await s.committed(A, Checkpoint(5, ""))
        assert all(commit.get(A, Checkpoint(5, "")).position >= 4 for commit in s.log.history)


async def test_a_commit_that_leaves_out_what_another_member_committed_counts_for_the_rest() -> None:
    async with scene() as s:
        s.log.commits[A] = Checkpoint(1, "")
        await s.take(9)
        s.log.commits[A] = Checkpoint(4, "")
        s.trackers[A].finish(1)
        s.trackers[B].finish(0)
        await s.committed(B, Checkpoint(1, ""))
        await until(lambda: s.group.facts().commits == 1, 5)
        assert s.group.facts().commits_failed == 0


async def test_positions_are_read_again_only_before_the_first_commit_of_an_assignment() -> None:
    async with scene() as s:
        await s.take(10)
        for offset in range(2):
            s.trackers[A].finish(offset)
            await s.committed(A, Checkpoint(offset + 1, ""))
        assert s.consumer.asked == [{A, B}, {A}]


async def test_a_record_is_held_until_it_is_finished_lost_or_in_doubt() -> None:
    async with scene() as s:
        await s.take(10)
        assert s.group.holds(A, 0) is True
        s.consumer.is_member = False
        assert s.group.holds(A, 0) is None
        await s.consumer.rebalance([B])
        assert s.group.holds(A, 0) is False
        s.consumer.is_member = True
        s.log.commits[A] = Checkpoint(1, "")  # another member finished it
        await s.consumer.rebalance([A, B])
        await until(lambda: s.group.holds(A, 0) is False and s.group.holds(A, 1) is True)


async def test_a_lost_partition_is_never_committed() -> None:
    async with scene() as s:
        await s.take(10)
        lost = s.trackers[A]
        await s.consumer.rebalance([B])
        assert not s.group.owns(A, lost)
        lost.finish(0)
        s.trackers[B].finish(0)
        await s.committed(B, Checkpoint(1, ""))
        assert A not in s.log.commits


async def test_a_rebalance_commits_what_is_finished_before_it_gives_partitions_away() -> None:
    async with scene() as s:
        s.group._commit_interval_s = 60.0
        await s.take(10)
        await asyncio.sleep(0.02)
        s.trackers[A].finish(0)
        await s.consumer.rebalance([B])
        assert s.log.commits[A] == Checkpoint(1, "")


async def test_an_expelled_member_keeps_what_it_could_not_commit_for_later() -> None:
    async with scene() as s:
        await s.take(10)
        s.consumer.expelled = True
        s.trackers[A].finish(0)
        await asyncio.sleep(0.03)
        assert A not in s.log.commits
        await s.consumer.rebalance([A, B])
        await s.committed(A, Checkpoint(1, ""))


async def test_nothing_is_handed_out_before_the_committed_positions_are_known() -> None:
    async with scene() as s:
        s.log.commits[A] = Checkpoint(1, "h1:1,2")
        s.prepare = lambda consumer: consumer.failures["committed"].append(BrokerUnavailable("later"))
        begun = asyncio.get_running_loop().time()
        found = await s.take(7)
        assert found == {A: [1, 4], B: [0, 1, 2, 3, 4]}
        assert asyncio.get_running_loop().time() - begun > 0.4  # one failed read of the positions later
        assert s.group.facts().joined


async def test_a_failed_commit_is_followed_by_one_that_covers_it() -> None:
    async with scene() as s:
        await s.take(10)
        s.consumer.failures["commit"] += [BrokerUnavailable("one"), BrokerUnavailable("two")]
        s.trackers[A].finish(0)
        await s.committed(A, Checkpoint(1, ""))
        assert s.group.facts().commits_failed == 2


async def test_an_unreadable_partition_disturbs_no_other() -> None:
    async with scene() as s:
        s.prepare = lambda consumer: consumer.broken.add(A)
        assert await s.take(5) == {B: [0, 1, 2, 3, 4]}
        assert s.group.facts().unreadable == {A}


async def test_what_cannot_be_decoded_in_three_tries_is_handed_out_as_one_record_and_passed() -> None:
    async with scene() as s:
        s.prepare = lambda consumer: consumer.broken.add(A)
        assert await s.take(5) == {B: [0, 1, 2, 3, 4]}
        for _ in range(2):
            s.ahead_s += 5.1
            chunks = [chunk for _ in range(3) for chunk in await s.group.take(PLENTY, 0.01)]
        assert [type(record) for chunk in chunks for record in chunk.records] == [DamagedBatch]
        s.consumer.broken.clear()
        s.ahead_s += 5.1
        assert await s.take(4) == {A: [1, 2, 3, 4]}
        for offset in range(5):
            s.trackers[A].finish(offset)
        await s.committed(A, Checkpoint(5, ""))


async def test_after_what_could_not_be_decoded_a_partition_is_read_singly_for_a_while_only() -> None:
    async with scene() as s:
        s.prepare = lambda consumer: consumer.broken.add(A)
        await s.take(5)
        s.consumer.broken.clear()
        s.ahead_s += 5.1
        assert [len(chunk.records) for chunk in await s.group.take(PLENTY, 0.01)] == [1]
        s.ahead_s += 30.0
        assert [len(chunk.records) for _ in range(2) for chunk in await s.group.take(PLENTY, 0.01)] == [1, 3]


async def test_a_marker_behind_the_last_record_is_no_lag_and_is_committed_with_it() -> None:
    async with scene() as s:
        s.log.markers = 1
        await s.take(10)
        assert s.group.facts().lag[A] == 6
        for offset in range(5):
            s.trackers[A].finish(offset)
        await s.committed(A, Checkpoint(6, ""))
        assert s.group.facts().lag[A] == 0


async def test_a_log_that_starts_again_is_read_again() -> None:
    async with scene() as s:
        await s.take(10)
        for offset in range(5):
            s.trackers[A].finish(offset)
        await s.committed(A, Checkpoint(5, ""))
        old = s.trackers[A]
        s.log.records[A] = [Record(*A, 0, 1, None, b"another", ()), Record(*A, 1, 2, None, b"topic", ())]
        s.consumer.seek(A, 0)
        assert await s.take(2) == {A: [0, 1]}
        assert not s.group.owns(A, old)
        s.trackers[A].finish(0)
        await s.committed(A, Checkpoint(1, ""))


async def test_a_dead_consumer_is_replaced_and_keeps_nobody_waiting() -> None:
    async with scene() as s:
        await s.take(10)
        s.consumer.dead = True
        s.log.append(A, b"new")
        assert await s.take(1) == {A: [5]}
        assert len(s.consumers) == 2


async def test_a_worker_whose_place_another_takes_again_and_again_stands_aside_for_a_minute() -> None:
    async with scene() as s:
        await s.take(10)
        s.consumer.dead = s.consumer.has_twin = True
        assert await s.group.take(PLENTY, 0.0) == []
        assert not s.group.facts().joined
        assert s.group.holds(A, 0) is False
        s.ahead_s = 59.0
        assert await s.group.take(PLENTY, 0.0) == []
        assert len(s.consumers) == 1
        s.ahead_s = 61.0
        await s.group.take(PLENTY, 0.01)
        assert len(s.consumers) == 2
        assert s.group.facts().joined


async def test_the_partition_that_waited_longest_is_served_first() -> None:
    async with scene(per_partition=50) as s:
        one = Want(1, 1_000_000, spread=False)
        await s.take(1, one)
        served: list[Partition] = []
        for _ in range(6):
            served += await s.take(1, one)
        assert served in ([A, B] * 3, [B, A] * 3)


async def test_a_partition_whose_map_is_too_long_is_held_until_it_shrinks() -> None:
    async with scene(per_partition=4000) as s:
        await s.take(8000, Want(8000, 10_000_000, spread=True))
        for offset in range(1, 4000, 2):
            s.trackers[A].finish(offset)
        await until(lambda: s.group.facts().held == {A})
        s.log.append(A, b"new")
        s.log.append(B, b"new")
        assert await s.take(1) == {B: [4000]}
        assert len(s.log.commits[A].metadata) <= 3500
        for offset in range(0, 4000, 2):
            s.trackers[A].finish(offset)
        assert await s.take(1) == {A: [4000]}


async def test_records_polled_across_a_rebalance_are_not_handed_out_by_who_lost_them() -> None:
    async with scene() as s:
        await s.take(10)
        s.log.append(A, b"new")
        s.consumer.before_answer = lambda: s.consumer.rebalance([B])
        assert await s.group.take(PLENTY, 0.0) == []
        s.log.append(B, b"new")
        assert await s.take(1) == {B: [5]}


async def test_records_polled_across_a_rebalance_are_read_again_by_who_kept_them() -> None:
    async with scene() as s:
        await s.take(10)
        s.log.append(A, b"new")
        s.consumer.before_answer = lambda: s.consumer.rebalance([A, B])
        assert await s.take(1) == {A: [5]}
