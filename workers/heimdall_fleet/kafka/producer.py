"""Sending records through an idempotent producer that is replaced when it is poisoned.

1. `send` checks the size and puts the record into the lane of its partition; the pump wakes after the topic's linger.
2. The pump makes one batch of what waits in each idle lane and hands it to the raw producer.
3. The broker confirms: the records leave the lane and their awaitables get offsets. Until then they stay, so nothing
   is lost when the raw producer is poisoned: the next producer gets the same records from the lane's front. One batch
   a lane is under way at a time, hence the order within a partition is the order of the calls.
4. A batch that the broker refuses is made again record by record, so that only the guilty one fails.

A record whose delivery time-out passes fails with `DeliveryUnknown` and may still be, or come to be, in the log;
records of a lost batch may be there twice. Readers deduplicate by id.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Protocol

from heimdall_fleet.kafka.driver.producing import RawBatch, RawProducer, is_refusal
from heimdall_fleet.kafka.errors import (
    BrokerUnavailable,
    DeliveryUnknown,
    KafkaFailure,
    NeverSent,
    ProducerFull,
    RecordTooLarge,
    UnknownPartition,
    UnknownTopic,
)
from heimdall_fleet.kafka.lanes import Entry, Flight, Lane, Tally
from heimdall_fleet.kafka.partitioner import partition_of
from heimdall_fleet.kafka.records import Outgoing
from heimdall_fleet.kafka.settings import STOP_TIMEOUT_S, KafkaSettings, ProducerSettings

log = logging.getLogger(__name__)

_RECORD_OVERHEAD_BYTES = 64
_HEADERS_ALLOWANCE_BYTES = 32 * 1024  # twice what the fleet lets in; measuring every record's headers costs 1–2 µs
_HOUSEKEEPING_S = 0.5
_RETRY_S = 0.25
_MAX_RETRY_S = 5.0
_UNKNOWN_FOR_S = 5.0
_MAX_UNKNOWN = 1000
_NO_TOPIC = "topic {!r} does not exist; `heimdall topics create` creates the fleet's own"


class RawProducing(Protocol):
    """One idempotent producer; `driver.producing.RawProducer` is the real one and explains the calls."""

    async def start(self, timeout_s: float) -> None: ...
    async def stop(self, timeout_s: float) -> None: ...
    def partitions(self, topic: str) -> int: ...
    async def look_up(self, topics: Collection[str], timeout_s: float) -> dict[str, int]: ...
    def batch(self, size_bytes: int) -> RawBatch: ...
    def submit(self, batch: RawBatch, topic: str, partition: int) -> "asyncio.Future[Any]": ...


@dataclass(frozen=True, slots=True)
class ProducerFacts:
    """For health and metrics; the counts are since the start."""

    ready: bool
    """False while the raw producer is being replaced, which lasts as long as no broker answers."""
    pending_records: int
    pending_bytes: int
    oldest_pending_s: float
    replaced: int
    refused: int
    timed_out: int


def open_producer(settings: KafkaSettings, tuning: ProducerSettings) -> "SupervisedProducer":
    """A producer on a real cluster; `start` it before use."""
    return SupervisedProducer(lambda: RawProducer(settings, tuning), tuning)


class SupervisedProducer:
    """The fleet's `records.Producer`; `open_raw` makes a raw producer that is not started yet."""

    def __init__(
        self,
        open_raw: Callable[[], RawProducing],
        settings: ProducerSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_raw = open_raw
        self._settings = settings
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop
        self._raw: RawProducing | None = None
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._dirty: dict[Lane, None] = {}
        self._unrouted: dict[str, list[Entry]] = {}
        self._counts: dict[str, int] = {}
        self._unknown_until: dict[str, float] = {}
        self._turn = 0
        self._wake = asyncio.Event()
        self._lingering: dict[float, dict[Lane, None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._tally = Tally()
        self._replaced = 0
        self._refused = 0
        self._timed_out = 0
        self._closed = True

    async def start(self) -> None:
        """Connect; raises `BrokerUnavailable` if no broker answers within the request time-out."""
        raw = self._open_raw()
        await raw.start(self._settings.request_timeout_ms / 1000)
        self._raw, self._loop = raw, asyncio.get_running_loop()
        self._closed = False
        self._spawn(self._pump())
        self._spawn(self._housekeep())

    async def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Wait up to `timeout_s` for confirmations, fail the rest with `DeliveryUnknown`, and close."""
        self._closed = True
        flushed = await self.flush(timeout_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for entry in self._waiting():
            entry.fail(DeliveryUnknown("the producer stopped before the broker confirmed the record"))
        if self._raw is not None:
            await self._raw.stop(STOP_TIMEOUT_S if flushed else 0.0)
            self._raw = None

    def send(self, record: Outgoing) -> Awaitable[int]:
        """See `records.Producer.send`."""
        return self._accept(record.topic, record.partition, (record,))

    def send_batch(self, topic: str, partition: int, records: Sequence[Outgoing]) -> Awaitable[int]:
        """See `records.Producer.send_batch`."""
        if not records:
            raise NeverSent("send_batch was given no records: an empty batch has no offset to wait for")
        return self._accept(topic, partition, records)

    async def partition_count(self, topic: str) -> int:
        """See `records.Producer.partition_count`."""
        count = self._counts.get(topic)
        if count is not None:
            return count
        self._refuse_unknown(topic)
        if self._raw is None:
            raise BrokerUnavailable(f"partitions of {topic}: the producer is connecting")
        found = await self._raw.look_up((topic,), self._settings.metadata_timeout_s)
        self._learn(topic, found.get(topic, 0))
        self._refuse_unknown(topic)
        return found[topic]

    async def flush(self, timeout_s: float) -> bool:
        """See `records.Producer.flush`."""
        for linger_s in tuple(self._lingering):
            self._lingered(linger_s)
        self._wake.set()
        waiting = [entry.done for entry in self._waiting()]
        if not waiting:
            return True
        _, late = await asyncio.wait(waiting, timeout=timeout_s)
        return not late

    def facts(self) -> ProducerFacts:
        waiting = tuple(self._waiting())
        oldest = min((entry.sent_at for entry in waiting), default=self._clock())
        return ProducerFacts(
            ready=self._raw is not None,
            pending_records=sum(len(entry.records) for entry in waiting),
            pending_bytes=self._tally.size_bytes,
            oldest_pending_s=self._clock() - oldest,
            replaced=self._replaced,
            refused=self._refused,
            timed_out=self._timed_out,
        )

    def _accept(self, topic: str, partition: int | None, records: Sequence[Outgoing]) -> Awaitable[int]:
        if self._closed:
            raise NeverSent(f"a record for {topic} was given to a producer that is not running")
        size = self._checked_size(topic, records)
        if self._tally.size_bytes + size > self._settings.max_pending_bytes:
            raise ProducerFull(
                f"{self._tally.size_bytes} bytes wait for the broker, the limit is {self._settings.max_pending_bytes}: "
                f"is it reachable?"
            )
        done: asyncio.Future[int] = self._loop.create_future()
        entry = Entry(records, partition, size, self._clock(), done)
        self._tally.size_bytes += size
        count = self._counts.get(topic)
        if count is None or (partition is not None and partition >= count):
            self._park(topic, entry)
        else:
            self._enqueue(topic, entry, count)
        return done

    def _checked_size(self, topic: str, records: Sequence[Outgoing]) -> int:
        """Bytes of keys and values; headers are measured only where they could matter, which is near the limit."""
        limit, total = self._settings.max_record_bytes, 0
        for _, value, key, _, found, _ in records:
            size = len(value or b"") + len(key or b"")
            if size > limit - _HEADERS_ALLOWANCE_BYTES:
                headers = sum(len(name.encode()) + len(content or b"") + 10 for name, content in found)
                if size + headers + _RECORD_OVERHEAD_BYTES > limit:
                    raise RecordTooLarge(
                        f"a record for {topic} has {size} bytes and {headers} bytes of headers; the fleet's limit is "
                        f"{limit} (max_record_bytes)"
                    )
            total += size
        return total

    def _enqueue(self, topic: str, entry: Entry, count: int) -> None:
        partition = self._choose(entry, count) if entry.partition is None else entry.partition
        lane = self._lanes.get((topic, partition))
        if lane is None:
            linger_s = self._settings.patient_ms.get(topic, self._settings.linger_ms) / 1000
            lane = self._lanes[topic, partition] = Lane(topic, partition, self._tally, linger_s)
        lane.add(entry)
        if lane.flight is not None:
            return
        linger_s = lane.linger_s
        if linger_s == 0 or lane.queued_bytes >= self._settings.batch_bytes:
            self._ready(lane)
            return
        lanes = self._lingering.get(linger_s)
        if lanes is None:
            lanes = self._lingering[linger_s] = {}
            self._loop.call_later(linger_s, self._lingered, linger_s)
        lanes[lane] = None

    def _choose(self, entry: Entry, count: int) -> int:
        key = entry.records[0].key
        if key is not None:
            return partition_of(key, count)
        self._turn += 1
        return self._turn % count

    def _lingered(self, linger_s: float) -> None:
        self._dirty.update(self._lingering.pop(linger_s, {}))
        self._wake.set()

    def _park(self, topic: str, entry: Entry) -> None:
        """Keep an entry until its topic's partitions are known."""
        try:
            self._refuse_unknown(topic)
        except UnknownTopic as error:
            self._give_up(entry, error)
            return
        waiting = self._unrouted.setdefault(topic, [])
        waiting.append(entry)
        if len(waiting) == 1:
            self._spawn(self._route(topic))

    def _refuse_unknown(self, topic: str) -> None:
        if self._unknown_until.get(topic, 0.0) > self._clock():
            raise UnknownTopic(_NO_TOPIC.format(topic))

    def _learn(self, topic: str, count: int) -> None:
        if count:
            self._counts[topic] = count
            return
        if len(self._unknown_until) >= _MAX_UNKNOWN:
            self._unknown_until.clear()
        self._unknown_until[topic] = self._clock() + _UNKNOWN_FOR_S

    async def _route(self, topic: str) -> None:
        """Learn a topic's partitions; then its parked entries go on, or fail."""
        count = await self._look_up(topic)
        self._learn(topic, count)
        for entry in self._unrouted.pop(topic, []):
            if count == 0:
                entry.fail(
                    UnknownTopic(f"topic {topic!r} does not exist; `heimdall topics create` creates the fleet's")
                )
            elif (entry.partition or 0) >= count:
                self._give_up(
                    entry, UnknownPartition(f"{topic} has {count} partitions and no number {entry.partition}")
                )
            else:
                self._enqueue(topic, entry, count)

    def _give_up(self, entry: Entry, error: NeverSent) -> None:
        self._tally.size_bytes -= entry.size_bytes
        entry.fail(error)

    async def _look_up(self, topic: str) -> int:
        while True:
            if (raw := self._raw) is not None:
                try:
                    return (await raw.look_up((topic,), self._settings.metadata_timeout_s)).get(topic, 0)
                except BrokerUnavailable as error:
                    log.warning("topic %s: %s", topic, error, extra={"action": "kafka_metadata_failed"})
            await asyncio.sleep(_RETRY_S)

    async def _pump(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            raw = self._raw
            if raw is None:
                continue  # the next producer wakes us
            dirty, self._dirty = self._dirty, {}
            for lane in dirty:
                try:
                    self._launch(lane, raw)
                except Exception as error:  # noqa: BLE001  # outermost loop: a new producer is tried, records stay
                    self._lost(lane, lane.flight, raw, error)

    def _launch(self, lane: Lane, raw: RawProducing) -> None:
        if not lane.idle:
            return
        if raw.partitions(lane.topic) <= lane.partition:
            # Submitted now, the batch would wait with the producer until the cluster knows the topic again.
            self._spawn(self._revive(lane))
            return
        batch = raw.batch(lane.queued_bytes)
        flight = lane.load(batch)
        if flight is not None:
            submitted = raw.submit(batch, lane.topic, lane.partition)
            submitted.add_done_callback(partial(self._landed, lane, flight, raw))

    async def _revive(self, lane: Lane) -> None:
        await self._look_up(lane.topic)
        await asyncio.sleep(_RETRY_S)
        self._ready(lane)

    def _landed(self, lane: Lane, flight: Flight, raw: RawProducing, future: "asyncio.Future[Any]") -> None:
        error = future.exception()
        if error is None:
            lane.confirm(flight, future.result().offset)
        elif is_refusal(error):
            self._refused += lane.refuse(flight)
            log.warning("%s refused: %r", lane.topic, error, extra={"action": "kafka_record_refused"})
        else:
            self._lost(lane, flight, raw, error)
        self._ready(lane)

    def _ready(self, lane: Lane) -> None:
        if lane.idle:
            self._dirty[lane] = None
            self._wake.set()

    def _lost(self, lane: Lane, flight: Flight | None, raw: RawProducing, error: BaseException) -> None:
        if flight is not None:
            lane.lose(flight, error)
        self._dirty[lane] = None
        if self._raw is raw and not self._closed:
            log.error("producer lost: %r", error, extra={"action": "kafka_producer_lost"})
            self._raw = None
            self._spawn(self._replace(raw))

    async def _replace(self, old: RawProducing) -> None:
        """Start a new raw producer, however long that takes, then let the old one finish what it still can."""
        self._replaced += 1
        pause_s = _RETRY_S
        while self._raw is None:
            raw = self._open_raw()
            try:
                await raw.start(self._settings.request_timeout_ms / 1000)
                await raw.look_up(tuple(self._counts), self._settings.metadata_timeout_s)
                self._raw = raw
            except KafkaFailure as error:
                log.warning("no new producer: %s", error, extra={"action": "kafka_producer_not_replaced"})
                await raw.stop(0.0)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _MAX_RETRY_S)
        self._wake.set()
        await old.stop(STOP_TIMEOUT_S)

    async def _housekeep(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING_S)
            sent_before = self._clock() - self._settings.delivery_timeout_s
            for lane in self._lanes.values():
                self._timed_out += lane.expire(sent_before)
            for entry in chain.from_iterable(self._unrouted.values()):
                if entry.sent_at < sent_before:
                    entry.fail(DeliveryUnknown("no broker answered in time"))

    def _waiting(self) -> Iterator[Entry]:
        queues = (lane.queue for lane in self._lanes.values())
        return (e for e in chain(chain.from_iterable(queues), *self._unrouted.values()) if not e.done.done())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
