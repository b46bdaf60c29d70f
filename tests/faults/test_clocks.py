"""Fault 17: workers and producers whose clocks are wrong, and a clock that jumps."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.brokers.clusters import ApacheCluster
from tests.faults.figures import Tell
from tests.faults.fleet import Clock, Setup
from tests.faults.peek import fetch
from tests.faults.scenario import Scenario, scenario

from heimdall_fleet.kafka.driver.reading import TopicReader

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

WRONG_S = 600.0
LONG_S = 3 * WRONG_S
SLOW = {"*": {"latency_ms": {"median": 3_000, "sigma": 0.2}, "output_tokens": {"median": 30}}}
ROOMY = {"provider_defaults": {"concurrency": 500, "buffer": 1_000}}


async def test_workers_whose_clocks_are_minutes_apart_answer_and_measure_no_negative_time(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    clocks = {
        f"{kind}-{n}": Clock(ahead) for kind in ("triage", "dispatch") for n, ahead in ((1, WRONG_S), (2, -WRONG_S))
    }
    setup = Setup(370, tmp_path, triage=2, dispatch=2, clocks=clocks)
    async with scenario(apache_broker, setup) as run:
        await run.load.many(100, 50, ttl_s=LONG_S)
        await run.settled()
        negative = [each async for each in negatives(run)]
        verdict = await run.verdict()
        tell(verdict.figures())
        assert verdict.states == {"answered": 100}
        assert {decision.worker for decision in verdict.history.decision} == {"triage-1", "triage-2"}
        assert {call.worker for call in verdict.history.call} == {"dispatch-1", "dispatch-2"}
        assert negative == []


async def test_a_clock_that_jumps_ends_no_call_that_is_under_way(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    clocks = {"dispatch-1": Clock(0.0, WRONG_S)}
    setup = Setup(371, tmp_path, behaviours=SLOW, settings=ROOMY, clocks=clocks)
    async with scenario(apache_broker, setup) as run:
        worker = run.fleet.alive("dispatch")[0]
        for count in (40, 80):  # there and back
            await run.load.many(40, ttl_s=LONG_S)
            await run.calls(count)
            run.fleet.jump(worker)
            await run.answers(count)
        await run.settled()
        negative = [each async for each in negatives(run)]
        verdict = await run.verdict()
        tell(verdict.figures())
        assert verdict.states == {"answered": 80}
        assert verdict.extra_calls == 0
        assert negative == []


async def test_a_producers_wrong_time_is_what_its_deadlines_count_from(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    async with scenario(apache_broker, Setup(372, tmp_path)) as run:
        asks = [run.load.ask() for _ in range(30)]
        early, late, longlived = asks[:10], asks[10:20], [run.load.ask(ttl_s=LONG_S) for _ in range(10)]
        await run.load.send([replace(ask, ahead_s=WRONG_S) for ask in early])
        await run.load.send([replace(ask, ahead_s=-WRONG_S) for ask in (*late, *longlived)])
        await run.load.send(asks[20:])
        await run.settled()
        found = await run.replies()
        negative = [each async for each in negatives(run)]
        verdict = await run.verdict()
        tell(verdict.figures())
        assert {ask.request_id for ask in late} == {
            name for name, reply in found.items() if reply["heimdall"]["state"] == "expired"
        }
        assert verdict.states == {"answered": 30, "expired": 10}
        assert negative == []


async def negatives(run: Scenario) -> AsyncIterator[str]:
    """Every duration below zero in replies, audit records and metrics."""
    topics = run.fleet.topics
    async with TopicReader(run.fleet.kafka) as reader:
        async for record in reader.read([topics.replies, topics.audit]):
            for path, value in durations(orjson.loads(record.value or b"{}")):
                if value < 0:
                    yield f"{record.topic} at {record.offset}: {path} is {value}"
    for worker in run.fleet.workers:
        for line in (await fetch(worker.port, "/metrics")).splitlines():
            name, _, shown = line.rpartition(" ")
            if "_seconds" in name and not line.startswith("#") and float(shown) < 0:
                yield f"{worker.name}: {line}"


def durations(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Numbers below a name that ends in `_ms`, with the way to them."""
    if isinstance(value, dict):
        for name, below in value.items():
            yield from durations(below, f"{path}.{name}")
    elif isinstance(value, list):
        for each in value:
            yield from durations(each, path)
    elif isinstance(value, int | float) and "_ms" in path:
        yield path, value
