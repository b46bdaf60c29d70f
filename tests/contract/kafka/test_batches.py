"""What triage expects of the micro-batch consumer, on every broker."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from tests.brokers.clusters import Cluster
from tests.brokers.tools import committed, fill, until

from heimdall_fleet.kafka.batches import Batches, open_batches
from heimdall_fleet.kafka.offsets import Checkpoint
from heimdall_fleet.kafka.records import Batch
from heimdall_fleet.kafka.settings import BatchSettings

Unique = Callable[[str], str]


@pytest.fixture
async def topic(cluster: Cluster, unique: Unique) -> str:
    name = unique("batches")
    await cluster.create_topic(name, 3)
    await fill(cluster, name, per_partition=100, partitions=3)
    return name


@pytest.fixture
def settings(topic: str, unique: Unique) -> BatchSettings:
    return BatchSettings(group_id=unique("group"), topics=(topic,), max_records=64, max_open_batches=20)


@pytest.fixture
async def batches(cluster: Cluster, settings: BatchSettings) -> AsyncIterator[Batches]:
    source = open_batches(cluster.settings(), settings)
    source.start()
    yield source
    await source.stop(0.0)


async def next_of(source: Batches) -> Batch:
    async with asyncio.timeout(15):
        batch = await source.next_batch()
    assert batch is not None
    return batch


async def test_batches_hold_every_record_once_and_never_too_many(batches: Batches, settings: BatchSettings) -> None:
    seen: list[tuple[int, int]] = []
    while len(seen) < 300:
        batch = await next_of(batches)
        assert 0 < len(batch.records) <= settings.max_records
        seen += [(record.partition, record.offset) for record in batch.records]
        batches.commit(batch)
    assert sorted(seen) == [(p, o) for p in range(3) for o in range(100)]
    assert batches.facts().finished == 300


async def test_an_open_batch_holds_the_position_and_the_map_covers_the_younger_ones(
    cluster: Cluster, batches: Batches, settings: BatchSettings
) -> None:
    topic = settings.topics[0]
    open_ones: list[Batch] = []
    count = 0
    while count < 300:
        open_ones.append(await next_of(batches))
        count += len(open_ones[-1].records)
    first = open_ones.pop(0)
    for batch in open_ones:
        batches.commit(batch)
    await batches.stop(0.05)
    place = (topic, first.records[0].partition)
    count = sum(1 for record in first.records if record.partition == place[1])
    expected = {(topic, p): Checkpoint(100, "") for p in range(3)}
    expected |= {(topic, record.partition): Checkpoint(0, "") for record in first.records}
    if count < 100:
        expected[place] = Checkpoint(0, f"h1:{count},{100 - count}")
    assert await committed(cluster, settings.group_id, list(expected)) == expected


async def test_a_batch_is_committed_once(batches: Batches) -> None:
    batch = await next_of(batches)
    batches.commit(batch)
    with pytest.raises(ValueError, match="committed before"):
        batches.commit(batch)


async def test_waiting_for_a_batch_may_be_cancelled_without_losing_records(batches: Batches) -> None:
    seen = 0
    while seen < 300:
        try:
            batch = await asyncio.wait_for(batches.next_batch(), 0.001)
        except TimeoutError:
            continue
        assert batch is not None
        seen += len(batch.records)
        batches.commit(batch)
    assert seen == 300


async def test_too_many_open_batches_make_the_next_one_wait(cluster: Cluster, topic: str, unique: Unique) -> None:
    source = open_batches(
        cluster.settings(),
        BatchSettings(group_id=unique("group"), topics=(topic,), max_records=10, max_open_batches=2),
    )
    source.start()
    first, _ = await next_of(source), await next_of(source)
    waiting = asyncio.ensure_future(source.next_batch())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    source.commit(first)
    assert (await waiting) is not None
    await source.stop(0.0)


async def test_a_stop_ends_the_wait_and_lets_open_batches_be_committed(
    cluster: Cluster, batches: Batches, settings: BatchSettings
) -> None:
    batch = await next_of(batches)
    stopping = asyncio.ensure_future(batches.stop(5.0))
    assert await batches.next_batch() is None
    await asyncio.sleep(0)
    batches.commit(batch)
    await stopping
    places = {(record.topic, record.partition) for record in batch.records}
    found = await committed(cluster, settings.group_id, sorted(places))
    assert sum(checkpoint.position for checkpoint in found.values()) == len(batch.records)


async def test_batches_are_committed_at_once(cluster: Cluster, settings: BatchSettings) -> None:
    batches = open_batches(cluster.settings(), replace(settings, commit_interval_s=600.0))
    batches.start()
    batches.commit(await next_of(batches))
    await until(lambda: batches.facts().group.commits >= 1)
    assert batches.facts().open_batches == 0
    await batches.stop(0.0)
