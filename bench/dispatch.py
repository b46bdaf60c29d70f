"""What dispatch costs: CPU microseconds a request of the whole worker, beside a bare aiohttp loop on the same upstream.

    python bench/dispatch.py -o json

The worker is the fleet's own, as `heimdall dispatch` runs it: orders from Kafka, a call for each, a reply and an
outcome record to Kafka, commits. The upstream is the scripted providers in a process of their own, 60 ms an
answer. The bare loop posts the same requests and reads the bytes of the answers, nothing else. Each of them is a
process that measures itself; rounds are interleaved, figures are medians of the rounds.
"""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import orjson
from harness import Child, Site, child, in_turn

from heimdall_fleet.addresses import ReplyRules
from heimdall_fleet.bootstrap.triage import tuning_for
from heimdall_fleet.config import Config, load
from heimdall_fleet.dlq import Undertaker
from heimdall_fleet.kafka.records import Outgoing, Record
from heimdall_fleet.providers.scripted.plan import Behaviour, Plan, Spread
from heimdall_fleet.settings import limits_of
from heimdall_fleet.triage.emit import Desk
from heimdall_fleet.triage.pipeline import Bench, triage
from heimdall_fleet.triage.read import ReadRules
from heimdall_fleet.triage.worker import by_partition
from heimdall_models.cache import Memory
from heimdall_schemas.ids import new_id

WORKER = str(Path(__file__).with_name("dispatch_worker.py"))
LATENCY_MS = 60.0
BODY_BYTES = 600
SMALL, BUSY, FULL = 10, 200, 500
"""Calls in flight: few, as the figure is quoted, and as many as one worker takes by default."""


@dataclass(frozen=True, slots=True)
class Effort:
    """Rounds, and requests of one round by calls in flight."""

    rounds: int
    requests: dict[int, int]


THOROUGH = Effort(5, {SMALL: 300, BUSY: 1500, FULL: 1500})
QUICK = Effort(1, {SMALL: 20, BUSY: 40})


def main() -> None:
    options = harness.parser(__doc__ or "")
    arguments = options.parse_args()
    harness.show(asyncio.run(measure(QUICK if arguments.quick else THOROUGH)), arguments.output)


@dataclass(frozen=True, slots=True)
class Sides:
    here: Site
    texts: harness.Texts
    fleet: dict[int, Child]
    bare: Child
    deciding: dict[int, Bench]

    async def cost(self, way: str, in_flight: int, count: int) -> dict[str, Any]:
        bodies = self.texts.bodies(BODY_BYTES, count)
        if way == "bare":
            return await self.bare.ask(count=count, in_flight=in_flight, bodies=[body.decode() for body in bodies])
        self.fleet[in_flight].tell(count=count)
        groups = by_partition(orders(bodies, self.deciding[in_flight]))
        producer = self.here.producer
        await asyncio.gather(*(producer.send_batch(group[0].topic, group[0].partition or 0, group) for group in groups))
        return await self.fleet[in_flight].answer()


async def measure(effort: Effort) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(harness.site())
        url = await stack.enter_async_context(upstream(here.folder))
        files = {number: configure(here, url, number) for number in effort.requests}
        bare, *workers = await asyncio.gather(
            stack.enter_async_context(child(WORKER, "bare", f"{url}/openai/v1/chat/completions")),
            *(stack.enter_async_context(child(WORKER, "fleet", str(file))) for file in files.values()),
        )
        fleet = dict(zip(files, workers, strict=True))
        deciding = {number: deciding_for(load(file, os.environ, {}).config) for number, file in files.items()}
        sides = Sides(here, harness.Texts(seed=13), fleet, bare, deciding)
        rest = (await fleet[BUSY].ask(count=0))["rss_mib"]
        costs = await rounds(sides, effort)
        most = max(effort.requests)
        for _ in range(2):
            memory = (await sides.cost("fleet", most, effort.requests[most]))["rss_mib"]
    return {
        "us_request": round(statistics.median(costs["fleet", BUSY]), 1),
        "us_bare_aiohttp": round(statistics.median(costs["bare", BUSY]), 1),
        "ratio_bare_aiohttp": harness.median_ratio(costs["fleet", BUSY], costs["bare", BUSY]),
        "us_request_10": round(statistics.median(costs["fleet", SMALL]), 1),
        "us_bare_aiohttp_10": round(statistics.median(costs["bare", SMALL]), 1),
        "ratio_200_to_10": harness.median_ratio(costs["fleet", BUSY], costs["fleet", SMALL]),
        "rss_mib": memory,
        "rss_mib_at_rest": rest,
        "rounds": effort.rounds,
    }


async def rounds(sides: Sides, effort: Effort) -> dict[tuple[str, int], list[float]]:
    """CPU microseconds a request by way and calls in flight; the round before the first warms up."""
    ways = [(way, number) for number in (SMALL, BUSY) for way in ("fleet", "bare")]
    costs: dict[tuple[str, int], list[float]] = {way: [] for way in ways}
    for number in range(effort.rounds + (effort.rounds > 1)):
        for _, name in in_turn([str(place) for place in range(len(ways))], 1):
            way, in_flight = ways[int(name)]
            count = effort.requests[in_flight]
            answer = await sides.cost(way, in_flight, count)
            if number or effort.rounds == 1:
                costs[way, in_flight].append(answer["cpu_s"] / count * 1e6)
    return costs


@asynccontextmanager
async def upstream(folder: Path) -> AsyncIterator[str]:
    plan_file = folder / "plan.json"
    plan_file.write_bytes(Plan(behaviours={"*": Behaviour(Spread(LATENCY_MS))}).to_json())
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "heimdall_fleet.providers.scripted",
        "--plan",
        str(plan_file),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield orjson.loads(await process.stdout.readline())["base_url"]
    finally:
        process.terminate()
        await process.wait()


def configure(here: Site, url: str, in_flight: int) -> Path:
    prefix = f"flight{in_flight}"
    here.topics(prefix)
    providers = {
        author: {
            "type": "custom",
            "base_url": f"{url}/{author}/v1",
            "keys": [{"name": f"{author}-{number}", "value": f"scripted-{author}-{number}"} for number in (1, 2)],
        }
        for author in harness.authors()
    }
    return here.config(prefix, 500, providers, dispatch={"max_in_flight": in_flight})


def deciding_for(config: Config) -> Bench:
    """What triage decides with, for the fleet of this configuration."""
    topics = config.kafka.topics
    undertaker = Undertaker(topics.dlq, "bench", "bench", max_value_bytes=1_000_000)
    return Bench(
        rules=ReadRules(limits_of(config), ReplyRules.from_patterns(topics, config.kafka.reply_topics), 300_000),
        judge=tuning_for(config).judge,
        memory=Memory(decisions=None),
        clock=time.perf_counter,
        desk=Desk(topics, "bench", undertaker, audit_partitions=12, dispatch_partitions=24),
    )


def orders(bodies: list[bytes], deciding: Bench) -> list[Outgoing]:
    """What triage makes of the bodies: the real decisions, in the real headers."""
    topics, now_ms = deciding.desk.topics, int(time.time() * 1000)
    found: list[Outgoing] = []
    for start in range(0, len(bodies), 64):
        records = [
            Record(topics.requests, (start + at) % 24, start + at, now_ms, None, body, (("ce_id", new_id().encode()),))
            for at, body in enumerate(bodies[start : start + 64])
        ]
        found += triage(records, deciding, lambda _: 24, now_ms).outgoing
    return [record for record in found if record.topic != topics.audit]


if __name__ == "__main__":
    main()
