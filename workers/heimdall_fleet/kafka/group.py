"""One member of a consumer group: how it joins, what it reads, and when it commits.

A rebalance, step by step; between any two steps the process may die, and what then happens is said there.

1. The group revokes everything (all assignors here are eager). Intake stops by itself, the running commit is ended and
   one more is made with positions and maps. Running handlers are not told.
   *Dies before the commit*: the new owners repeat what finished since the last one.
2. The group assigns. Trackers of returning partitions are still there, with what runs and what is finished.
3. Committed positions and maps are read. Each tracker adopts them: a returning partition drops what another member
   finished meanwhile, a gained one learns what its former owner finished. Only then is a partition read or committed.
   *Dies here*: nothing was handed out, nothing is lost.
4. Records are handed out unless they are running or finished. Lost partitions are never committed again; their
   running handlers finish and publish, and the new owner's copy is deduplicated by its id.
   *Dies here*: the position is at or below the lowest unfinished record, so every unfinished one is read again.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from heimdall_fleet.kafka.assignment import Assignment
from heimdall_fleet.kafka.driver.consuming import Listener, RawConsuming
from heimdall_fleet.kafka.errors import KafkaFailure, NotAMember, Unreadable
from heimdall_fleet.kafka.facts import GroupFacts
from heimdall_fleet.kafka.offsets import OffsetTracker
from heimdall_fleet.kafka.records import Partition, Record
from heimdall_fleet.kafka.settings import COMMIT_TIMEOUT_S, STOP_TIMEOUT_S
from heimdall_fleet.kafka.trouble import Trouble

log = logging.getLogger(__name__)

_KEEP_ALIVE_S = 2.0
_REFRESH_S = 2.0
_REFRESH_TIMEOUT_S = 3.0
_RETRY_S = 0.5
_WAIT_FOR_MAP_S = 0.05
_ASIDE_S = 60.0
_TWIN = "another worker has the same kafka.group_instance_id; this one stands aside for a minute. Give each its own"
_FIRST_GUESS_BYTES = 1024.0


class Chunk(NamedTuple):
    """Records of one partition, and the tracker that must hear of their end."""

    tracker: OffsetTracker
    records: Sequence[Record]


class Want(NamedTuple):
    """How much to take at most, bytes by estimate. `spread`: a little of each partition instead of much of one."""

    records: int
    size_bytes: int
    spread: bool


class Group(Listener):
    """See the module. `open_consumer` makes a consumer that is not started yet."""

    def __init__(
        self,
        open_consumer: Callable[[Listener], RawConsuming],
        commit_interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_consumer = open_consumer
        self._commit_interval_s = commit_interval_s
        self._clock = clock
        self._consumer: RawConsuming | None = None
        self._joined = False
        self._stable = False
        self._epoch = 0
        self._assignment = Assignment()
        self._served: dict[Partition, int] = {}
        self._serving = 0
        self._mean_bytes = _FIRST_GUESS_BYTES
        self._troubles: dict[Partition, Trouble] = {}
        self._answering = False
        self._commit_task: asyncio.Task[None] | None = None
        self._commit_wanted = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._polled_at = clock()
        self._aside_until = 0.0
        self._rebalances = 0

    def start(self) -> None:
        """Begin to tend the membership; the joining itself happens in `take`."""
        self._spawn(self._commit_regularly())
        self._spawn(self._keep_polling())
        self._spawn(self._keep_asking())

    async def close(self) -> None:
        """Commit what is finished and leave. Never raises, never waits longer than its limits."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._end_commit()
        consumer = self._consumer
        if consumer is not None:
            if self._stable:
                await self._commit_once()
            self._stable = False
            await consumer.stop(STOP_TIMEOUT_S)
        self._consumer = None

    def owns(self, partition: Partition, tracker: OffsetTracker) -> bool:
        """Whether the partition is still ours, and still the log that `tracker` knows."""
        return self._assignment.owns(partition, tracker)

    def holds(self, partition: Partition, offset: int) -> bool | None:
        """Whether a record that was handed out is still ours to finish.

        None: nobody can say, since the group may have given the partition away unheard; it shows within a session.
        """
        consumer = self._consumer
        if self._clock() < self._aside_until:
            return False
        if consumer is None or not self._stable:
            return None
        assignment = self._assignment
        if partition not in assignment.partitions or not assignment.trackers[partition].is_running(offset):
            return False
        return True if partition in assignment.loaded and consumer.is_member else None

    def has_records(self) -> bool:
        """Whether `take` will probably find some without waiting."""
        return self._stable and self._consumer is not None and bool(self._consumer.buffered())

    def commit_soon(self) -> None:
        self._commit_wanted.set()

    async def take(self, want: Want, wait_s: float) -> list[Chunk]:
        """Records nobody works on, fair over the partitions; empty after `wait_s` without any.

        Also connects, joins and reconnects. Never raises what the broker or the records did wrong.
        """
        try:
            if self._clock() < self._aside_until:
                await asyncio.sleep(wait_s)
                return []
            if self._consumer is None or self._consumer.dead:
                await self._join()
            consumer = self._consumer
            assert consumer is not None
            self._polled_at = self._clock()
            ready = self._ready(consumer)
            if not ready:
                await consumer.keep_alive()
                await consumer.wait(wait_s)
                ready = self._ready(consumer)
                if not ready and consumer.buffered():
                    await asyncio.sleep(min(wait_s, _WAIT_FOR_MAP_S))
            return await self._take(consumer, ready, want)
        except KafkaFailure as error:
            log.warning("cannot read: %s", error, extra={"action": "kafka_read_failed"})
            await asyncio.sleep(_RETRY_S)
            return []

    def facts(self) -> GroupFacts:
        consumer, assignment = self._consumer, self._assignment
        lag = {}
        if consumer is not None and self._stable:
            for partition in assignment.loaded:
                end, position = consumer.highwater(partition), assignment.trackers[partition].position
                if end is not None and position is not None:
                    lag[partition] = max(0, end - position)
        now = self._clock()
        return GroupFacts(
            joined=self._joined and self._stable and len(assignment.loaded) == len(assignment.partitions),
            broker_reachable=consumer is not None and self._answering and consumer.reachable,
            metadata_age_s=float("inf") if consumer is None else consumer.metadata_age_s,
            last_poll_age_s=now - self._polled_at,
            assigned=assignment.partitions,
            lag=lag,
            held=frozenset(p for p in assignment.loaded if assignment.trackers[p].overflowing),
            unreadable=frozenset(p for p, trouble in self._troubles.items() if trouble.retry_at > now),
            rebalances=self._rebalances,
            commits=assignment.commits,
            commits_failed=assignment.commits_failed,
        )

    async def on_revoked(self) -> None:
        """Step 1."""
        self._stable = False
        self._epoch += 1
        await self._end_commit()
        await self._commit_once()
        self._assignment.loaded.clear()

    async def on_assigned(self, partitions: frozenset[Partition]) -> None:
        """Steps 2 and 3."""
        self._epoch += 1
        self._rebalances += 1
        self._assignment.replace(partitions)
        self._stable = True
        log.info("%d partitions assigned", len(partitions), extra={"action": "kafka_assigned"})
        self._spawn(self._load(self._epoch))

    async def _load(self, epoch: int) -> None:
        while epoch == self._epoch and self._consumer is not None:
            try:
                committed = await self._consumer.committed(self._assignment.partitions, COMMIT_TIMEOUT_S)
            except KafkaFailure as error:
                log.warning("no committed offsets yet: %s", error, extra={"action": "kafka_offsets_unknown"})
                await asyncio.sleep(_RETRY_S)
                continue
            if epoch == self._epoch:
                self._assignment.adopt(committed, self._assignment.partitions)
            return

    async def _join(self) -> None:
        self._joined = self._stable = False
        self._epoch += 1
        self._assignment.lose()
        if self._consumer is not None:
            await self._consumer.stop(0.0)
            if self._consumer.has_twin:
                self._consumer, self._aside_until = None, self._clock() + _ASIDE_S
                raise NotAMember(_TWIN)
        self._consumer = self._open_consumer(self)
        await self._consumer.start()
        self._joined = self._answering = True

    def _ready(self, consumer: RawConsuming) -> list[Partition]:
        """Partitions with records in memory that may be read, the least recently served first."""
        if not self._stable:
            return []
        ready = [p for p in consumer.buffered() if self._assignment.may_read(p)]
        if self._troubles:
            now = self._clock()
            ready = [p for p in ready if p not in self._troubles or self._troubles[p].retry_at <= now]
        ready.sort(key=lambda p: self._served.get(p, 0))
        return ready

    async def _take(self, consumer: RawConsuming, ready: Sequence[Partition], want: Want) -> list[Chunk]:
        chunks: list[Chunk] = []
        left, left_bytes = want.records, want.size_bytes
        quota = max(1, left // len(ready)) if ready and want.spread else left
        for partition in ready:
            if left <= 0 or left_bytes <= 0:
                break
            fitting = max(1, int(left_bytes / self._mean_bytes))
            chunk = await self._take_one(consumer, partition, min(quota, left, fitting))
            if chunk is not None and chunk.records:
                chunks.append(chunk)
                size_bytes = sum([len(r.value or b"") + len(r.key or b"") for r in chunk.records])
                left -= len(chunk.records)
                left_bytes -= size_bytes
                self._mean_bytes += (size_bytes / len(chunk.records) - self._mean_bytes) / 8
        return chunks

    async def _take_one(self, consumer: RawConsuming, partition: Partition, limit: int) -> Chunk | None:
        self._serving += 1
        self._served[partition] = self._serving
        epoch = self._epoch
        trouble = self._troubles.get(partition)
        try:
            polled = await consumer.poll(partition, 1 if trouble else limit)
        except Unreadable as error:
            log.error("unreadable: %s", error, extra={"action": "kafka_unreadable"})
            damaged = await self._damaged(consumer, partition)
            polled = [] if damaged is None else [damaged]
        if epoch != self._epoch:
            if polled:  # put them back, or the tracker would count them as finished
                consumer.seek(partition, polled[0].offset)
            return None
        if trouble and polled:
            self._calm(partition, trouble)
        chunk = self._admit(partition, polled) if polled else None
        position = consumer.position(partition)
        if position is not None:
            self._assignment.trackers[partition].pass_holes(position)
        return chunk

    async def _damaged(self, consumer: RawConsuming, partition: Partition) -> Record | None:
        """After some tries: what cannot be decoded as one record, to be dead-lettered, and the position behind it.

        A wrong checksum may have come about on the way here, and then the next try reads what the broker has.
        """
        trouble = self._troubles.setdefault(partition, Trouble())
        if not trouble.again(self._clock()):
            return None
        damaged = await consumer.damaged(partition)
        if damaged is not None:
            consumer.seek(partition, damaged.offset + 1)
            trouble.retry_at = self._clock()
        return damaged

    def _calm(self, partition: Partition, trouble: Trouble) -> None:
        trouble.calm()
        if not trouble.careful(self._clock()):
            del self._troubles[partition]

    def _admit(self, partition: Partition, polled: Sequence[Record]) -> Chunk:
        tracker = self._assignment.trackers[partition]
        if tracker.went_back(polled[0].offset, polled[0].timestamp_ms):
            log.warning(
                "%s-%d starts again at %d", *partition, polled[0].offset, extra={"action": "kafka_log_replaced"}
            )
            tracker = self._assignment.begin_anew(partition)
        if tracker.take_run([record.offset for record in polled]):
            return Chunk(tracker, polled)
        return Chunk(tracker, [record for record in polled if tracker.take(record.offset)])

    async def _commit_regularly(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._commit_interval_s):
                    await self._commit_wanted.wait()
            except TimeoutError:
                pass
            self._commit_wanted.clear()
            if self._stable:
                self._commit_task = asyncio.ensure_future(self._commit_once())
                await asyncio.wait({self._commit_task})

    async def _end_commit(self) -> None:
        if self._commit_task is not None and not self._commit_task.done():
            self._commit_task.cancel()
            await asyncio.wait({self._commit_task})

    async def _commit_once(self) -> None:
        if self._consumer is not None:
            await self._assignment.commit(self._consumer)

    async def _keep_polling(self) -> None:
        """So that we stay a member while our user is busy or full."""
        while True:
            await asyncio.sleep(_KEEP_ALIVE_S)
            if self._joined and self._consumer is not None:
                try:
                    await self._consumer.keep_alive()
                except KafkaFailure as error:
                    log.warning("group: %s", error, extra={"action": "kafka_group_failed"})

    async def _keep_asking(self) -> None:
        """Ask for metadata regularly: a broker that is gone looks like one without records."""
        while True:
            await asyncio.sleep(_REFRESH_S)
            if self._joined and self._consumer is not None:
                try:
                    await self._consumer.refresh(_REFRESH_TIMEOUT_S)
                    self._answering = True
                except KafkaFailure as error:
                    self._answering = False
                    log.warning("no broker: %s", error, extra={"action": "kafka_broker_silent"})

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
