"""Faults 1, 2, 3 and 7: workers that are killed, stopped, frozen, and that come and go."""

import asyncio
import time
from pathlib import Path

import pytest
from tests.brokers.clusters import ApacheCluster
from tests.brokers.redis import redis_server
from tests.faults.checker import audited_calls, distinct
from tests.faults.commits import TWINS
from tests.faults.faults import broker_silent, noted, redis_gone
from tests.faults.figures import Tell
from tests.faults.fleet import GRACE_S, Setup, Worker
from tests.faults.peek import get
from tests.faults.scenario import Scenario, Verdict, scenario

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

SLOW = {"*": {"latency_ms": {"median": 1_000, "sigma": 0.3}, "output_tokens": {"median": 30}}}
QUICK = {"*": {"latency_ms": {"median": 200, "sigma": 0.5}, "output_tokens": {"median": 30}}}
ROOMY = {"provider_defaults": {"concurrency": 500, "buffer": 1_000}}
EXTRA_SHARE_IN_A_STORM = 0.08
EXTRA_SHARE_OF_TWINS = 0.25
"""Without a shared state: what was in flight each time they displaced each other, which they do for a second or two."""
GROUPS_OF_A_DISPATCH_WORKER = 2


async def test_dispatch_workers_killed_at_random_instants_lose_nothing(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    async with scenario(apache_broker, Setup(101, tmp_path, dispatch=2, behaviours=QUICK)) as run:
        verdict = await killed_again_and_again(run)
        tell(verdict.figures())
        assert verdict.states == {"answered": 300}


async def test_with_a_shared_state_every_call_of_a_killed_worker_is_in_the_audit(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    with redis_server() as redis:
        setup = Setup(102, tmp_path, dispatch=2, behaviours=SLOW, settings={"state": {"url": redis.url}})
        async with scenario(apache_broker, setup) as run:
            verdict = await killed_again_and_again(run)
            history = verdict.history
            told = [name for outcome in distinct(history.outcome) for name, ended in outcome.named.items() if not ended]
            tell(verdict.figures() | {"interrupted": len(told)})
            assert verdict.states == {"answered": 300}
            killed = {exit_.worker for exit_ in history.exit if exit_.code == -9}
            assert len(killed) == 2
            assert len(told) > 0, "the kills caught nothing, so this run shows nothing"
            known, begun = audited_calls(distinct(history.outcome))
            assert known <= len(history.call) <= known + begun


async def killed_again_and_again(run: Scenario) -> Verdict:
    """Two workers, each killed under load and replaced."""
    asking = asyncio.create_task(run.load.many(300, 40))
    for _ in range(2):
        await asyncio.sleep(run.fleet.random.uniform(0.5, 2.5))
        await run.fleet.kill(run.fleet.random.choice(run.fleet.alive("dispatch")))
        await run.fleet.start("dispatch")
    await asking
    await run.settled()
    return await run.verdict()


async def test_a_shared_state_that_is_killed_and_comes_back_empty_loses_and_repeats_nothing(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    with redis_server() as redis:
        setup = Setup(103, tmp_path, dispatch=2, behaviours=QUICK, settings={"state": {"url": redis.url}})
        async with scenario(apache_broker, setup) as run:
            asking = asyncio.create_task(run.load.many(200, 40))
            await run.answers(20)
            async with redis_gone(run.fleet, redis):
                await run.answers(60)
            await asking
            await run.settled()
            verdict = await run.verdict()
            tell(verdict.figures())
            assert verdict.states == {"answered": 200}
            assert verdict.extra_calls == 0


async def test_a_worker_killed_before_and_during_its_calls_leaves_them_to_the_next(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    setup = Setup(110, tmp_path, behaviours=SLOW, settings={"provider_defaults": {"concurrency": 2}})
    async with scenario(apache_broker, setup) as run:
        await run.load.many(60)
        await run.calls(4)
        await run.fleet.kill(run.fleet.alive("dispatch")[0])
        begun = {call["request_id"] for call in await run.fleet.calls()}
        await run.fleet.start("dispatch", wait=False)
        await run.settled()
        verdict = await run.verdict()
        tell(verdict.figures())
        assert verdict.states == {"answered": 60}
        assert 0 < verdict.extra_calls <= len(begun) < 60


async def test_a_worker_killed_between_the_answer_and_its_publication_is_made_up_for(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    setup = Setup(111, tmp_path, behaviours=SLOW, settings=ROOMY, session_timeout_ms=6_000)
    async with scenario(apache_broker, setup) as run:
        await run.load.many(40)
        await run.calls(40)
        async with broker_silent(run.fleet, apache_broker):
            await _calls_ended(run)
            await run.fleet.kill(run.fleet.alive("dispatch")[0])
        await run.fleet.start("dispatch", wait=False)
        await run.settled()
        verdict = await run.verdict()
        tell(verdict.figures())
        assert verdict.states == {"answered": 40}
        assert verdict.extra_calls > 0


async def test_a_worker_killed_between_publication_and_commit_contradicts_nothing(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    behaviours = {"*": {"latency_ms": {"median": 100}, "output_tokens": {"median": 30}}}
    async with scenario(apache_broker, Setup(112, tmp_path, behaviours=behaviours, settings=ROOMY)) as run:
        await run.load.many(100)
        await run.answers(30)
        await run.fleet.kill(run.fleet.alive("dispatch")[0])
        await run.fleet.start("dispatch", wait=False)
        await run.settled()
        verdict = await run.verdict()
        tell(verdict.figures())
        assert verdict.states == {"answered": 100}
        assert verdict.copies > 0, "nothing was published and uncommitted, so this run shows nothing"


async def test_a_stopped_worker_finishes_hundreds_of_calls_and_makes_no_more(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    behaviours = {"*": {"latency_ms": {"median": 5_000, "sigma": 0.2}, "output_tokens": {"median": 30}}}
    async with scenario(apache_broker, Setup(120, tmp_path, behaviours=behaviours, settings=ROOMY)) as run:
        await run.load.many(400)
        await run.calls(300)
        stopped = await run.fleet.terminate(run.fleet.alive("dispatch")[0])
        assert stopped.code == 0
        assert stopped.at - stopped.asked_at < GRACE_S
        await run.fleet.start("dispatch", wait=False)
        await run.settled()
        verdict = await run.verdict()
        tell(verdict.figures() | {"stop_s": round(stopped.at - stopped.asked_at, 1)})
        assert verdict.states == {"answered": 400}
        assert verdict.extra_calls == 0


async def test_a_second_sigterm_leaves_at_once_and_not_with_code_0(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    behaviours = {"*": {"latency_ms": {"median": 4_000, "sigma": 0.2}, "output_tokens": {"median": 30}}}
    async with scenario(apache_broker, Setup(121, tmp_path, behaviours=behaviours, settings=ROOMY)) as run:
        await run.load.many(100)
        await run.calls(80)
        left = await run.fleet.terminate_twice(run.fleet.alive("dispatch")[0], pause_s=0.5)
        assert left.code not in (0, -15)
        assert left.at - left.asked_at < 2.5
        await run.fleet.start("dispatch", wait=False)
        await run.settled()
        verdict = await run.verdict()
        tell(verdict.figures())
        assert verdict.states == {"answered": 100}


@pytest.mark.parametrize("ttl_s", [90.0, 9.0], ids=["deadlines far away", "deadlines that pass while it sleeps"])
async def test_a_zombie_moves_no_offset_and_contradicts_no_reply(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell, ttl_s: float
) -> None:
    with redis_server() as redis:
        setup = Setup(130, tmp_path, dispatch=2, behaviours=SLOW, settings={"state": {"url": redis.url}})
        async with scenario(apache_broker, setup) as run:
            fleet = run.fleet
            asking = asyncio.create_task(run.load.many(200, 25, ttl_s=ttl_s))
            await run.answers(40)
            await fleet.freeze(fleet.alive("dispatch")[0], 10.0)
            await asking
            await run.settled()
            verdict = await run.verdict()
            tell(verdict.figures())
            assert sum(verdict.states.values()) == 200


async def test_a_storm_of_workers_that_come_and_go_costs_few_calls(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    async with scenario(apache_broker, Setup(170, tmp_path, dispatch=2, behaviours=QUICK)) as run:
        await run.under_load(_come_and_go(run, seconds=24), 45)
        verdict = await run.verdict()
        tell(verdict.figures())
        assert verdict.states == {"answered": len(run.load.sent)}
        assert verdict.extra_calls <= EXTRA_SHARE_IN_A_STORM * len(run.load.sent)


async def _come_and_go(run: Scenario, seconds: float) -> None:
    """One worker after the other, each leaving soon after it was ready: with its start, one change every 2 s or so."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        guest = await run.fleet.start("dispatch")
        await asyncio.sleep(run.fleet.random.uniform(0.2, 1.0))
        await run.fleet.terminate(guest)


async def test_of_two_workers_with_one_instance_id_one_stands_aside_and_says_why(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    settings = {"kafka": {"group_instance_id": "one-for-all"}}
    async with scenario(apache_broker, Setup(171, tmp_path, behaviours=QUICK, settings=settings)) as run:
        asking = asyncio.create_task(run.load.many(300, 25))
        await run.answers(20)
        async with noted(run.fleet, TWINS):
            twins = [*run.fleet.alive("dispatch"), await run.fleet.start("dispatch", wait=False)]
            await run.until(lambda: sum(map(_times_aside, twins)) == GROUPS_OF_A_DISPATCH_WORKER)
        await asking
        await run.settled()
        assert sum(map(_times_aside, twins)) == GROUPS_OF_A_DISPATCH_WORKER, "they go on taking turns"
        assert sorted([(await get(twin.port, "/readyz"))[0] for twin in twins]) == [200, 503]
        for twin in twins:
            await run.fleet.terminate(twin)
        verdict = await run.verdict()
        tell(verdict.figures())
        assert verdict.states == {"answered": 300}
        assert verdict.extra_calls <= EXTRA_SHARE_OF_TWINS * len(run.load.sent)


def _times_aside(worker: Worker) -> int:
    return worker.child.log.read_text().count("the same kafka.group_instance_id")


async def _calls_ended(run: Scenario, timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while any(call["end"] is None for call in await run.fleet.calls()):  # noqa: ASYNC110  # asked over HTTP
            await asyncio.sleep(0.05)
