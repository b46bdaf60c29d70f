"""What triage costs: CPU microseconds a message of the whole worker loop, beside the same work written the obvious way.

    python bench/triage.py -o json

The worker is the fleet's own, as `heimdall triage` runs it: a batch from Kafka, validation, decision, an order and a
decision record for each request, commit. The naive one (naive_triage.py) takes one message at a time. Both read
from an embedded broker that runs in this process, which is not measured; rounds are interleaved, the requests all
differ, figures are medians of the rounds. `cached`: the conversations of a round were all decided before.
"""

import argparse
import asyncio
import os
import statistics
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import harness
import measured
from harness import Child, Site, child, in_turn

from heimdall_fleet import __version__
from heimdall_fleet.bootstrap.edges import closed_labels
from heimdall_fleet.bootstrap.triage import triage_service
from heimdall_fleet.config import Watcher, load
from heimdall_fleet.kafka.batches import Batches
from heimdall_fleet.kafka.driver.consuming import RawConsumer
from heimdall_fleet.kafka.group import Group
from heimdall_fleet.kafka.records import Batch, Outgoing
from heimdall_fleet.kafka.settings import BatchSettings
from heimdall_fleet.observe.health import Health
from heimdall_fleet.observe.metrics import Metrics
from heimdall_fleet.observe.server import ObserveServer, ServerSettings
from heimdall_fleet.service import serve
from heimdall_fleet.settings import kafka_settings
from heimdall_schemas.ids import new_id

SIZES = {"600": 600, "4k": 4_000, "20k": 20_000}
CLAIMED_RESIDENCE_MS = {"p50": 1.8, "p99": 7.2}
"""What the source documents say of their own worker, on hardware they do not name."""

HERE = Path(__file__).resolve().parent
WAYS = ("full", "cached", "naive")


@dataclass(frozen=True, slots=True)
class Plan:
    """Messages of one round by size; the naive loop gets fewer, since it takes longer."""

    rounds: int
    messages: dict[str, int]
    naive_share: int
    paced: int
    paced_per_s: int


THOROUGH = Plan(5, {"600": 3072, "4k": 1024, "20k": 384}, 12, 1000, 200)
QUICK = Plan(1, {"600": 128, "4k": 64, "20k": 64}, 4, 40, 200)


