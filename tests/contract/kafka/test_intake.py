"""What the fleet expects of the slow-handler consumer, on every broker."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaProducer
from tests.brokers.clusters import ApacheCluster, Cluster, EmbeddedCluster
from tests.brokers.tools import Recorder, committed, fill, running, until

from heimdall_fleet.kafka.intake import open_intake
from heimdall_fleet.kafka.offsets import Checkpoint
from heimdall_fleet.kafka.records import Record
from heimdall_fleet.kafka.settings import IntakeSettings

Unique = Callable[[str], str]


@pytest.fixture
async def topic(cluster: Cluster, unique: Unique) -> str:
    name = unique("intake")
    await cluster.create_topic(name, 4)
    await fill(cluster, name, per_partition=30, partitions=4)
    return name


def settings_for(topic: str, unique: Unique) -> IntakeSettings:
    return IntakeSettings(
        group_id=unique("group"), topics=(topic,), retry_backoff_s=0.05, commit_interval_s=0.05, grace_s=5.0
    )


async def test_every_record_is_handled_once_and_committed(cluster: Cluster, topic: str, unique: Unique) -> None:
    settings = settings_for(topic, unique)
    recorder = Recorder()
    async with running(cluster.settings(), settings, recorder) as intake:
        await until(lambda: len(recorder.ended) == 120)
        await until(lambda: intake.facts().group.joined)
        assert sum(intake.facts().group.lag.values()) == 0
    assert sorted(recorder.ended) == [(p, o) for p in range(4) for o in range(30)]
    places = [(topic, p) for p in range(4)]
    assert await committed(cluster, settings.group_id, places) == {place: Checkpoint(30, "") for place in places}


async def test_a_slow_record_holds_back_nobody_and_only_it_is_repeated(
    cluster: Cluster, topic: str, unique: Unique
) -> None:
    settings = replace(settings_for(topic, unique), grace_s=0.2)
    recorder = Recorder()
    recorder.hold((1, 3), (1, 7))
    async with running(cluster.settings(), settings, recorder):
        await until(lambda: len(recorder.ended) == 118)
        await asyncio.sleep(0.1)  # a commit
    assert await committed(cluster, settings.group_id, [(topic, 1)]) == {(topic, 1): Checkpoint(3, "h1:1,3,1,22")}

    successor = Recorder()
    async with running(cluster.settings(), settings, successor):
        await until(lambda: len(successor.ended) == 2)
        await asyncio.sleep(0.3)
    assert sorted(successor.ended) == [(1, 3), (1, 7)]
    assert await committed(cluster, settings.group_id, [(topic, 1)]) == {(topic, 1): Checkpoint(30, "")}


async def test_a_map_that_no_commit_can_hold_is_cut_and_no_commit_fails(cluster: Cluster, unique: Unique) -> None:
    topic, count = unique("map"), 2_000
    await cluster.create_topic(topic, 1)
    await fill(cluster, topic, per_partition=count, partitions=1)
    settings = replace(settings_for(topic, unique), max_in_flight=2 * count)
    recorder = Recorder()
    recorder.hold(*((0, offset) for offset in range(0, count, 2)))
    async with running(cluster.settings(), settings, recorder) as intake:
        await until(lambda: intake.facts().group.held == {(topic, 0)}, 20)
        await until(lambda: len(recorder.begun) == count, 20)
        recorder.let_go()
        await until(lambda: len(recorder.ended) == count, 20)
        await fill(cluster, topic, per_partition=1, partitions=1)
        await until(lambda: len(recorder.ended) == count + 1, 20)
        assert intake.facts().group.commits_failed == 0
    assert await committed(cluster, settings.group_id, [(topic, 0)]) == {(topic, 0): Checkpoint(count + 1, "")}


async def test_a_record_whose_handler_raises_is_kept_and_tried_again(
    cluster: Cluster, topic: str, unique: Unique, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_for(topic, unique)
    recorder = Recorder()
    tries: list[Record] = []

    async def handler(record: Record) -> None:
        if (record.partition, record.offset) == (2, 5):
            tries.append(record)
            if len(tries) < 3:
                raise RuntimeError("the provider of something is away")
        await recorder(record)

    async with running(cluster.settings(), settings, handler) as intake:
        await until(lambda: len(recorder.ended) == 120)
        assert intake.facts().failures == 2
        assert intake.facts().failing == 0
    assert [record.value for record in tries] == [b"2:5"] * 3
    assert len(recorder.ended) == 120
    assert "handler failed" in caplog.text


async def test_a_handler_past_its_deadline_is_cancelled_and_its_record_kept(
    cluster: Cluster, topic: str, unique: Unique
) -> None:
    settings = replace(settings_for(topic, unique), handler_deadline_s=0.1)
    recorder = Recorder()
    recorder.hold((0, 0))
    async with running(cluster.settings(), settings, recorder):
        await until(lambda: recorder.begun.count((0, 0)) >= 2)
        recorder.let_go()
        await until(lambda: len(recorder.ended) == 120)
    assert await committed(cluster, settings.group_id, [(topic, 0)]) == {(topic, 0): Checkpoint(30, "")}


@pytest.mark.parametrize("bound", ["count", "bytes"])
async def test_what_is_in_flight_is_bounded(cluster: Cluster, topic: str, unique: Unique, bound: str) -> None:
    settings = settings_for(topic, unique)
    settings = replace(settings, max_in_flight=4) if bound == "count" else replace(settings, max_in_flight_bytes=12)
    recorder = Recorder()
    recorder.hold(*((p, o) for p in range(4) for o in range(30)))
    async with running(cluster.settings(), settings, recorder) as intake:
        await until(lambda: len(recorder.begun) == 4)  # values are three or four bytes long
        await asyncio.sleep(0.1)
        assert len(recorder.begun) == intake.facts().in_flight == 4
        recorder.let_go()
        await until(lambda: len(recorder.ended) == 120)


async def test_a_little_room_is_shared_by_all_partitions(cluster: Cluster, topic: str, unique: Unique) -> None:
    settings = replace(settings_for(topic, unique), max_in_flight=4)
    recorder = Recorder()
    async with running(cluster.settings(), settings, recorder):
        await until(lambda: len(recorder.ended) == 120)
    fetched_everywhere = next(i for i in range(120) if len({p for p, _ in recorder.begun[:i]}) == 4)
    after = recorder.begun[fetched_everywhere : fetched_everywhere + 16]
    assert {p for p, _ in after} == {0, 1, 2, 3}


async def test_a_paused_intake_hands_out_nothing_and_stays_a_member(
    cluster: Cluster, topic: str, unique: Unique
) -> None:
    settings = settings_for(topic, unique)
    recorder = Recorder()
    intake = open_intake(cluster.settings(), settings, recorder)
    intake.pause()
    task = asyncio.ensure_future(intake.run())
    await asyncio.sleep(0.2)
    assert recorder.begun == []
    intake.resume()
    await until(lambda: len(recorder.ended) == 120)
    intake.stop()
    await task


async def test_a_stop_waits_for_handlers_and_cancels_them_after_the_grace(
    cluster: Cluster, topic: str, unique: Unique
) -> None:
    settings = replace(settings_for(topic, unique), grace_s=0.3)
    recorder = Recorder()
    recorder.hold((0, 0), (3, 29))
    intake = open_intake(cluster.settings(), settings, recorder)
    task = asyncio.ensure_future(intake.run())
    await until(lambda: len(recorder.ended) == 118)
    intake.stop()
    await asyncio.sleep(0.05)
    recorder.held[3, 29].set()
    begun = time.monotonic()
    await task
    assert time.monotonic() - begun < 2.0
    assert (3, 29) in recorder.ended
    found = await committed(cluster, settings.group_id, [(topic, 0), (topic, 3)])
    assert found == {(topic, 0): Checkpoint(0, "h1:1,29"), (topic, 3): Checkpoint(30, "")}


async def test_a_handler_that_ignores_its_cancellation_costs_neither_the_membership_nor_the_commit(
    cluster: Cluster, topic: str, unique: Unique
) -> None:
    settings = replace(settings_for(topic, unique), handler_deadline_s=0.1, grace_s=0.3)
    recorder, released, deaf = Recorder(), asyncio.Event(), 0

    async def handler(record: Record) -> None:
        nonlocal deaf
        while (record.partition, record.offset) == (0, 3) and not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                deaf += 1
        await recorder(record)

    intake = open_intake(cluster.settings(), settings, handler)
    task = asyncio.ensure_future(intake.run())
    try:
        await until(lambda: len(recorder.ended) == 119 and deaf > 0)
        assert intake.facts().group.joined
        intake.stop()
        async with asyncio.timeout(15):
            await task
        places = [(topic, 0), (topic, 1)]
        assert await committed(cluster, settings.group_id, places) == {
            (topic, 0): Checkpoint(3, "h1:1,26"),
            (topic, 1): Checkpoint(30, ""),
        }
    finally:
        released.set()


async def test_a_broker_that_is_gone_is_reported_and_its_records_are_handled_when_it_is_back(
    embedded_broker: EmbeddedCluster, unique: Unique
) -> None:
    topic = unique("gone")
    await embedded_broker.create_topic(topic, 2)
    await fill(embedded_broker, topic, per_partition=5, partitions=2)
    recorder = Recorder()
    async with running(embedded_broker.settings(), settings_for(topic, unique), recorder) as intake:
        await until(lambda: len(recorder.ended) == 10)
        assert intake.facts().group.broker_reachable
        embedded_broker.broker.set_up(False)
        try:
            await until(lambda: not intake.facts().group.broker_reachable)
        finally:
            embedded_broker.broker.set_up(True)
        await fill(embedded_broker, topic, per_partition=5, partitions=2)
        await until(lambda: len(recorder.ended) == 20)
        await until(lambda: intake.facts().group.broker_reachable)


async def test_a_broker_that_is_not_there_yet_is_waited_for(embedded_broker: EmbeddedCluster, unique: Unique) -> None:
    topic = unique("later")
    await embedded_broker.create_topic(topic, 1)
    await fill(embedded_broker, topic, per_partition=1, partitions=1)
    recorder = Recorder()
    embedded_broker.broker.set_up(False)
    try:
        async with running(embedded_broker.settings(), settings_for(topic, unique), recorder) as intake:
            await asyncio.sleep(0.1)
            assert not intake.facts().group.joined
            embedded_broker.broker.set_up(True)
            await until(lambda: len(recorder.ended) == 1)
    finally:
        embedded_broker.broker.set_up(True)


@pytest.mark.kafka
async def test_of_transactions_only_what_was_committed_is_handled(apache_broker: ApacheCluster, unique: Unique) -> None:
    topic = unique("intake")
    await apache_broker.create_topic(topic, 1)
    settings = settings_for(topic, unique)
    recorder = Recorder()
    async with (
        AIOKafkaProducer(bootstrap_servers=apache_broker.bootstrap, transactional_id=unique("writer")) as producer,
        running(apache_broker.settings(), settings, recorder) as intake,
    ):
        for ends, count in (("abort", 3), ("commit", 2), ("abort", 1)):
            await producer.begin_transaction()
            for _ in range(count):
                await producer.send_and_wait(topic, b"x", partition=0)
            await (producer.abort_transaction() if ends == "abort" else producer.commit_transaction())
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"x", partition=0)
        await until(lambda: len(recorder.ended) == 2)
        await asyncio.sleep(0.5)  # what must not come has time to
        assert sorted(recorder.ended) == [(0, 4), (0, 5)]
        await producer.commit_transaction()
        await until(lambda: len(recorder.ended) == 3)
        await until(lambda: intake.facts().group.lag == {(topic, 0): 0})  # the marker at 10 is no record to wait for
    assert recorder.ended[-1] == (0, 9)
    assert await committed(apache_broker, settings.group_id, [(topic, 0)]) == {(topic, 0): Checkpoint(11, "")}
