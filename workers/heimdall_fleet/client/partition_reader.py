"""One partition from its present end, on aiokafka."""

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from heimdall_fleet.kafka.driver.connection import abandon, bounded, connection_arguments, translated
from heimdall_fleet.kafka.errors import BrokerUnavailable
from heimdall_fleet.kafka.records import Record
from heimdall_fleet.kafka.settings import STOP_TIMEOUT_S, KafkaSettings

_POLL_MS = 1000


class PartitionReader:
    """Belongs to no group and commits nothing. Raises KafkaFailure; `timeout_s` bounds each wait for the broker."""

    def __init__(self, settings: KafkaSettings, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._aio = AIOKafkaConsumer(
            **connection_arguments(settings),
            group_id=None,
            enable_auto_commit=False,
            request_timeout_ms=settings.request_timeout_ms,
            fetch_max_wait_ms=settings.fetch_max_wait_ms,
            fetch_max_bytes=settings.fetch_max_bytes,
        )

    async def start(self, topic: str, partition: int) -> None:
        """Returns when the end of the partition is known: what is written afterwards will be read."""
        await bounded(self._aio.start(), self._timeout_s, "connect a reader")
        assigned = TopicPartition(topic, partition)
        self._aio.assign([assigned])
        await bounded(self._aio.seek_to_end(assigned), self._timeout_s, f"find the end of {topic}")
        await bounded(self._aio.position(assigned), self._timeout_s, f"find the end of {topic}")

    async def read(self) -> Sequence[Record]:
        """The next records in order; none when a second passed without any."""
        with translated("read replies"):
            polled = await self._aio.getmany(timeout_ms=_POLL_MS)
        return [
            Record(at.topic, at.partition, raw.offset, raw.timestamp, raw.key, raw.value, raw.headers)
            for at, records in polled.items()
            for raw in records
        ]

    async def stop(self) -> None:
        """Never waits for a broker that is gone."""
        try:
            await bounded(self._aio.stop(), STOP_TIMEOUT_S, "stop a reader")
        except BrokerUnavailable:
            self._aio._closed = True
            fetcher: Any = self._aio._fetcher
            tasks: list[asyncio.Task[Any] | None] = (
                [] if fetcher is None else [fetcher._fetch_task, *fetcher._pending_tasks]
            )
            await abandon(self._aio._client, tasks)
