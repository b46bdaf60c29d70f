"""aiokafka's group consumer, typed."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.structs import OffsetAndMetadata

from heimdall_fleet.kafka.driver.connection import (
    awaiting,
    bounded,
    connection_arguments,
    state_of,
    stop_consumer,
    translated,
)
from heimdall_fleet.kafka.driver.damage import damaged_batch, fault_in_words
from heimdall_fleet.kafka.errors import KafkaFailure, NotAMember, Unreadable
from heimdall_fleet.kafka.offsets import Checkpoint
from heimdall_fleet.kafka.records import DamagedBatch, Partition, Record
from heimdall_fleet.kafka.settings import KafkaSettings

_NOBODY = TopicPartition("", -1)
_TWIN_TIMES = 2
_TWIN_WITHIN_S = 30.0


def _record(at: Any, raw: Any) -> Record:
    """aiokafka's record of that partition as ours."""
    return Record(at.topic, at.partition, raw.offset, raw.timestamp, raw.key, raw.value, tuple(raw.headers))


class Listener(Protocol):
    """Told about partitions; must not raise, and must come back soon because the whole group waits for it."""

    async def on_revoked(self) -> None: ...

    async def on_assigned(self, partitions: frozenset[Partition]) -> None: ...


class RawConsuming(Protocol):
    """A group consumer; `RawConsumer` is the real one and explains the calls."""

    @property
    def dead(self) -> bool: ...
    @property
    def reachable(self) -> bool: ...
    @property
    def is_member(self) -> bool: ...
    @property
    def has_twin(self) -> bool: ...
    @property
    def metadata_age_s(self) -> float: ...
    async def start(self) -> None: ...
    async def stop(self, timeout_s: float) -> None: ...
    async def refresh(self, timeout_s: float) -> None: ...
    async def keep_alive(self) -> None: ...
    async def wait(self, timeout_s: float) -> None: ...
    def buffered(self) -> Sequence[Partition]: ...
    async def poll(self, partition: Partition, max_records: int) -> Sequence[Record]: ...
    async def damaged(self, partition: Partition) -> DamagedBatch | None: ...
    def seek(self, partition: Partition, offset: int) -> None: ...
    def position(self, partition: Partition) -> int | None: ...
    def highwater(self, partition: Partition) -> int | None: ...
    async def committed(
        self, partitions: Collection[Partition], timeout_s: float
    ) -> Mapping[Partition, Checkpoint]: ...
    async def commit(self, checkpoints: Mapping[Partition, Checkpoint], timeout_s: float) -> None: ...


