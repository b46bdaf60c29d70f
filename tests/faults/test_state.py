"""Fault 19: a shared state that is slow, forgets everything, or holds something else under a key of ours."""

import asyncio
from pathlib import Path

import orjson
import pytest
from redis.asyncio import Redis
from tests.brokers.clusters import ApacheCluster
from tests.brokers.redis import redis_server
from tests.faults.faults import noted, redis_slow
from tests.faults.figures import Tell
from tests.faults.fleet import Setup
from tests.faults.scenario import Scenario, scenario

from heimdall_fleet.kafka.driver.reading import TopicReader

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

QUICK = {"*": {"latency_ms": {"median": 200, "sigma": 0.5}, "output_tokens": {"median": 30}}}


async def test_with_a_slow_state_orders_go_on_flagged_and_strict_ones_wait_until_it_answers(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    with redis_server() as redis:
        setup = Setup(390, tmp_path, dispatch=2, behaviours=QUICK, settings={"state": {"url": redis.url}})
        async with scenario(apache_broker, setup) as run:
            asking = asyncio.create_task(run.load.many(150, 25))
            await run.answers(20)
            slow = asyncio.create_task(redis_slow(run.fleet, redis, times=3))
            strict = await run.load.many(5, 5, options={"dedup": "strict"})
            await slow
            await asking
            await run.settled()
            flagged = await unreserved(run)
            verdict = await run.verdict()
            tell(verdict.figures() | {"flagged": len(flagged)})
            assert verdict.states == {"answered": 155}
            assert verdict.extra_calls == 0
            assert len(flagged) > 0
            assert flagged.isdisjoint({each.request_id for each in strict})


async def test_a_state_that_is_emptied_or_holds_something_else_costs_no_second_call(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    with redis_server() as redis:
        setup = Setup(391, tmp_path, dispatch=2, behaviours=QUICK, settings={"state": {"url": redis.url}})
        async with scenario(apache_broker, setup) as run, Redis.from_url(redis.url) as client:
            taken = [run.load.ask() for _ in range(10)]
            async with noted(run.fleet, "redis key of another type"):
                for ask in taken:
                    await client.set(
                        f"{run.fleet.topics.prefix}:call:{ask.request_id}", "a string where a hash should be"
                    )
                await run.load.send(taken)
                await run.answers(10)
            asking = asyncio.create_task(run.load.many(150, 40))
            for answered in (40, 80, 120):
                await run.answers(answered)
                async with noted(run.fleet, "redis emptied"):
                    await client.flushall()
            await asking
            await run.settled()
            flagged = await unreserved(run)
            verdict = await run.verdict()
            tell(verdict.figures() | {"flagged": len(flagged)})
            assert verdict.states == {"answered": 160}
            assert verdict.extra_calls == 0
            assert flagged == {ask.request_id for ask in taken}


async def unreserved(run: Scenario) -> set[str]:
    """Requests whose outcome record says that the state gave no answer."""
    async with TopicReader(run.fleet.kafka) as reader:
        told = [orjson.loads(record.value or b"{}") async for record in reader.read([run.fleet.topics.audit])]
    return {each["request_id"] for each in told if each.get("unreserved")}
