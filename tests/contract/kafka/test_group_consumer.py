"""What `group.Group` expects of a consumer; the fake keeps it as the real ones do."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
from tests.brokers.clusters import Cluster
from tests.brokers.fakes import FakeConsumer, FakeLog
from tests.brokers.tools import fill

from heimdall_fleet.kafka.driver.consuming import RawConsumer, RawConsuming
from heimdall_fleet.kafka.offsets import Checkpoint
from heimdall_fleet.kafka.records import Partition, Record

Unique = Callable[[str], str]


class Watch:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.assigned: frozenset[Partition] = frozenset()

    async def on_revoked(self) -> None:
        self.calls.append("revoked")

    async def on_assigned(self, partitions: frozenset[Partition]) -> None:
        self.calls.append("assigned")
        self.assigned = partitions


class Unhelped(RawConsumer):
    """As where aiokafka makes its own records first."""

    def _read_as_ours(self, wanted: object) -> None:
        pass


@pytest.fixture(params=["fake", "unhelped", "embedded", pytest.param("apache", marks=pytest.mark.kafka)])
async def member(request: pytest.FixtureRequest, unique: Unique) -> AsyncIterator[tuple[RawConsuming, Watch, str]]:
    """A started consumer of a topic with two partitions of ten records."""
    watch, topic = Watch(), unique("contract")
    consumer: RawConsuming
    if request.param == "fake":
        log = FakeLog()
        for number in range(2):
            log.append((topic, number), *(b"%d:%d" % (number, i) for i in range(10)))
        consumer = FakeConsumer(log, watch, [(topic, 0), (topic, 1)])
    else:
        broker = "embedded" if request.param == "unhelped" else request.param
        cluster: Cluster = request.getfixturevalue(f"{broker}_broker")
        await cluster.create_topic(topic, 2)
        await fill(cluster, topic, per_partition=10, partitions=2)
        kind = Unhelped if request.param == "unhelped" else RawConsumer
        consumer = kind(cluster.settings(), unique("group"), [topic], watch)
    await consumer.start()
    yield consumer, watch, topic
    await consumer.stop(5.0)


Member = tuple[RawConsuming, Watch, str]


async def arrived(consumer: RawConsuming, partition: Partition) -> None:
    async with asyncio.timeout(10):
        while partition not in consumer.buffered():
            await consumer.keep_alive()
            await consumer.wait(0.1)
            await asyncio.sleep(0.005)


async def test_joining_revokes_nothing_and_then_assigns(member: Member) -> None:
    consumer, watch, topic = member
    assert watch.calls == ["revoked", "assigned"]
    assert watch.assigned == {(topic, 0), (topic, 1)}
    assert consumer.reachable
    assert consumer.is_member
    assert not consumer.dead
    assert consumer.metadata_age_s < 10


async def test_a_poll_gives_one_partition_in_order_and_never_too_much(member: Member) -> None:
    consumer, _, topic = member
    place = (topic, 1)
    seen: list[Record] = []
    while len(seen) < 10:
        await arrived(consumer, place)
        polled = await consumer.poll(place, 4)
        assert 0 < len(polled) <= 4
        seen += polled
    assert seen == [Record(topic, 1, i, seen[i].timestamp_ms, None, b"1:%d" % i, ()) for i in range(10)]
    assert {type(record) for record in seen} == {Record}
    assert consumer.highwater(place) == 10
    assert list(await consumer.poll(place, 4)) == []
    assert (consumer.position(place), consumer.position((topic, 99))) == (10, None)


async def test_a_seek_puts_records_back(member: Member) -> None:
    consumer, _, topic = member
    place = (topic, 0)
    await arrived(consumer, place)
    await consumer.poll(place, 3)
    assert consumer.position(place) == 3
    consumer.seek(place, 1)
    assert consumer.position(place) == 1
    consumer.seek((topic, 99), 1)  # not assigned: nothing happens
    await arrived(consumer, place)
    assert (await consumer.poll(place, 1))[0].offset == 1


async def test_a_commit_is_read_back_with_its_metadata(member: Member) -> None:
    consumer, _, topic = member
    places = [(topic, 0), (topic, 1)]
    assert await consumer.committed(places, 5.0) == {}
    checkpoints: Mapping[Partition, Checkpoint] = {(topic, 0): Checkpoint(4, "h1:1,2")}
    await consumer.commit(checkpoints, 5.0)
    assert await consumer.committed(places, 5.0) == checkpoints


async def test_metadata_can_be_asked_for(member: Member) -> None:
    consumer, _, _ = member
    await consumer.refresh(5.0)
    assert consumer.reachable
