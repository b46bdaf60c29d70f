"""What triage costs: CPU microseconds a message of the whole worker loop, beside the same work written the obvious way.

    python bench/triage.py -o json

The worker is the fleet's own, as `heimdall triage` runs it: a batch from Kafka, validation, decision, an order and a
decision record for each request, commit. The naive one (naive_triage.py) takes one message at a time. Both read
from an embedded broker that runs in this process, which is not measured; rounds are interleaved, the requests all
differ, figures are medians of the rounds. `cached`: the conversations of a round were all decided before. `kafka` is what
of a full message is left without reading, deciding and writing it: Kafka on both sides, which no decision can spare.
"""

import asyncio
import statistics
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import harness
from harness import Child, Site, child, in_turn

from heimdall_fleet.kafka.records import Outgoing
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
    arguments = harness.parser(__doc__ or "").parse_args()
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
            stack.enter_async_context(child(str(HERE / "triage_worker.py"), str(fleet_file))),
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
    around: list[float] = []
    for number in range(plan.rounds + (plan.rounds > 1)):
        for _, way in in_turn(WAYS, 1):
            share = max(1, count // plan.naive_share) if way == "naive" else count
            answer = await sides.cost(way, size, share)
            if number or plan.rounds == 1:
                costs[way].append(answer["cpu_s"] / share * 1e6)
                if way == "full":
                    around.append((answer["cpu_s"] - answer["deciding_s"]) / share * 1e6)
    return {
        f"us_{size}": round(statistics.median(costs["full"]), 1),
        f"us_naive_{size}": round(statistics.median(costs["naive"]), 1),
        f"us_cached_{size}": round(statistics.median(costs["cached"]), 1),
        f"us_kafka_{size}": round(statistics.median(around), 1),
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


if __name__ == "__main__":
    main()
