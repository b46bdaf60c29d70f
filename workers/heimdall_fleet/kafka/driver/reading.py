"""Reading whole topics without a group: cancellations, control pointers, `heimdall tail`, `explain`."""

from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition

from heimdall_fleet.kafka.driver.connection import bounded, connection_arguments, stop_consumer, translated
from heimdall_fleet.kafka.errors import UnknownTopic
from heimdall_fleet.kafka.records import Record
from heimdall_fleet.kafka.settings import STOP_TIMEOUT_S, KafkaSettings

T = TypeVar("T")

_POLL_MS = 500


class TopicReader:
    """`async with TopicReader(settings) as reader: async for record in reader.read(topic): ...`

    It belongs to no group and commits nothing, so it disturbs nobody.
    """

    def __init__(self, settings: KafkaSettings, timeout_s: float = 10.0) -> None:
        self._timeout_s = timeout_s
        self._aio = AIOKafkaConsumer(
            **connection_arguments(settings),
            group_id=None,
            enable_auto_commit=False,
            request_timeout_ms=settings.request_timeout_ms,
            fetch_max_wait_ms=settings.fetch_max_wait_ms,
            fetch_max_bytes=settings.fetch_max_bytes,
        )

    async def __aenter__(self) -> "TopicReader":
        try:
            await bounded(self._aio.start(), self._timeout_s, "connect")
        except BaseException:
            await stop_consumer(self._aio, 0.0)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await stop_consumer(self._aio, STOP_TIMEOUT_S)

    async def read(
        self, topics: Sequence[str], *, follow: bool = False, from_end: bool = False
    ) -> AsyncIterator[Record]:
        """The records of `topics`, each partition in order; ends where the topics ended at the start, unless `follow`.

        Raises UnknownTopic when one is not there, BrokerUnavailable when the broker does not answer in time.
        """
        partitions = await self._partitions(topics)
        self._aio.assign(partitions)
        ends: dict[Any, int] = await self._bounded(self._aio.end_offsets(partitions), "read end offsets")
        starts = ends if from_end else await self._bounded(self._aio.beginning_offsets(partitions), "read begins")
        for partition, start in starts.items():  # seek_to_beginning races with the client's own first reset
            self._aio.seek(partition, start)
        while follow or await self._behind(ends):
            with translated("read"):
                polled = await self._aio.getmany(timeout_ms=_POLL_MS)
            for partition, records in polled.items():
                for raw in records:
                    if follow or raw.offset < ends[partition]:
                        at = (partition.topic, partition.partition, raw.offset, raw.timestamp)
                        yield Record(*at, raw.key, raw.value, raw.headers)

    async def _behind(self, ends: dict[Any, int]) -> bool:
        for partition, end in ends.items():
            if await self._bounded(self._aio.position(partition), "read a position") < end:
                return True
        return False

    async def _partitions(self, topics: Sequence[str]) -> list[TopicPartition]:
        cluster: Any = await self._bounded(self._aio._client.fetch_all_metadata(), "read the list of topics")
        found = {topic: cluster.partitions_for_topic(topic) for topic in topics}
        if missing := [topic for topic, numbers in found.items() if not numbers]:
            raise UnknownTopic(f"no topic {', '.join(missing)}; `heimdall topics create` makes the fleet's topics")
        return [TopicPartition(topic, number) for topic, numbers in found.items() for number in sorted(numbers)]

    async def _bounded(self, work: Coroutine[Any, Any, T], what: str) -> T:
        return await bounded(work, self._timeout_s, what)
