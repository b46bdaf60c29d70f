"""Fault 6: the network between workers and broker goes deaf, slow, breaks, or loses an acknowledgement."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.brokers.clusters import ApacheCluster
from tests.faults.detour import Network, network
from tests.faults.faults import noted
from tests.faults.figures import Tell
from tests.faults.fleet import Setup
from tests.faults.scenario import Scenario, scenario

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

QUICK = {"*": {"latency_ms": {"median": 200, "sigma": 0.5}, "output_tokens": {"median": 30}}}


@asynccontextmanager
async def behind(broker: ApacheCluster, seed: int, directory: Path) -> AsyncIterator[tuple[Network, Scenario]]:
    """Workers that know the broker by the proxy's address alone; load and recorder go straight to it."""
    assert broker.detour is not None
    async with network(broker.detour, seed) as net:
        settings: dict[str, dict[str, object]] = {
            "kafka": {"bootstrap_servers": net.bootstrap, "request_timeout_ms": 16_000},
            "dispatch": {"grace": "5s"},
        }
        setup = Setup(seed, directory, dispatch=2, behaviours=QUICK, settings=settings)
        async with scenario(broker, setup) as run:
            yield net, run


async def test_an_acknowledgement_that_is_lost_after_the_append_costs_no_reply_and_no_producer(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    async with behind(apache_broker, 60, tmp_path) as (net, run):
        asking = asyncio.create_task(run.load.many(200, 30))
        for answered in (20, 60, 100, 140):
            await run.answers(answered)
            async with noted(run.fleet, "acknowledgement lost"):
                net.lose_answers += 1
                await run.until(lambda: net.lose_answers == 0)
        await asking
        await run.settled()
        verdict = await run.verdict()
        tell(verdict.figures() | {"lost": net.lost})
        assert net.lost == 4
        assert verdict.states == {"answered": 200}
        assert verdict.extra_calls == 0


async def test_connections_that_break_again_and_again_lose_nothing(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    async with behind(apache_broker, 61, tmp_path) as (net, run):
        asking = asyncio.create_task(run.load.many(300, 30))
        await run.answers(20)
        async with noted(run.fleet, "connections reset"):
            breaking = asyncio.create_task(net.resets(0.1, every_s=0.5))
            await asyncio.sleep(7)
            breaking.cancel()
        await asking
        await run.settled()
        verdict = await run.verdict()
        tell(verdict.figures() | {"reset": net.cut})
        assert net.cut > 0
        assert verdict.states == {"answered": 300}


async def test_a_network_that_is_five_seconds_slow_only_takes_time(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    async with behind(apache_broker, 62, tmp_path) as (net, run):
        asking = asyncio.create_task(run.load.many(250, 25))
        await run.answers(20)
        async with noted(run.fleet, "network slow"):
            net.delay_s = 5.0
            await asyncio.sleep(8)
            net.delay_s = 0.0
        await asking
        await run.settled()
        verdict = await run.verdict()
        tell(verdict.figures())
        assert verdict.states == {"answered": 250}


async def test_connections_that_stay_open_and_carry_nothing_are_given_up_and_made_anew(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    async with behind(apache_broker, 63, tmp_path) as (net, run):
        await run.load.many(60, 30)
        await run.answers(20)
        async with noted(run.fleet, "half-open"):
            deaf = net.deafen()
            await run.load.many(60, 30)
        await run.settled(120)
        verdict = await run.verdict()
        tell(verdict.figures() | {"deaf": deaf})
        assert deaf > 0
        assert verdict.states == {"answered": 120}
