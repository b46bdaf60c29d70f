"""The client's transport on Kafka: the fleet's own producer, and a reader of one partition."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from heimdall_fleet.client.transport import Incoming, Outgoing
from heimdall_fleet.kafka import records
from heimdall_fleet.kafka.driver.reading import PartitionReader
from heimdall_fleet.kafka.errors import KafkaFailure
from heimdall_fleet.kafka.producer import SupervisedProducer, open_producer
from heimdall_fleet.kafka.settings import KafkaSettings, ProducerSettings
from heimdall_schemas.codec import DEFAULT_LIMITS, Limits

FETCH_WAIT_MS = 50
"""A real broker answers a fetch at the first record; the embedded one makes every empty fetch wait this long."""

HEADER_ROOM_BYTES = 64 * 1024


class KafkaTransport:
    """See `Transport`. `settings` are fields of `KafkaSettings`; `patience_s` bounds each wait for the broker. `limits`
    are for a fleet that takes larger requests than usual; its requests topic must take them too."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        patience_s: float = 15.0,
        draw: random.Random | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.limits = limits
        self._settings = KafkaSettings(
            **{"client_id": "heimdall-client", "fetch_max_wait_ms": FETCH_WAIT_MS, **settings}
        )
        self._patience_s = patience_s
        self._draw = draw or random.Random()
        self._producer: SupervisedProducer | None = None
        self._reader: PartitionReader | None = None

    async def open(self, reply_topic: str) -> int:
        tuning = ProducerSettings(
            delivery_timeout_s=self._patience_s,
            request_timeout_ms=int(self._patience_s * 1000),
            metadata_timeout_s=self._patience_s,
            max_record_bytes=self.limits.max_body_bytes + HEADER_ROOM_BYTES,
        )
        with _refusals():
            self._producer = open_producer(self._settings, tuning)
            await self._producer.start()
            partition = self._draw.randrange(await self._producer.partition_count(reply_topic))
            self._reader = PartitionReader(self._settings, self._patience_s)
            await self._reader.start()
            await self._reader.assign([(reply_topic, partition)], from_end=True)
        return partition

    async def send(self, record: Outgoing) -> None:
        if self._producer is None:
            raise ConnectionError("the transport is not open")
        headers = tuple(record.headers.items())
        with _refusals():
            await self._producer.send(records.Outgoing(record.topic, record.value, record.key, headers=headers))

    async def receive(self) -> Sequence[Incoming]:
        if self._reader is None:
            raise ConnectionError("the transport is not open")
        with _refusals():
            return [Incoming(record.value, record.headers) for record in await self._reader.read()]

    async def close(self) -> None:
        reader, self._reader = self._reader, None
        producer, self._producer = self._producer, None
        if reader is not None:
            await reader.stop()
        if producer is not None:
            await producer.stop()


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except KafkaFailure as failure:
        raise ConnectionError(str(failure)) from failure
