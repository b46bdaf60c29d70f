"""`python -m tests.faults.soak --minutes 10 --seed 1`: load at a steady rate and random faults, one run after another.

Each round is a fleet of its own with a seed of its own; a round that breaks an invariant says which seed and where the
history is, and the soak ends with code 1. Bounded by `--minutes` and `--rounds`; the last line has the sums.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import orjson
from tests.brokers.clusters import ApacheCluster, load_broker_module
from tests.brokers.redis import redis_server
from tests.faults.faults import broker_gone, broker_silent
from tests.faults.fleet import Setup
from tests.faults.scenario import Scenario, scenario

BEHAVIOURS = {
    "*": {"latency_ms": {"median": 200, "sigma": 0.6}, "output_tokens": {"median": 40}, "errors": {"429": 0.03}},
    "openai": {"latency_ms": {"median": 300, "sigma": 0.6}, "errors": {"500": 0.03, "429": 0.02}, "hang": 0.002},
}
FAULTS = ("kill dispatch", "kill triage", "stop dispatch", "stop triage", "freeze", "broker killed", "broker silent")
PAUSE_S = (1.0, 4.0)


async def one_round(cluster: ApacheCluster, seed: int, directory: Path, faults: int, per_second: float) -> bytes:
    """One fleet, so many faults; its figures as JSON. Raises AssertionError with what the checker found."""
    with redis_server() as redis:
        setup = Setup(
            seed, directory, triage=1, dispatch=2, behaviours=BEHAVIOURS, settings={"state": {"url": redis.url}},
        )  # fmt: skip
        async with scenario(cluster, setup) as run:
            breaking = asyncio.create_task(break_things(run, cluster, faults))
            while not breaking.done():
                await run.load.many(int(per_second * 2), per_second)
            await breaking
            await run.settled(120)
            return orjson.dumps((await run.verdict()).figures())


async def break_things(run: Scenario, cluster: ApacheCluster, count: int) -> None:
    """Faults drawn from the seed; a worker that was taken is replaced before the next one."""
    fleet = run.fleet
    for _ in range(count):
        await asyncio.sleep(fleet.random.uniform(*PAUSE_S))
        verb, _, what = fleet.random.choice(FAULTS).partition(" ")
        if verb == "broker":
            async with (broker_gone if what == "killed" else broker_silent)(fleet, cluster):
                await asyncio.sleep(fleet.random.uniform(0.5, 6.0))
        elif verb == "freeze":
            await fleet.freeze(fleet.random.choice(fleet.alive("dispatch")), fleet.random.uniform(1.0, 10.0))
        else:
            worker = fleet.random.choice(fleet.alive(what))
            await (fleet.kill(worker) if verb == "kill" else fleet.terminate(worker))
            await fleet.start(what)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first round; each round adds one")
    parser.add_argument("--minutes", type=float, default=10.0, help="no round begins later than this")
    parser.add_argument("--rounds", type=int, default=1_000)
    parser.add_argument("--faults", type=int, default=6, help="in each round")
    parser.add_argument("--per-second", type=float, default=40.0)
    arguments = parser.parse_args()
    sums, broken = Counter[str](), 0
    with load_broker_module().KafkaBroker() as broker:
        until = time.monotonic() + 60 * arguments.minutes
        for seed in range(arguments.seed, arguments.seed + arguments.rounds):
            if time.monotonic() > until:
                break
            directory = Path(tempfile.mkdtemp(prefix=f"heimdall-soak-{seed}-"))
            try:
                figures = asyncio.run(
                    one_round(ApacheCluster(broker), seed, directory, arguments.faults, arguments.per_second)
                )
            except AssertionError as error:
                sys.stderr.write(f"{error}\n")
                broken += 1
                continue
            sums += added(figures)
            sys.stdout.write(figures.decode() + "\n")
            sys.stdout.flush()
            shutil.rmtree(directory)
    sys.stdout.write(orjson.dumps({**sums, "broken": broken}).decode() + "\n")
    return int(broken > 0)


def added(figures: bytes) -> Counter[str]:
    told = orjson.loads(figures)
    counts = {name: told[name] for name in ("requests", "calls", "extra_calls", "copies")}
    return Counter({"seeds": 1, "faults": sum(told["faults"].values()), **counts})


if __name__ == "__main__":
    sys.exit(main())