def main() -> None:
    options = harness.parser(__doc__ or "")
    options.add_argument("--worker", metavar="CONFIG", help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.worker:
        asyncio.run(work(Path(arguments.worker)))
    else:
        harness.show(asyncio.run(measure(QUICK if arguments.quick else THOROUGH)), arguments.output)


@dataclass(slots=True)
class Sides:
    """The two workers, and the feeder of their topics. `known`: conversations that the fleet has decided."""

    here: Site
    texts: harness.Texts
    fleet: Child
    naive: Child
    known: dict[str, list[bytes]] = field(default_factory=dict)

    async def cost(self, way: str, size: str, count: int) -> dict[str, Any]:
        """One round of one way: fed first, then timed from "go" to the last commit."""
        bodies = self.texts.bodies(SIZES[size], count) if way != "cached" else self.known[size][:count]
        if way == "full":
            self.known[size] = bodies
        prefix = "naive" if way == "naive" else "fleet"
        await self.here.feed(f"{prefix}.requests.v1", [asked(f"{prefix}.requests.v1", body) for body in bodies])
        return await (self.naive if way == "naive" else self.fleet).ask(count=count)


async def measure(plan: Plan) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(harness.site())
        fleet_file, naive_file = configure(here)
        fleet, naive = await asyncio.gather(
            stack.enter_async_context(child(__file__, "--worker", str(fleet_file))),
            stack.enter_async_context(child(str(HERE / "naive_triage.py"), str(naive_file))),
        )
        sides = Sides(here, harness.Texts(seed=11), fleet, naive)
        rest = (await sides.fleet.ask(count=0))["rss_mib"]
        figures: dict[str, Any] = {}
        for size, count in plan.messages.items():
            figures |= await by_size(sides, size, count, plan)
        figures |= await residence(sides, plan)
        memory = await sides.fleet.ask(count=0)
    figures["per_s_core_600"] = round(1e6 / figures["us_600"])
    return figures | {"rss_mib": memory["rss_mib"], "rss_mib_at_rest": rest, "rounds": plan.rounds}


def configure(here: Site) -> tuple[Path, Path]:
    nobody = {author: {"type": "custom", "base_url": "http://127.0.0.1:9/v1"} for author in harness.authors()}
    files = []
    for prefix in ("fleet", "naive"):
        here.topics(prefix)
        files.append(here.config(prefix, 10, nobody, cache={"decision": {"ttl": "1h"}}))
    return files[0], files[1]


def asked(topic: str, body: bytes) -> Outgoing:
    name = new_id()
    headers = [("ce_id", name.encode()), ("correlation-id", name.encode()), ("content-type", b"application/json")]
    return Outgoing(topic, body, headers=headers)


async def by_size(sides: Sides, size: str, count: int, plan: Plan) -> dict[str, Any]:
    """The round before the first warms up."""
    costs: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(plan.rounds + (plan.rounds > 1)):
        for _, way in in_turn(WAYS, 1):
            share = max(1, count // plan.naive_share) if way == "naive" else count
            answer = await sides.cost(way, size, share)
            if number or plan.rounds == 1:
                costs[way].append(answer["cpu_s"] / share * 1e6)
    return {
        f"us_{size}": round(statistics.median(costs["full"]), 1),
        f"us_naive_{size}": round(statistics.median(costs["naive"]), 1),
        f"us_cached_{size}": round(statistics.median(costs["cached"]), 1),
        f"ratio_naive_{size}": harness.median_ratio(costs["naive"], costs["full"]),
        f"ratio_cached_{size}": harness.median_ratio(costs["full"], costs["cached"]),
    }


async def residence(sides: Sides, plan: Plan) -> dict[str, Any]:
    """How long a request of 600 B is in the worker at a steady rate: from the batch taken to everything confirmed."""
    bodies = sides.texts.bodies(SIZES["600"], plan.paced)
    topic = "fleet.requests.v1"
    sides.fleet.tell(count=plan.paced)
    started = time.monotonic()
    sent = []
    for number, body in enumerate(bodies):
        await asyncio.sleep(max(0.0, started + number / plan.paced_per_s - time.monotonic()))
        sent.append(sides.here.producer.send(asked(topic, body)))
    await asyncio.gather(*sent)
    found = harness.spread((await sides.fleet.answer())["residence_ms"])
    figures: dict[str, Any] = {"residence_per_s": plan.paced_per_s}
    for name, value in found.items():
        figures[f"residence_{name}_ms"] = round(value, 2)
        figures[f"claimed_residence_{name}_ms"] = CLAIMED_RESIDENCE_MS[name]
    return figures


class Gated(Batches):
    """The fleet's source of batches, which hands out nothing until told, and notes how long each batch took."""

    def __init__(self, group: Group, settings: BatchSettings) -> None:
        super().__init__(group, settings)
        self._opened = asyncio.Event()
        self._taken: dict[int, float] = {}
        self._to_take = self._left = 0
        self._finished_all = asyncio.Event()
        self._residence_ms: list[float] = []

    async def timed(self, count: int) -> dict[str, Any]:
        """Let `count` records through, and say what they cost this process and how long each was here."""
        self._residence_ms.clear()
        if count == 0:
            return {"rss_mib": measured.rss_mib()}
        self._to_take = self._left = count
        self._finished_all.clear()
        watch = measured.Stopwatch()
        self._opened.set()
        await self._finished_all.wait()
        return {**watch.read(), "residence_ms": self._residence_ms, "rss_mib": measured.rss_mib()}

    async def next_batch(self) -> Batch | None:
        await self._opened.wait()
        batch = await super().next_batch()
        if batch is not None:
            self._taken[batch.number] = time.perf_counter()
            self._to_take -= len(batch.records)
            if self._to_take <= 0:
                self._opened.clear()
        return batch

    async def stop(self, grace_s: float) -> None:
        self._opened.set()
        await super().stop(grace_s)

    def commit(self, batch: Batch) -> None:
        super().commit(batch)
        took_ms = (time.perf_counter() - self._taken.pop(batch.number)) * 1000
        self._residence_ms.extend([took_ms] * len(batch.records))
        self._left -= len(batch.records)
        if self._left <= 0:
            self._finished_all.set()


async def work(config_file: Path) -> None:
    """The child: `heimdall triage` with a source that waits for "go"."""
    loaded = load(config_file, os.environ, {})
    config = loaded.config
    metrics = Metrics("triage", __version__)
    metrics.allow(**closed_labels(config))
    service = triage_service(loaded, metrics)
    kafka = kafka_settings(config, "bench-triage")
    settings = BatchSettings(group_id=f"{config.kafka.topic_prefix}.triage", topics=(config.kafka.topics.requests,))
    group = Group(
        lambda listener: RawConsumer(kafka, settings.group_id, settings.topics, listener), settings.commit_interval_s
    )
    source = Gated(group, settings)
    service.source = source
    health = Health(__version__, lambda: datetime.now(UTC))
    service.check_into(health)
    server = ObserveServer(metrics, health, ServerSettings(host="127.0.0.1", port=0))
    watcher = Watcher(loaded, lambda: loaded, lambda _: None)
    serving = asyncio.create_task(serve(service, server, watcher))
    measured.say({"ready": True})
    async for command in measured.commands():
        measured.say(await source.timed(command["count"]))
    service.stop()
    await serving


if __name__ == "__main__":
    main()
