"""What batches are compressed with: ours, and those of others that nobody can read."""

import asyncio
import contextlib
import random
import struct
from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.codec import zstd_encode
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.util import calc_crc32c
from tests.brokers.clusters import ApacheCluster, Cluster, EmbeddedCluster
from tests.brokers.tools import Recorder, committed, fill, running, until

from heimdall_fleet.kafka.driver.consuming import Listener, RawConsumer
from heimdall_fleet.kafka.driver.producing import LEVEL_2_ABOVE_BYTES, WORTH_COMPRESSING_BYTES, RawProducer
from heimdall_fleet.kafka.driver.reading import TopicReader
from heimdall_fleet.kafka.errors import Unreadable
from heimdall_fleet.kafka.offsets import Checkpoint
from heimdall_fleet.kafka.records import Outgoing, Partition, Record
from heimdall_fleet.kafka.settings import Compression, IntakeSettings, ProducerSettings

Unique = Callable[[str], str]
NONE, GZIP, SNAPPY, ZSTD, UNKNOWN = 0, 1, 2, 4, 7
_CRC_AT, _ATTRIBUTES_AT, _RECORDS_AT = 17, 21, 61
_CODEC_BITS = 7


@pytest.mark.parametrize(
    ("size_bytes", "compression", "codec"),
    [
        (WORTH_COMPRESSING_BYTES - 1, "zstd", NONE),
        (WORTH_COMPRESSING_BYTES, "zstd", ZSTD),
        (WORTH_COMPRESSING_BYTES, "snappy", SNAPPY),
        (WORTH_COMPRESSING_BYTES, "gzip", GZIP),
        (WORTH_COMPRESSING_BYTES, "none", NONE),
    ],
)
async def test_a_small_batch_stays_uncompressed_and_a_large_one_is_written_as_configured(
    embedded_broker: EmbeddedCluster, size_bytes: int, compression: Compression, codec: int
) -> None:
    producer = RawProducer(embedded_broker.settings(), ProducerSettings(compression=compression))
    await producer.start(15.0)
    try:
        batch = producer.batch(size_bytes)
        assert batch.extend([Outgoing("any", b"x" * size_bytes)], 0, 1) == 1
        assert isinstance(batch, BatchBuilder)
        (attributes,) = struct.unpack_from(">h", batch._build(), _ATTRIBUTES_AT)
        assert attributes & _CODEC_BITS == codec
    finally:
        await producer.stop(1.0)


