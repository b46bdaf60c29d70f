"""A group consumer in memory, for what no broker does on demand. Passes tests/contract/kafka/test_group_consumer.py."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from heimdall_fleet.kafka.driver.consuming import Listener
from heimdall_fleet.kafka.errors import BrokerUnavailable, NotAMember, Unreadable
from heimdall_fleet.kafka.offsets import Checkpoint
from heimdall_fleet.kafka.records import DamagedBatch, Partition, Record


class FakeLog:
    """The logs and the group's commits, which outlive consumers."""

    def __init__(self) -> None:
        self.records: dict[Partition, list[Record]] = {}
        self.commits: dict[Partition, Checkpoint] = {}
        self.history: list[dict[Partition, Checkpoint]] = []
        self.markers = 0
        """Offsets without a record at the end of each log, as transactions leave them."""

    def append(self, partition: Partition, *values: bytes) -> None:
        log = self.records.setdefault(partition, [])
        start = log[-1].offset + 1 if log else 0
        log += [Record(*partition, start + i, 0, None, value, ()) for i, value in enumerate(values)]


class FakeConsumer:
    """`rebalance` plays the group; `broken` partitions cannot be decoded; `failures` are raised by the next calls;
    `before_answer` happens once between a poll and its answer."""

    def __init__(self, log: FakeLog, listener: Listener, partitions: Collection[Partition]) -> None:
        self.log = log
        self.dead = False
        self.reachable = True
        self.is_member = True
        self.has_twin = False
        self.metadata_age_s = 0.0
        self.broken: set[Partition] = set()
        self.failures: dict[str, list[Exception]] = {"start": [], "committed": [], "commit": []}
        self.asked: list[set[Partition]] = []
        """Of which partitions the committed position was asked, each time."""
        self.expelled = False
        self.before_answer: Callable[[], Awaitable[None]] | None = None
        self._listener = listener
        self._first = frozenset(partitions)
        self._positions: dict[Partition, int] = {}

    async def rebalance(self, partitions: Collection[Partition]) -> None:
        await self._listener.on_revoked()
        self.expelled = False
        await self._assign(frozenset(partitions))

    async def _assign(self, partitions: frozenset[Partition]) -> None:
        self._positions = {p: self.log.commits[p].position if p in self.log.commits else 0 for p in partitions}
        await self._listener.on_assigned(partitions)

    async def start(self) -> None:
        self._fail("start")
        await self._listener.on_revoked()
        await self._assign(self._first)

    async def stop(self, timeout_s: float) -> None:
        self.dead = True

    async def refresh(self, timeout_s: float) -> None:
        if not self.reachable:
            raise BrokerUnavailable("the fake broker is gone")

    async def keep_alive(self) -> None:
        await asyncio.sleep(0)

    async def wait(self, timeout_s: float) -> None:
        if not self.buffered():
            await asyncio.sleep(min(timeout_s, 0.01))

    def buffered(self) -> list[Partition]:
        return [p for p in self._positions if self._after(p)]

    async def poll(self, partition: Partition, max_records: int) -> Sequence[Record]:
        if partition in self.broken:
            raise Unreadable(f"{partition}: unknown codec")
        polled = self._after(partition)[:max_records]
        if polled:
            self._positions[partition] = polled[-1].offset + 1
        if self.before_answer is not None:
            interrupt, self.before_answer = self.before_answer, None
            await interrupt()
        return polled

    async def damaged(self, partition: Partition) -> DamagedBatch | None:
        return DamagedBatch(*self._after(partition)[0]) if partition in self.broken else None

    def seek(self, partition: Partition, offset: int) -> None:
        if partition in self._positions:
            self._positions[partition] = offset

    def position(self, partition: Partition) -> int | None:
        position = self._positions.get(partition)
        return position if position is None or self._after(partition) else max(position, self.highwater(partition) or 0)

    def highwater(self, partition: Partition) -> int | None:
        log = self.log.records.get(partition)
        return log[-1].offset + 1 + self.log.markers if log else None

    async def committed(self, partitions: Collection[Partition], timeout_s: float) -> Mapping[Partition, Checkpoint]:
        self._fail("committed")
        self.asked.append(set(partitions))
        return {p: self.log.commits[p] for p in partitions if p in self.log.commits}

    async def commit(self, checkpoints: Mapping[Partition, Checkpoint], timeout_s: float) -> None:
        self._fail("commit")
        if self.expelled:
            raise NotAMember("the fake group has expelled this member")
        self.log.commits.update(checkpoints)
        self.log.history.append(dict(checkpoints))

    def _after(self, partition: Partition) -> list[Record]:
        position = self._positions.get(partition)
        return [] if position is None else [r for r in self.log.records.get(partition, []) if r.offset >= position]

    def _fail(self, call: str) -> None:
        if self.failures[call]:
            raise self.failures[call].pop(0)
