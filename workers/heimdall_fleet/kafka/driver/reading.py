"""Reading without a group: replies by the client; cancellations, `heimdall tail` and `explain` by the fleet."""

import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition

from heimdall_fleet.kafka.driver.connection import bounded, connection_arguments, stop_consumer, translated
from heimdall_fleet.kafka.driver.damage import damaged_batch, fault_in_words
from heimdall_fleet.kafka.errors import UnknownTopic, Unreadable
from heimdall_fleet.kafka.records import Partition, Record
from heimdall_fleet.kafka.settings import STOP_TIMEOUT_S, KafkaSettings
from heimdall_fleet.kafka.trouble import Trouble

log = logging.getLogger(__name__)

_POLL_MS = 1000


class PartitionReader:
    """Assigned partitions, read in order. Belongs to no group and commits nothing, so it disturbs nobody.

    Raises KafkaFailure; `timeout_s` bounds each wait for the broker.
    """

    def __init__(self, settings: KafkaSettings, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._trouble = Trouble()
        self._aio = AIOKafkaConsumer(
            **connection_arguments(settings),
            group_id=None,
            enable_auto_commit=False,
            request_timeout_ms=settings.request_timeout_ms,
            fetch_max_wait_ms=settings.fetch_max_wait_ms,
            fetch_max_bytes=settings.fetch_max_bytes,
        )

    async def start(self) -> None:
        await bounded(self._aio.start(), self._timeout_s, "connect a reader")

    async def partitions(self, topic: str) -> list[Partition]:
        """Raises UnknownTopic."""
        # The consumer's own `topics()` reads the list and forgets the partitions.
        metadata: Any = await bounded(
            self._aio._client.fetch_all_metadata(), self._timeout_s, "read the list of topics"
        )
        found = metadata.partitions_for_topic(topic)
        if not found:
            raise UnknownTopic(f"the topic {topic!r} does not exist; `heimdall topics create` makes the fleet's topics")
        return [(topic, number) for number in sorted(found)]

    async def assign(self, partitions: Sequence[Partition], *, from_end: bool) -> None:
        """Returns when the positions are known: what is written afterwards will be read."""
        assigned = [TopicPartition(*partition) for partition in partitions]
        self._aio.assign(assigned)
        find = self._aio.end_offsets if from_end else self._aio.beginning_offsets
        # seek_to_end and seek_to_beginning race with the reset that a new assignment makes by itself; a seek wins.
        for partition, offset in (await bounded(find(assigned), self._timeout_s, "find where to begin")).items():
            self._aio.seek(partition, offset)

    async def ends(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """The offset after the last record of each partition, as of now."""
        found = await bounded(
            self._aio.end_offsets([TopicPartition(*each) for each in partitions]), self._timeout_s, "read end offsets"
        )
        return {(at.topic, at.partition): end for at, end in found.items()}

    async def beginnings(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """The oldest offset that each partition still has."""
        await self.assign(partitions, from_end=False)
        return {each: await self.position(each) for each in partitions}

    async def seek(self, offsets: Mapping[Partition, int]) -> None:
        """Begin at these offsets. The partitions are assigned."""
        for at in self._aio.assignment():
            self._aio.seek(at, offsets[at.topic, at.partition])

    async def at_time(self, unix_ms: int) -> dict[Partition, int | None]:
        """The first offset at or after a moment in each assigned partition; None when there is none."""
        asked = dict.fromkeys(self._aio.assignment(), unix_ms)
        found = await bounded(self._aio.offsets_for_times(asked), self._timeout_s, "find offsets by time")
        return {(at.topic, at.partition): None if hit is None else hit.offset for at, hit in found.items()}

    async def position(self, partition: Partition) -> int:
        """The offset that is read next."""
        found: int = await bounded(self._aio.position(TopicPartition(*partition)), self._timeout_s, "read a position")
        return found

    async def read(self) -> Sequence[Record]:
        """The next records in order; none when a second passed without any.

        A batch that cannot be decoded time after time is passed over with a word in the log: nobody could read it.
        """
        try:
            polled = await self._poll()
        except Unreadable as error:
            await self._pass_over(error)
            return []
        if polled:
            self._trouble.calm()
        return [
            Record(at.topic, at.partition, raw.offset, raw.timestamp, raw.key, raw.value, raw.headers)
            for at, records in polled.items()
            for raw in records
        ]

    async def _poll(self) -> Mapping[Any, Sequence[Any]]:
        # One by one after a failure: aiokafka forgets the good records before a bad one as well.
        at_most = 1 if self._trouble.careful(time.monotonic()) else None
        try:
            polled: Mapping[Any, Sequence[Any]] = await self._aio.getmany(timeout_ms=_POLL_MS, max_records=at_most)
        except Exception as error:  # any codec may raise anything about bytes that others wrote
            raise Unreadable(fault_in_words(error)) from error
        return polled

    async def _pass_over(self, error: Unreadable) -> None:
        if not self._trouble.again(time.monotonic()):
            log.warning("cannot decode, trying again: %s", error, extra={"action": "kafka_unreadable"})
            return
        passed = 0
        for at in self._aio.assignment():
            damaged = await damaged_batch(self._aio, (at.topic, at.partition), self._timeout_s)
            if damaged is not None:
                log.error("passed over: %s", damaged.why, extra={"action": "kafka_unreadable"})
                self._aio.seek(at, damaged.offset + 1)
                passed += 1
        if not passed:
            with translated("read records"):
                raise error.__cause__ or error
        self._trouble.calm()

    async def stop(self) -> None:
        """Never waits long for a broker that is gone."""
        await stop_consumer(self._aio, STOP_TIMEOUT_S)


class TopicReader:
    """`async with TopicReader(settings) as reader: async for record in reader.read([topic]): ...`"""

    def __init__(self, settings: KafkaSettings, timeout_s: float = 10.0) -> None:
        self._reader = PartitionReader(settings, timeout_s)

    async def __aenter__(self) -> Self:
        try:
            await self._reader.start()
        except BaseException:
            await self._reader.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._reader.stop()

    async def read(
        self, topics: Sequence[str], *, follow: bool = False, since_ms: int | None = None
    ) -> AsyncIterator[Record]:
        """The records of `topics`, each partition in order; ends where the topics ended at the start, unless `follow`.

        `since_ms`: begin at what was written at that moment or later (Unix milliseconds). Where the broker knows of nothing
        since then, all is read: the embedded one finds no offsets by time.
        Raises UnknownTopic when a topic is not there, BrokerUnavailable when the broker does not answer in time.
        """
        reader = self._reader
        partitions = [each for topic in topics for each in await reader.partitions(topic)]
        ends = await reader.ends(partitions)
        await reader.assign(partitions, from_end=False)
        if since_ms is not None:
            begin = await reader.at_time(since_ms)
            if any(at is not None for at in begin.values()):
                await reader.seek({each: ends[each] if at is None else at for each, at in begin.items()})
        while follow or await self._behind(ends):
            for record in await reader.read():
                if follow or record.offset < ends[record.topic, record.partition]:
                    yield record

    async def _behind(self, ends: dict[Partition, int]) -> bool:
        """Positions and not records tell the end: a compacted or transactional log has offsets without records."""
        for partition, end in ends.items():
            if await self._reader.position(partition) < end:
                return True
        return False
