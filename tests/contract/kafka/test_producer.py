"""What the fleet expects of its producer, on every broker."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from tests.brokers.clusters import ApacheCluster, Cluster, EmbeddedCluster
from tests.brokers.tools import producing

from heimdall_fleet.kafka.driver.reading import TopicReader
from heimdall_fleet.kafka.errors import (
    DeliveryRefused,
    DeliveryUnknown,
    NeverSent,
    ProducerFull,
    RecordTooLarge,
    UnknownPartition,
    UnknownTopic,
)
from heimdall_fleet.kafka.records import Outgoing, Record
from heimdall_fleet.kafka.settings import KIB, ProducerSettings

Unique = Callable[[str], str]


async def read(cluster: Cluster, topic: str) -> list[Record]:
    async with TopicReader(cluster.settings()) as reader:
        return [record async for record in reader.read([topic])]


async def test_a_record_arrives_as_it_was_sent(cluster: Cluster, unique: Unique) -> None:
    topic = unique("whole")
    await cluster.create_topic(topic, 3)
    an_hour_ago_ms = int(time.time() * 1000) - 3_600_000
    sent = Outgoing(topic, b"value", b"key", 2, [("a", b"1"), ("b", None)], an_hour_ago_ms)
    async with producing(cluster) as producer:
        assert await producer.send(sent) == 0
    assert await read(cluster, topic) == [
        Record(topic, 2, 0, an_hour_ago_ms, b"key", b"value", (("a", b"1"), ("b", None)))
    ]


async def test_a_partition_keeps_the_order_of_the_calls(cluster: Cluster, unique: Unique) -> None:
    topic = unique("order")
    await cluster.create_topic(topic, 2)
    small_batches = replace(ProducerSettings(), batch_bytes=2 * KIB)
    async with producing(cluster, small_batches) as producer:
        acks = [producer.send(Outgoing(topic, b"%d" % i + b"x" * 100, None, 1)) for i in range(200)]
        acks.append(producer.send_batch(topic, 1, [Outgoing(topic, b"%d" % i) for i in range(200, 300)]))
        offsets = await asyncio.gather(*acks)
    assert offsets == [*range(200), 299]
    assert [int((record.value or b"").rstrip(b"x")) for record in await read(cluster, topic)] == list(range(300))


async def test_records_of_a_patient_topic_wait_for_company_and_hold_up_nobody(cluster: Cluster, unique: Unique) -> None:
    patient, prompt = unique("patient"), unique("prompt")
    for topic in (patient, prompt):
        await cluster.create_topic(topic, 1)
    async with producing(cluster, ProducerSettings(linger_ms=1, patient_ms={patient: 3_600_000})) as producer:
        assert await producer.partition_count(patient) == await producer.partition_count(prompt) == 1
        waiting = [producer.send(Outgoing(patient, b"%d" % i, None, 0)) for i in range(3)]
        assert await producer.send(Outgoing(prompt, b"now", None, 0)) == 0
        assert producer.facts().pending_records == 3
        assert await producer.flush(20.0)
        assert await asyncio.gather(*waiting) == [0, 1, 2]


async def test_a_key_without_a_partition_goes_where_the_default_partitioner_sends_it(
    cluster: Cluster, unique: Unique
) -> None:
    topic = unique("keys")
    await cluster.create_topic(topic, 8)
    async with producing(cluster) as producer:
        await asyncio.gather(*(producer.send(Outgoing(topic, b"", key)) for key in (b"abc", b"foobar", b"abc")))
        await asyncio.gather(*(producer.send(Outgoing(topic, b"")) for _ in range(16)))
    placed = {(record.key, record.partition) for record in await read(cluster, topic) if record.key}
    # The hashes are those of Kafka's own UtilsTest; its partitioner clears the sign bit.
    assert placed == {(b"abc", 479470107 % 8), (b"foobar", (-790332482 & 0x7FFFFFFF) % 8)}
    assert {record.partition for record in await read(cluster, topic) if record.key is None} == set(range(8))


async def test_what_can_never_be_sent_is_refused_and_disturbs_nothing(cluster: Cluster, unique: Unique) -> None:
    topic = unique("refused")
    await cluster.create_topic(topic, 2)
    async with producing(cluster, replace(ProducerSettings(), max_record_bytes=100 * KIB)) as producer:
        with pytest.raises(RecordTooLarge, match="max_record_bytes"):
            producer.send(Outgoing(topic, b"x" * 101 * KIB, None, 0))
        with pytest.raises(RecordTooLarge):
            producer.send(Outgoing(topic, b"x" * 90 * KIB, None, 0, [("h", b"y" * 11 * KIB)]))
        with pytest.raises(UnknownPartition, match="has 2 partitions"):
            await producer.send(Outgoing(topic, b"x", None, 2))
        with pytest.raises(NeverSent):
            producer.send_batch(topic, 0, [])
        assert await producer.send(Outgoing(topic, b"x" * 99 * KIB, None, 0)) == 0
        assert producer.facts().replaced == 0


async def test_bytes_waiting_for_the_broker_are_bounded(cluster: Cluster, unique: Unique) -> None:
    topic = unique("full")
    await cluster.create_topic(topic, 1)
    async with producing(cluster, replace(ProducerSettings(), max_pending_bytes=1000)) as producer:
        ack = producer.send(Outgoing(topic, b"x" * 900, None, 0))
        with pytest.raises(ProducerFull, match="limit is 1000"):
            producer.send(Outgoing(topic, b"x" * 200, None, 0))
        assert await ack == 0
        assert await producer.send(Outgoing(topic, b"x" * 900, None, 0)) == 1
        assert producer.facts().pending_bytes == 0


async def test_a_poisoned_producer_is_replaced_and_sends_what_waited(
    embedded_broker: EmbeddedCluster, unique: Unique
) -> None:
    topic = unique("poison")
    await embedded_broker.create_topic(topic, 4)
    async with producing(embedded_broker) as producer:
        await producer.send(Outgoing(topic, b"first", None, 0))
        out_of_order, fenced, unknown_id = 45, 47, 59
        for code in (out_of_order, fenced, unknown_id):
            embedded_broker.broker.refuse_produce([code])
            await asyncio.gather(*(producer.send(Outgoing(topic, b"%d" % p, None, p)) for p in range(4)))
        assert producer.facts().replaced == 3
    assert len(await read(embedded_broker, topic)) == 13


async def test_only_the_record_that_the_broker_refuses_fails(embedded_broker: EmbeddedCluster, unique: Unique) -> None:
    topic = unique("guilty")
    await embedded_broker.create_topic(topic, 1)
    async with producing(embedded_broker) as producer:
        await producer.partition_count(topic)
        too_large = 10
        embedded_broker.broker.refuse_produce([too_large, too_large])  # the batch, then its first record alone
        acks = [producer.send(Outgoing(topic, b"%d" % i, None, 0)) for i in range(4)]
        outcomes = await asyncio.gather(*acks, return_exceptions=True)
        assert isinstance(outcomes[0], DeliveryRefused)
        assert outcomes[1:] == [0, 1, 2]
        assert producer.facts().refused == 1


async def test_a_broker_that_comes_back_gets_what_waited(embedded_broker: EmbeddedCluster, unique: Unique) -> None:
    topic = unique("back")
    await embedded_broker.create_topic(topic, 4)
    async with producing(embedded_broker) as producer:
        await producer.send(Outgoing(topic, b"before", None, 0))
        embedded_broker.broker.set_up(False)
        acks = [producer.send(Outgoing(topic, b"%d" % p, None, p)) for p in range(4)]
        assert not await producer.flush(0.2)
        embedded_broker.broker.set_up(True)
        assert await asyncio.gather(*acks) == [1, 0, 0, 0]


async def test_a_delivery_time_out_says_unknown(embedded_broker: EmbeddedCluster, unique: Unique) -> None:
    topic = unique("late")
    await embedded_broker.create_topic(topic, 1)
    async with producing(embedded_broker, replace(ProducerSettings(), delivery_timeout_s=0.1)) as producer:
        await producer.send(Outgoing(topic, b"before", None, 0))
        embedded_broker.broker.set_up(False)
        try:
            with pytest.raises(DeliveryUnknown, match="in time"):
                await producer.send(Outgoing(topic, b"late", None, 0))
            assert producer.facts().timed_out == 1
            assert producer.facts().pending_records == 0
        finally:
            embedded_broker.broker.set_up(True)


async def test_a_stop_without_a_broker_is_bounded_and_says_unknown(
    embedded_broker: EmbeddedCluster, unique: Unique
) -> None:
    topic = unique("gone")
    await embedded_broker.create_topic(topic, 1)
    async with producing(embedded_broker) as producer:
        await producer.send(Outgoing(topic, b"before", None, 0))
        embedded_broker.broker.set_up(False)
        try:
            ack = producer.send(Outgoing(topic, b"lost?", None, 0))
            begun = time.monotonic()
            await producer.stop(0.1)
            assert time.monotonic() - begun < 8.0
            with pytest.raises(DeliveryUnknown):
                await ack
        finally:
            embedded_broker.broker.set_up(True)


@pytest.mark.kafka
async def test_an_unknown_topic_is_refused_quickly(apache_broker: ApacheCluster, unique: Unique) -> None:
    async with producing(apache_broker) as producer:
        begun = time.monotonic()
        with pytest.raises(UnknownTopic, match="does not exist"):
            await producer.send(Outgoing(unique("nowhere"), b"x"))
        with pytest.raises(UnknownTopic):
            await producer.partition_count(unique("nowhere"))
        assert time.monotonic() - begun < 3.0


@pytest.mark.kafka
async def test_apache_kafka_poisons_after_a_too_large_record_and_the_neighbours_arrive(
    apache_broker: ApacheCluster, unique: Unique
) -> None:
    topic = unique("small")
    await apache_broker.create_topic(topic, 1, {"max.message.bytes": "20000"})
    tuning = ProducerSettings(batch_bytes=15 * KIB)  # a batch fits, one record of random bytes does not
    random = Random(4711).randbytes(64 * KIB)
    async with producing(apache_broker, tuning) as producer:
        await producer.send(Outgoing(topic, b"first", None, 0))
        values = [b"a", b"b", random, b"c", b"d"]
        outcomes = await asyncio.gather(
            *(producer.send(Outgoing(topic, value, None, 0)) for value in values), return_exceptions=True
        )
        assert isinstance(outcomes[2], DeliveryRefused)
        await producer.send(Outgoing(topic, b"after", None, 0))
        assert producer.facts().replaced >= 1
    kept = [record.value for record in await read(apache_broker, topic)]
    assert list(dict.fromkeys(kept)) == [b"first", b"a", b"b", b"c", b"d", b"after"]
