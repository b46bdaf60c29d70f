"""aiokafka's producer, typed."""

import asyncio
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaProducer, errors
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

from heimdall_fleet.kafka.driver.connection import abandon, awaiting, bounded, connection_arguments
from heimdall_fleet.kafka.errors import BrokerUnavailable, KafkaFailure
from heimdall_fleet.kafka.records import Outgoing
from heimdall_fleet.kafka.settings import KIB, Compression, KafkaSettings, ProducerSettings

WORTH_COMPRESSING_BYTES = 8 * KIB
"""zstd takes 20 to 50 µs for a single record, ten times as much as the rest of its batch."""
LEVEL_2_ABOVE_BYTES = 5 * KIB
"""Mean of a batch's records. What the fleet writes itself is as small at zstd's level 1 as at 3, and takes a third less
time; the text of long conversations is a quarter larger at level 1, and at 2 nearly as small as at 3."""
_ENCODING: Final = sys.modules[DefaultRecordBatchBuilder.__module__]
_CODECS: Final[Mapping[Compression, int]] = {"none": 0, "gzip": 1, "snappy": 2, "zstd": 4}
"""As a batch's attributes name them."""

# Refusals of one record. Everything else that ends a batch (a lost sequence, a fenced id, a partition without a
# leader, a dead sender task) leaves the producer useless for the partition, and the record may be sent again.
_REFUSALS = (
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
    errors.CorruptRecordException,
    errors.InvalidTopicError,
    errors.TopicAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
    errors.InvalidTimestampError,
    errors.PolicyViolationError,
)


class RawBatch(Protocol):
    """A record batch under construction, in the broker's own format."""

    def extend(self, records: Sequence[Outgoing], start: int, stop: int) -> int:
        """Append `records[start:stop]` while they fit; the index after the last. The first of a batch always fits."""
        ...


class _Batch(BatchBuilder):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's builder, which takes many records in one call, which spares a third of what filling a batch costs."""

    def extend(self, records: Sequence[Outgoing], start: int, stop: int) -> int:
        """See `RawBatch.extend`."""
        append = self._builder.append
        offset: int = self.record_count()
        index = start
        for index in range(start, stop):
            _, value, key, _, headers, timestamp_ms = records[index]
            if type(headers) is not list:
                headers = list(headers)
            if append(offset, timestamp_ms, key, value, headers) is None:
                break
            offset += 1
        else:
            index = stop
        self._relative_offset = offset
        return index

    def _build(self) -> Any:
        with _zstd_level(1 if self.size() <= LEVEL_2_ABOVE_BYTES * self.record_count() else 2):
            return super()._build()


@contextmanager
def _zstd_level(level: int) -> Iterator[None]:
    """Within: the level that aiokafka compresses with. It has no setting for it (KIP-390), and takes 3."""
    encode = _ENCODING.zstd_encode
    _ENCODING.zstd_encode = partial(encode, level=level)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        _ENCODING.zstd_encode = encode  # type: ignore[attr-defined]


class RawProducer:
    """aiokafka's idempotent producer; `producer.SupervisedProducer` rebuilds it when it is poisoned."""

    def __init__(self, settings: KafkaSettings, tuning: ProducerSettings) -> None:
        self._batch_bytes = tuning.batch_bytes
        self._codec = _CODECS[tuning.compression]
        self._aio = AIOKafkaProducer(
            **connection_arguments(settings),
            acks="all",
            enable_idempotence=True,
            max_batch_size=tuning.batch_bytes,
            max_request_size=tuning.max_record_bytes,
            request_timeout_ms=tuning.request_timeout_ms,
        )

    async def start(self, timeout_s: float) -> None:
        try:
            await bounded(self._aio.start(), timeout_s, "start a producer")
        except KafkaFailure:
            await self.stop(0.0)
            raise

    async def stop(self, timeout_s: float) -> None:
        """Flush and close; what is not confirmed after `timeout_s` is given up, and may still reach the log."""
        try:
            if timeout_s > 0:
                await bounded(self._aio.stop(), timeout_s, "stop a producer")
                return
        except BrokerUnavailable:
            pass
        self._aio._closed = True
        accumulator = self._aio._message_accumulator
        accumulator.fail_all(errors.ProducerClosed())
        for batch in (batch for queue in accumulator._batches.values() for batch in queue):
            batch._drain_waiter.exception()  # nobody waits there, and asyncio would log that nobody did
        for opened in self._aio.client._conns.values():
            opened.close()
        await abandon(self._aio.client, [self._aio._sender.sender_task])

    def partitions(self, topic: str) -> int:
        """Partitions in the cached metadata, 0 if the topic is not in it."""
        return len(self._aio.client.cluster._partitions.get(topic, ()))  # its own method makes a set of all each time

    async def look_up(self, topics: Collection[str], timeout_s: float) -> dict[str, int]:
        """Partitions of those topics that exist, freshly asked for; raises `BrokerUnavailable`."""
        client = self._aio.client
        for topic in topics:
            client.add_topic(topic)
        deadline = time.monotonic() + timeout_s
        counts: dict[str, int] = {}
        for pause_s in (0.05, 0.2, 0.0):  # a topic just created needs a moment to be known everywhere
            remaining = max(0.01, deadline - time.monotonic())
            if not await bounded(awaiting(client.force_metadata_update()), remaining, "ask for topics"):
                raise BrokerUnavailable("ask for topics: no broker answers")
            counts = {topic: count for topic in topics if (count := self.partitions(topic))}
            if len(counts) == len(topics):
                return counts
            await asyncio.sleep(pause_s)
        client._topics.difference_update(set(topics) - set(counts))  # else every later refresh asks for them again
        return counts

    def batch(self, size_bytes: int) -> RawBatch:
        """An empty batch, for records of that size together. Compressing a small one costs more than all else in it."""
        if size_bytes < WORTH_COMPRESSING_BYTES:
            return _Batch(self._batch_bytes, _CODECS["none"])
        return _Batch(self._batch_bytes, self._codec)

    def submit(self, batch: RawBatch, topic: str, partition: int) -> asyncio.Future[Any]:
        """Hand a batch over; the future's result has `base_offset`-like attribute `offset` of its first record.

        Not through `AIOKafkaProducer.send_batch`: it waits for the partition's batch before, which is never there, and
        gives a future beside its own, so that whoever cancels one leaves the other; nobody cancels this one.
        """
        accumulator = self._aio._message_accumulator
        if accumulator._closed or accumulator._exception is not None:
            raise errors.ProducerClosed
        batch.close()  # type: ignore[attr-defined]  # aiokafka's builder; closed means: send without lingering
        submitted: asyncio.Future[Any] = accumulator._append_batch(batch, TopicPartition(topic, partition)).future
        return submitted


def is_refusal(error: BaseException) -> bool:
    """Whether the broker refused these very records; otherwise a new producer may send them again."""
    return isinstance(error, _REFUSALS)
