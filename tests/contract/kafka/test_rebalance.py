"""Members that come, go, die and stand still. Only Apache Kafka knows groups of more than one member."""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.brokers.clusters import ApacheCluster
from tests.brokers.tools import Recorder, commit_history, fill, running, until

from heimdall_fleet.kafka.batches import open_batches
from heimdall_fleet.kafka.driver.admin import RawAdmin
from heimdall_fleet.kafka.driver.consuming import RawConsumer
from heimdall_fleet.kafka.errors import NotAMember
from heimdall_fleet.kafka.offsets import Checkpoint, decode_finished
from heimdall_fleet.kafka.records import Partition
from heimdall_fleet.kafka.settings import BatchSettings, IntakeSettings

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

Unique = Callable[[str], str]
Place = tuple[int, int]

PARTITIONS = 6


class Member:
    """A worker process and what its log says."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    def places(self, what: str) -> list[Place]:
        words = [line.split() for line in self._log.read_text().splitlines()]
        return [(int(line[1]), int(line[2])) for line in words if line[0] == what and len(line) == 3]

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self) -> int:
        return await self._process.wait()


@asynccontextmanager
async def member(cluster: ApacheCluster, group_id: str, topic: str, log: Path, seconds: float) -> AsyncIterator[Member]:
    log.touch()
    root = Path(__file__).parents[3]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.brokers.member"),
        *(cluster.bootstrap, group_id, topic, str(log), str(seconds)),
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
    )
    try:
        yield Member(process, log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def filled(cluster: ApacheCluster, topic: str, per_partition: int) -> set[Place]:
    await cluster.create_topic(topic, PARTITIONS)
    await fill(cluster, topic, per_partition, PARTITIONS)
    return {(p, o) for p in range(PARTITIONS) for o in range(per_partition)}


async def positions(cluster: ApacheCluster, group_id: str) -> dict[int, int]:
    async with RawAdmin(cluster.settings()) as admin:
        return {place[1]: at.position for place, at in (await admin.group_offsets(group_id)).items()}


async def kept(cluster: ApacheCluster, group_id: str) -> set[Place]:
    """Every record that the group's positions and maps call finished."""
    async with RawAdmin(cluster.settings()) as admin:
        return {
            (partition, offset)
            for (_, partition), at in (await admin.group_offsets(group_id)).items()
            for start, end in [(0, at.position), *decode_finished(at.position, at.metadata)]
            for offset in range(start, end)
        }


async def until_kept(cluster: ApacheCluster, group_id: str, ended: set[Place]) -> None:
    """A coordinator that has just come back needs a while to know a group; until then nothing is committed."""
    async with asyncio.timeout(60):
        while not ended <= await kept(cluster, group_id):  # noqa: ASYNC110 # it happens in the broker
            await asyncio.sleep(0.2)


def slow(recorder: Recorder, seconds: float) -> Recorder:
    """The recorder, with every record taking that long."""

    class Slow(Recorder):
        async def __call__(self, record):  # type: ignore[no-untyped-def]  # the signature is Recorder's
            recorder.begun.append((record.partition, record.offset))
            await asyncio.sleep(seconds)
            recorder.ended.append((record.partition, record.offset))

    return Slow()


async def test_a_member_that_joins_repeats_little_and_the_first_repeats_nothing(
    apache_broker: ApacheCluster, unique: Unique
) -> None:
    topic = unique("join")
    everything = await filled(apache_broker, topic, per_partition=40)
    settings = IntakeSettings(group_id=unique("group"), topics=(topic,), max_in_flight=30, commit_interval_s=0.1)
    first, second = Recorder(), Recorder()
    async with running(apache_broker.settings(), settings, slow(first, 0.3)):
        await until(lambda: len(first.ended) > 30)
        async with running(apache_broker.settings(), settings, slow(second, 0.3)):
            await until(lambda: set(first.ended) | set(second.ended) == everything, 30)
    assert max(Counter(first.begun).values()) == 1
    assert max(Counter(second.begun).values()) == 1
    assert second.begun
    repeated = set(first.begun) & set(second.begun)
    assert len(repeated) <= 15  # what ran in the half of the partitions that moved