class _Rebalance(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    def __init__(self, listener: Listener, joined: Callable[[], None]) -> None:
        self._listener = listener
        self._joined = joined

    async def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
        await self._listener.on_revoked()

    async def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        self._joined()
        await self._listener.on_assigned(frozenset((tp.topic, tp.partition) for tp in assigned))


class RawConsumer:
    """One member of a consumer group, without auto-commit."""

    def __init__(self, settings: KafkaSettings, group_id: str, topics: Sequence[str], listener: Listener) -> None:
        # The assignor keeps its state on the class: one class per consumer, or stickiness is lost.
        self._assignor: Any = type("_OwnStickyAssignor", (StickyPartitionAssignor,), {})
        self._timeout_s = settings.request_timeout_ms / 1000
        self._session_s = settings.session_timeout_ms / 1000
        self._member_until_s = -math.inf
        self._static = settings.group_instance_id is not None
        self._displaced_s: list[float] = []
        self._aio = AIOKafkaConsumer(
            **connection_arguments(settings),
            group_id=group_id,
            group_instance_id=settings.group_instance_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=settings.heartbeat_interval_ms,
            rebalance_timeout_ms=settings.rebalance_timeout_ms,
            request_timeout_ms=settings.request_timeout_ms,
            max_poll_interval_ms=settings.max_poll_interval_ms,
            fetch_max_wait_ms=settings.fetch_max_wait_ms,
            fetch_max_bytes=settings.fetch_max_bytes,
            max_partition_fetch_bytes=settings.max_partition_fetch_bytes,
            partition_assignment_strategy=(self._assignor,),
        )
        self._aio.subscribe(topics=list(topics), listener=_Rebalance(listener, self._joined))

    def _joined(self) -> None:
        # aiokafka never tells the assignor its generation; without it an expelled member's stale claim on a
        # partition counts as much as its present owner's.
        self._assignor.on_generation_assignment(self._aio._coordinator.generation)
        self._member_until_s = time.monotonic() + self._session_s

    async def start(self) -> None:
        """Connect and join; raises `BrokerUnavailable` or `UnknownTopic`, and is then closed."""
        try:
            await bounded(self._aio.start(), self._timeout_s, "join the consumer group")
        except KafkaFailure:
            await self.stop(0.0)
            raise
        self._listen_to_heartbeats()

    def _listen_to_heartbeats(self) -> None:
        """aiokafka keeps to itself when the group last heard of us."""
        coordinator = self._aio._coordinator
        beat: Callable[[], Awaitable[bool]] = coordinator._do_heartbeat

        async def listened() -> bool:
            sent_s = time.monotonic()
            belonged = self.is_member
            heard = await beat()
            if heard:
                self._member_until_s = sent_s + self._session_s
            elif self._static and belonged and coordinator.generation < 0:
                self._displaced(sent_s)
            return heard

        coordinator._do_heartbeat = listened

    def _displaced(self, now_s: float) -> None:
        """The group does not know us, though it heard of us less than a session ago: our place was given to another."""
        self._displaced_s = [each for each in self._displaced_s if each > now_s - _TWIN_WITHIN_S] + [now_s]
        closing = self._aio._coordinator._closing
        if self.has_twin and not closing.done():
            closing.set_result(None)  # ends the coordination before it joins again and displaces the other one

    async def stop(self, timeout_s: float) -> None:
        """Leave the group and close; never raises."""
        await stop_consumer(self._aio, timeout_s)

    @property
    def dead(self) -> bool:
        """Whether a background task has ended, after which this consumer will never read again."""
        coordinator, fetcher = self._aio._coordinator, self._aio._fetcher
        return (
            coordinator is None
            or fetcher is None
            or coordinator._coordination_task.done()
            or fetcher._fetch_task.done()
        )

    @property
    def reachable(self) -> bool:
        """Whether the group's coordinator is known and the last refresh of the metadata succeeded."""
        cluster = self._aio._client.cluster
        return (
            not self.dead
            and self._aio._coordinator.coordinator_id is not None
            and cluster._last_refresh_ms == cluster._last_successful_refresh_ms
        )

    @property
    def is_member(self) -> bool:
        """Whether the group cannot have given our partitions away: it heard of us less than a session ago.

        False says nothing: a process that was stopped for a while does not know until it has asked.
        """
        return time.monotonic() < self._member_until_s and self._aio._coordinator.generation >= 0

    @property
    def has_twin(self) -> bool:
        """Whether another member took our place a second time: it has the same `group_instance_id`. We are dead then.

        The one who took it goes on. A client that joins again each time would do so for ever, and the calls of both
        would be made twice: who is displaced goes on with its orders until its next heartbeat.
        """
        return len(self._displaced_s) >= _TWIN_TIMES

    @property
    def metadata_age_s(self) -> float:
        """Seconds since a broker last answered a metadata request."""
        refreshed_s: float = self._aio._client.cluster._last_successful_refresh_ms / 1000
        return max(0.0, time.time() - refreshed_s)

    async def refresh(self, timeout_s: float) -> None:
        """Ask for metadata now: the liveness signal, since polling a dead broker just returns nothing."""
        await bounded(awaiting(self._aio._client.force_metadata_update()), timeout_s, "metadata")

    def buffered(self) -> list[Partition]:
        """Partitions whose records wait in memory, so that asking for them costs no round trip."""
        return list(self._aio._fetcher._records)

    async def keep_alive(self) -> None:
        """Ask for nothing, so that the group sees us poll; blocks through a rebalance.

        To be called all the time, idle or not: a member that has not polled for `max_poll_interval_ms` leaves the
        group and, if it had no partitions, can never rejoin. Raises what the group's coordinator refused.
        """
        with translated("poll"):
            await self._aio.getmany(_NOBODY, timeout_ms=0)

    async def wait(self, timeout_s: float) -> None:
        """Return when records arrive, or after `timeout_s`."""
        fetcher = self._aio._fetcher
        if not fetcher._records:
            arrived = fetcher._create_fetch_waiter()
            await asyncio.wait({arrived}, timeout=timeout_s)
            if arrived.done():
                arrived.exception()  # a coordinator's refusal, which `keep_alive` raises
            arrived.cancel()

    async def poll(self, partition: Partition, max_records: int) -> Sequence[Record]:
        """Buffered records of one partition; raises `Unreadable` if they cannot be decoded or fetched.

        aiokafka then forgets the good ones before the bad one as well: they come again, one by one with `max_records` 1.
        """
        wanted = TopicPartition(*partition)
        with translated("poll"):
            self._aio._coordinator.check_errors()  # else the group's refusal would look like the partition's
        self._read_as_ours(wanted)
        try:
            polled = await self._aio.getmany(wanted, timeout_ms=0, max_records=max_records)
        except Exception as error:  # any codec may raise anything about bytes that others wrote
            raise Unreadable(f"{partition[0]}-{partition[1]}: {fault_in_words(error)}") from error
        records: Sequence[Any] = polled.get(wanted, ())
        return records if not records or type(records[0]) is Record else [_record(wanted, raw) for raw in records]

    async def damaged(self, partition: Partition) -> DamagedBatch | None:
        """The batch at the partition's position, where it cannot be decoded and says where it ends. Raises KafkaFailure."""
        return await damaged_batch(self._aio, partition, self._timeout_s)

    def _read_as_ours(self, wanted: Any) -> None:
        """Let aiokafka make our records and not its own first, which is a quarter of what reading a record costs.

        Where it does not, because another fetch came between or another release works otherwise, `poll` makes them.
        """
        unpacking = getattr(self._aio._fetcher._records.get(wanted), "_partition_records", None)
        if unpacking is not None:
            unpacking._consumer_record = _record

    def seek(self, partition: Partition, offset: int) -> None:
        """Read on from `offset`; does nothing if the partition is not assigned any more."""
        wanted = TopicPartition(*partition)
        if wanted in self._aio.assignment():
            self._aio.seek(wanted, offset)

    def position(self, partition: Partition) -> int | None:
        """The offset that the next record polled will have at least; None while it is not known."""
        state = state_of(partition, self._aio)
        return None if state is None or not state.has_valid_position else int(state.position)

    def highwater(self, partition: Partition) -> int | None:
        """The offset after the partition's last record, as of the last fetch."""
        state = state_of(partition, self._aio)
        highwater: int | None = None if state is None else state.highwater
        return highwater

    async def committed(self, partitions: Collection[Partition], timeout_s: float) -> dict[Partition, Checkpoint]:
        """What the group has committed, with its metadata; partitions without a commit are absent."""
        wanted = [TopicPartition(*p) for p in partitions]
        answer = await bounded(
            self._aio._coordinator.fetch_committed_offsets(wanted), timeout_s, "read committed offsets"
        )
        return {(tp.topic, tp.partition): Checkpoint(at.offset, at.metadata) for tp, at in answer.items()}

    async def commit(self, checkpoints: Mapping[Partition, Checkpoint], timeout_s: float) -> None:
        """Commit once, under the present generation, without a retry.

        aiokafka's own commit retries for ever, and with whatever generation it has by then: after a rebalance it
        would write, as a valid member, the offset of a partition that is somebody else's; after an expulsion, as no
        member at all, which an empty group accepts.
        """
        coordinator = self._aio._coordinator
        if coordinator.generation < 0:
            raise NotAMember("commit offsets: this member was expelled and has not joined again")
        offsets = {TopicPartition(*p): OffsetAndMetadata(*at) for p, at in checkpoints.items()}
        assignment = self._aio._subscription.subscription.assignment
        await bounded(coordinator._do_commit_offsets(assignment, offsets), timeout_s, "commit offsets")
