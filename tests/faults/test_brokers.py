"""Fault 5: a broker that restarts, one that is gone for a while, and one of three that leads and is killed."""

import asyncio
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from tests.brokers.clusters import ApacheCluster
from tests.brokers.three import ThreeBrokers
from tests.faults.faults import broker_gone, noted
from tests.faults.figures import Tell
from tests.faults.fleet import Setup
from tests.faults.history import Sample
from tests.faults.scenario import scenario

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

QUICK = {"*": {"latency_ms": {"median": 200, "sigma": 0.5}, "output_tokens": {"median": 30}}}
GONE_S = 12.0
MOST_GROWN_BYTES = 64 * 1024 * 1024
"""What a producer may hold unconfirmed at most."""


async def test_a_broker_that_restarts_and_is_gone_for_a_while_costs_time_and_nothing_else(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    async with scenario(apache_broker, Setup(50, tmp_path, dispatch=2, behaviours=QUICK)) as run:
        asking = asyncio.create_task(run.load.many(400, 30))
        await run.answers(30)
        async with noted(run.fleet, "broker restarted"):
            await asyncio.to_thread(apache_broker.broker.restart)
        await run.answers(60)
        async with broker_gone(run.fleet, apache_broker, at_least_s=GONE_S):
            pass
        await asking
        await run.settled(90)
        verdict = await run.verdict()
        grown = grown_bytes(verdict.history.sample)
        tell(verdict.figures() | {"grown_mib": round(grown / 2**20, 1)})
        assert verdict.states == {"answered": 400}
        assert grown < MOST_GROWN_BYTES


def grown_bytes(samples: list[Sample]) -> float:
    """The most that a worker grew after it was first looked at."""
    first: dict[str, float] = {}
    return max(each.rss_bytes - first.setdefault(each.worker, each.rss_bytes) for each in samples)


async def test_a_leader_of_three_that_is_killed_is_followed_by_another_and_nothing_is_lost(
    three_brokers: ThreeBrokers, tmp_path: Path, tell: Tell
) -> None:
    setup = Setup(51, tmp_path, dispatch=2, behaviours=QUICK, replication=3)
    async with scenario(three_brokers, setup) as run:
        asking = asyncio.create_task(run.load.many(200, 20))
        await run.answers(30)
        leader = await leader_of(three_brokers.bootstrap, run.fleet.topics.requests)
        async with noted(run.fleet, "leader killed"):
            await asyncio.to_thread(three_brokers.brokers[leader - 1].kill)
            await run.answers(150)
            await asyncio.to_thread(three_brokers.brokers[leader - 1].start)
        await asking
        await run.settled(90)
        verdict = await run.verdict()
        tell(verdict.figures())
        assert verdict.states == {"answered": 200}


async def leader_of(bootstrap: str, topic: str) -> int:
    """The broker that leads the topic's first partition, by its id."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    try:
        await client._wait_on_metadata(topic)
        return int(client.cluster.leader_for_partition(TopicPartition(topic, 0)))
    finally:
        await client.close()