async def test_a_member_that_leaves_hands_over_without_a_repetition(
    apache_broker: ApacheCluster, unique: Unique
) -> None:
    topic = unique("leave")
    everything = await filled(apache_broker, topic, per_partition=30)
    settings = IntakeSettings(group_id=unique("group"), topics=(topic,), max_in_flight=20, commit_interval_s=0.1)
    first, second = Recorder(), Recorder()
    async with running(apache_broker.settings(), settings, slow(second, 0.1)):
        await until(lambda: len(second.begun) > 0)
        async with running(apache_broker.settings(), settings, slow(first, 0.1)):
            await until(lambda: len(first.ended) > 10)
            left_with = set(second.begun)
        await until(lambda: set(first.ended) | set(second.ended) == everything, 30)
    repeated = set(first.ended) & set(second.begun) - left_with
    assert repeated == set()


async def test_a_killed_member_is_replaced_and_its_map_is_honoured(
    apache_broker: ApacheCluster, unique: Unique, tmp_path: Path
) -> None:
    topic, group_id = unique("kill"), unique("group")
    everything = await filled(apache_broker, topic, per_partition=20)
    async with member(apache_broker, group_id, topic, tmp_path / "first", 0.4) as first:
        await until(lambda: len(first.places("end")) > 30, 30)
        before = set(first.places("end"))
        await until_kept(apache_broker, group_id, before)
        first.send(signal.SIGKILL)
        await first.ended()
    async with member(apache_broker, group_id, topic, tmp_path / "second", 0.05) as second:
        await until(lambda: set(first.places("end")) | set(second.places("end")) == everything, 30)
        assert set(second.places("begin")) & before == set()
        assert set(second.places("begin")) & set(first.places("begin")) != set()
        second.send(signal.SIGTERM)
        assert await second.ended() == 0
    assert await positions(apache_broker, group_id) == dict.fromkeys(range(PARTITIONS), 20)


async def test_a_zombie_moves_no_offset_back(apache_broker: ApacheCluster, unique: Unique, tmp_path: Path) -> None:
    topic, group_id = unique("zombie"), unique("group")
    everything = await filled(apache_broker, topic, per_partition=40)
    async with member(apache_broker, group_id, topic, tmp_path / "zombie", 0.3) as zombie:
        await until(lambda: len(zombie.places("end")) > 12, 30)
        zombie.send(signal.SIGSTOP)
        async with member(apache_broker, group_id, topic, tmp_path / "heir", 0.1) as heir:
            await until(lambda: len(heir.places("end")) > 60, 30)
            zombie.send(signal.SIGCONT)
            await until(lambda: set(zombie.places("end")) | set(heir.places("end")) == everything, 30)
            for process in (zombie, heir):
                process.send(signal.SIGTERM)
                assert await process.ended() == 0
    history = await commit_history(apache_broker, group_id)
    assert {place: committed[-1] for place, committed in history.items()} == {
        (topic, number): 40 for number in range(PARTITIONS)
    }
    for committed in history.values():
        assert committed == sorted(committed)


class _Silent:
    """A listener that only waits to be assigned."""

    def __init__(self) -> None:
        self.assigned: frozenset[Partition] = frozenset()

    async def on_revoked(self) -> None: ...

    async def on_assigned(self, partitions: frozenset[Partition]) -> None:
        self.assigned = partitions


async def test_an_expelled_member_cannot_commit(apache_broker: ApacheCluster, unique: Unique) -> None:
    topic, group_id = unique("expelled"), unique("group")
    await apache_broker.create_topic(topic, 1)
    place = (topic, 0)
    old = RawConsumer(apache_broker.settings(), group_id, [topic], _Silent())
    await old.start()
    old._aio._coordinator._heartbeat_task.cancel()  # silent, as if its process stood still
    await old.commit({place: Checkpoint(1, "")}, 5.0)
    listener = _Silent()
    new = RawConsumer(apache_broker.settings(), group_id, [topic], listener)
    await new.start()
    await new.commit({place: Checkpoint(7, "h1:1,2")}, 5.0)
    with pytest.raises(NotAMember):
        await old.commit({place: Checkpoint(2, "")}, 5.0)
    with pytest.raises(NotAMember, match="expelled"):
        await old.commit({place: Checkpoint(2, "")}, 5.0)
    assert await new.committed([place], 5.0) == {place: Checkpoint(7, "h1:1,2")}
    await old.stop(0.0)
    await new.stop(5.0)