@pytest.mark.parametrize(("record_bytes", "level"), [(2_000, 1), (LEVEL_2_ABOVE_BYTES + 1, 2)])
async def test_small_records_are_compressed_at_a_lighter_level_than_long_conversations(
    embedded_broker: EmbeddedCluster, record_bytes: int, level: int
) -> None:
    rng = random.Random(record_bytes)
    records = [Outgoing("any", rng.randbytes(record_bytes // 4).hex().encode() * 2, timestamp_ms=1) for _ in range(40)]
    found = {}
    for compression in ("none", "zstd"):
        producer = RawProducer(embedded_broker.settings(), ProducerSettings(compression=compression))
        await producer.start(15.0)
        try:
            batch = producer.batch(40 * record_bytes)
            assert batch.extend(records, 0, 40) == 40
            assert isinstance(batch, BatchBuilder)
            found[compression] = bytes(batch._build()[_RECORDS_AT:])
        finally:
            await producer.stop(1.0)
    by_level = {each: zstd_encode(found["none"], each) for each in (1, 2, 3)}
    assert len(set(by_level.values())) == 3
    assert found["zstd"] == by_level[level]


class Deaf(Listener):
    async def on_revoked(self) -> None: ...

    async def on_assigned(self, partitions: frozenset[Partition]) -> None: ...


async def send_unreadable(cluster: Cluster, topic: str, partition: int, codec: int) -> None:
    """A batch whose head claims a codec that its records are not written in; its checksum is right. Raises KafkaError."""
    builder = BatchBuilder(1 << 16, 0)
    for _ in range(3):
        builder.append(timestamp=None, key=None, value=b'{"messages": []}', headers=[])
    raw = bytearray(builder._build())
    (attributes,) = struct.unpack_from(">h", raw, _ATTRIBUTES_AT)
    struct.pack_into(">h", raw, _ATTRIBUTES_AT, (attributes & ~_CODEC_BITS) | codec)
    struct.pack_into(">I", raw, _CRC_AT, calc_crc32c(bytes(raw[_ATTRIBUTES_AT:])))
    builder._buffer = raw
    async with AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, request_timeout_ms=5_000) as producer:
        await (await producer.send_batch(builder, topic, partition=partition))


@pytest.mark.kafka
@pytest.mark.parametrize("codec", [UNKNOWN, GZIP, ZSTD])
async def test_apache_kafka_takes_no_batch_that_cannot_be_read(
    apache_broker: ApacheCluster, unique: Unique, codec: int
) -> None:
    topic = unique("codecs")
    await apache_broker.create_topic(topic, 1)
    with pytest.raises(KafkaError):
        await send_unreadable(apache_broker, topic, 0, codec)


async def surround_unreadable(cluster: Cluster, topic: str, before: int, after: int) -> None:
    """A topic of one partition with a batch that cannot be read between good records."""
    await cluster.create_topic(topic, 1)
    await fill(cluster, topic, per_partition=before, partitions=1)
    await send_unreadable(cluster, topic, 0, GZIP)
    await fill(cluster, topic, per_partition=after, partitions=1)


async def test_a_batch_that_cannot_be_read_is_told_whole_with_its_offsets_and_what_is_wrong(
    embedded_broker: EmbeddedCluster, unique: Unique
) -> None:
    topic = unique("codecs")
    await surround_unreadable(embedded_broker, topic, before=5, after=1)
    consumer = RawConsumer(embedded_broker.settings(), unique("group"), [topic], Deaf())
    await consumer.start()
    try:
        await until(lambda: (topic, 0) in consumer.buffered())
        read: list[Record] = []
        async with asyncio.timeout(20):
            while len(read) < 5:
                with contextlib.suppress(Unreadable):
                    read += await consumer.poll((topic, 0), 1)
                await consumer.wait(0.5)
        damaged = await consumer.damaged((topic, 0))
        assert damaged is not None
        assert damaged.offset == 7
        assert f"a batch of 3 records, {topic}-0 at 5 to 7, cannot be decoded: BadGzipFile (gzip); " in damaged.why
        assert b'{"messages": []}' in (damaged.value or b"")
        consumer.seek((topic, 0), damaged.offset + 1)
        async with asyncio.timeout(20):
            while not (after := await consumer.poll((topic, 0), 1)):
                await consumer.wait(0.5)
        assert [record.offset for record in after] == [8]
    finally:
        await consumer.stop(1.0)


async def test_a_reader_passes_over_what_cannot_be_read_and_reads_all_else(
    embedded_broker: EmbeddedCluster, unique: Unique, caplog: pytest.LogCaptureFixture
) -> None:
    topic = unique("codecs")
    await surround_unreadable(embedded_broker, topic, before=2, after=2)
    async with asyncio.timeout(20), TopicReader(embedded_broker.settings()) as reader:
        assert [record.offset async for record in reader.read([topic])] == [0, 1, 5, 6]
    assert f"{topic}-0 at 2 to 4" in caplog.text


async def test_a_batch_that_cannot_be_read_holds_its_own_partition_and_no_other(
    embedded_broker: EmbeddedCluster, unique: Unique, caplog: pytest.LogCaptureFixture
) -> None:
    topic = unique("codecs")
    await embedded_broker.create_topic(topic, 2)
    await fill(embedded_broker, topic, per_partition=5, partitions=2)
    await send_unreadable(embedded_broker, topic, 0, GZIP)
    settings = IntakeSettings(
        group_id=unique("group"), topics=(topic,), retry_backoff_s=0.05, commit_interval_s=0.05, grace_s=5.0
    )
    recorder = Recorder()
    async with running(embedded_broker.settings(), settings, recorder) as intake:
        await until(lambda: intake.facts().group.unreadable == {(topic, 0)})
        await fill(embedded_broker, topic, per_partition=5, partitions=2)
        await until(lambda: len([place for place in recorder.ended if place[0] == 1]) == 10)
        assert len([place for place in recorder.ended if place[0] == 0]) == 5
    assert f"unreadable: {topic}-0" in caplog.text
    places = [(topic, 0), (topic, 1)]
    assert await committed(embedded_broker, settings.group_id, places) == {
        (topic, 0): Checkpoint(5, ""),
        (topic, 1): Checkpoint(10, ""),
    }
