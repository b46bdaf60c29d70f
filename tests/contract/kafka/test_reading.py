"""Reading without a group."""

import asyncio
from collections.abc import Callable

import pytest
from tests.brokers.clusters import ApacheCluster, Cluster
from tests.brokers.tools import fill, producing

from heimdall_fleet.kafka.driver.reading import PartitionReader, TopicReader
from heimdall_fleet.kafka.errors import UnknownTopic
from heimdall_fleet.kafka.records import Outgoing

Unique = Callable[[str], str]


async def test_whole_topics_are_read_to_their_present_end(cluster: Cluster, unique: Unique) -> None:
    topics = [unique("one"), unique("two"), unique("empty")]
    for topic in topics:
        await cluster.create_topic(topic, 3)
    for topic in topics[:2]:
        await fill(cluster, topic, per_partition=20, partitions=3)
    async with TopicReader(cluster.settings()) as reader:
        seen = [(record.topic, record.partition, record.offset) async for record in reader.read(topics)]
    assert sorted(seen) == sorted((topic, p, o) for topic in topics[:2] for p in range(3) for o in range(20))


async def test_following_goes_on_after_the_end(cluster: Cluster, unique: Unique) -> None:
    topic = unique("follow")
    await cluster.create_topic(topic, 1)
    await fill(cluster, topic, per_partition=2, partitions=1)
    values = []
    async with TopicReader(cluster.settings()) as reader, producing(cluster) as producer, asyncio.timeout(35):
        async for record in reader.read([topic], follow=True):
            values.append(record.value)  # something happens between the records
            if len(values) == 2:
                await producer.send(Outgoing(topic, b"later"))
            if len(values) == 3:
                break
    assert values == [b"0:0", b"0:1", b"later"]


@pytest.mark.kafka
async def test_reading_since_a_moment_leaves_out_what_was_written_before(
    apache_broker: ApacheCluster, unique: Unique
) -> None:
    topic = unique("since")
    await apache_broker.create_topic(topic, 2)
    async with producing(apache_broker) as producer:
        for moment_ms in (1_000, 2_000, 3_000):
            await producer.send(Outgoing(topic, b"%d" % moment_ms, None, 1, timestamp_ms=moment_ms))
    async with TopicReader(apache_broker.settings()) as reader:
        assert [record.value async for record in reader.read([topic], since_ms=2_000)] == [b"2000", b"3000"]


async def test_what_is_written_after_an_assignment_at_the_end_is_read_and_nothing_before(
    cluster: Cluster, unique: Unique
) -> None:
    topic = unique("end")
    await cluster.create_topic(topic, 2)
    await fill(cluster, topic, per_partition=5, partitions=2)
    reader = PartitionReader(cluster.settings(), 10.0)
    await reader.start()
    await reader.assign([(topic, 1)], from_end=True)
    async with producing(cluster) as producer:
        await asyncio.gather(*(producer.send(Outgoing(topic, b"new", None, p)) for p in range(2)))
    async with asyncio.timeout(30):
        while not (records := await reader.read()):
            pass
    assert [(record.partition, record.offset, record.value) for record in records] == [(1, 5, b"new")]
    await reader.stop()


async def test_an_unknown_topic_is_said_to_be_unknown(cluster: Cluster, unique: Unique) -> None:
    async with TopicReader(cluster.settings()) as reader:
        with pytest.raises(UnknownTopic, match="does not exist"):
            async for _ in reader.read([unique("nowhere")]):
                pass