async def test_a_blocked_event_loop_costs_the_membership_once(apache_broker: ApacheCluster, unique: Unique) -> None:
    topic = unique("blocked")
    everything = await filled(apache_broker, topic, per_partition=10)
    settings = IntakeSettings(group_id=unique("group"), topics=(topic,), max_in_flight=10, commit_interval_s=0.1)
    recorder = Recorder()
    async with running(apache_broker.settings(), settings, slow(recorder, 0.1)) as intake:
        await until(lambda: len(recorder.ended) > 10)
        time.sleep(4.0)  # noqa: ASYNC251  # that is the fault: longer than the session
        await until(lambda: set(recorder.ended) == everything, 30)
        await until(lambda: intake.facts().group.joined)
        assert intake.facts().group.rebalances == 2
    assert max(Counter(recorder.begun).values()) == 1


async def test_an_idle_standby_takes_over_after_more_than_the_poll_interval(
    apache_broker: ApacheCluster, unique: Unique
) -> None:
    topic = unique("standby")
    await apache_broker.create_topic(topic, 1)
    kafka = replace(apache_broker.settings(), max_poll_interval_ms=2_500)
    settings = IntakeSettings(group_id=unique("group"), topics=(topic,), commit_interval_s=0.1)
    active, standby = Recorder(), Recorder()
    async with running(kafka, settings, standby):
        async with running(kafka, settings, active):
            await asyncio.sleep(6.0)
        await fill(apache_broker, topic, per_partition=5, partitions=1)
        await until(lambda: len(standby.ended) + len(active.ended) == 5)
    assert len(standby.ended) == 5


async def test_a_broker_restart_loses_nothing(apache_broker: ApacheCluster, unique: Unique) -> None:
    topic = unique("restart")
    everything = await filled(apache_broker, topic, per_partition=40)
    settings = IntakeSettings(group_id=unique("group"), topics=(topic,), max_in_flight=20, commit_interval_s=0.1)
    recorder = Recorder()
    async with running(apache_broker.settings(), settings, slow(recorder, 0.1)) as intake:
        await until(lambda: len(recorder.ended) > 20)
        apache_broker.broker.kill()
        await until(lambda: not intake.facts().group.broker_reachable, 40)
        await asyncio.to_thread(apache_broker.broker.start)
        await until(lambda: set(recorder.ended) == everything, 40)
        await until(lambda: intake.facts().group.broker_reachable, 40)
        await until_kept(apache_broker, settings.group_id, everything)
    assert max(Counter(recorder.begun).values()) == 1


async def test_a_broker_that_stands_still_is_noticed(apache_broker: ApacheCluster, unique: Unique) -> None:
    topic = unique("still")
    everything = await filled(apache_broker, topic, per_partition=20)
    settings = IntakeSettings(group_id=unique("group"), topics=(topic,), max_in_flight=5, commit_interval_s=0.1)
    recorder = Recorder()
    async with running(apache_broker.settings(), settings, slow(recorder, 0.2)) as intake:
        await until(lambda: len(recorder.ended) > 5)
        apache_broker.broker.pause()
        try:
            await until(lambda: not intake.facts().group.broker_reachable, 40)
        finally:
            apache_broker.broker.resume()
        await until(lambda: set(recorder.ended) == everything, 40)
        await until(lambda: intake.facts().group.broker_reachable, 40)
    assert set(recorder.ended) == everything


async def test_a_batch_whose_partitions_left_is_not_committed(apache_broker: ApacheCluster, unique: Unique) -> None:
    topic = unique("lost")
    everything = await filled(apache_broker, topic, per_partition=10)
    settings = BatchSettings(group_id=unique("group"), topics=(topic,), max_records=64)
    first = open_batches(apache_broker.settings(), settings)
    first.start()
    batch = await first.next_batch()
    assert batch is not None
    second = open_batches(apache_broker.settings(), settings)
    second.start()
    taken = await second.next_batch()  # the second has joined: half of the partitions are its own
    assert taken is not None
    await until(lambda: first.facts().group.joined and len(first.facts().group.assigned) == PARTITIONS // 2)
    kept = {number for _, number in first.facts().group.assigned}
    first.commit(batch)
    await until(lambda: first.facts().group.commits == 1)
    moved = await positions(apache_broker, settings.group_id)
    assert set(moved) <= kept
    assert {(r.partition, r.offset) for r in (*batch.records, *taken.records)} <= everything
    await first.stop(0.0)
    await second.stop(0.0)
