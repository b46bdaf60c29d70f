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
from typing import NamedTuple

import orjson
from tests.brokers.clusters import ApacheCluster, broker_with_detour
from tests.brokers.redis import RedisServer, redis_server
from tests.faults.detour import Network, network
from tests.faults.faults import broker_gone, broker_silent, noted, redis_slow
from tests.faults.fleet import Setup
from tests.faults.scenario import Scenario, scenario

BEHAVIOURS = {
    "*": {"latency_ms": {"median": 200, "sigma": 0.6}, "output_tokens": {"median": 40}, "errors": {"429": 0.03}},
    "openai": {"latency_ms": {"median": 300, "sigma": 0.6}, "errors": {"500": 0.03, "429": 0.02}, "hang": 0.002},
}
FAULTS = (
    "kill dispatch", "kill triage", "stop dispatch", "stop triage", "freeze", "broker killed", "broker silent",
    "redis slow", "network slow", "network resets", "network loses",
)  # fmt: skip
PAUSE_S = (1.0, 4.0)


async def one_round(cluster: ApacheCluster, seed: int, directory: Path, faults: int, per_second: float) -> bytes:
    """One fleet, so many faults; its figures as JSON. Raises AssertionError with what the checker found."""
    assert cluster.detour is not None
    with redis_server() as redis:
        async with network(cluster.detour, seed) as net:
            settings: dict[str, dict[str, object]] = {
                "state": {"url": redis.url},
                "kafka": {"bootstrap_servers": net.bootstrap},
            }
            setup = Setup(seed, directory, triage=1, dispatch=2, behaviours=BEHAVIOURS, settings=settings)
            async with scenario(cluster, setup) as run:
                await run.under_load(break_things(run, Breakable(cluster, redis, net), faults), per_second)
                await run.settled(120)
                return orjson.dumps((await run.verdict()).figures())


class Breakable(NamedTuple):
    """What the fleet stands on."""

    cluster: ApacheCluster
    redis: RedisServer
    net: Network


async def break_things(run: Scenario, below: Breakable, count: int) -> None:
    """Faults drawn from the seed; a worker that was taken is replaced before the next one."""
    fleet, cluster = run.fleet, below.cluster
    for _ in range(count):
        await asyncio.sleep(fleet.random.uniform(*PAUSE_S))
        verb, _, what = fleet.random.choice(FAULTS).partition(" ")
        if verb == "redis":
            await redis_slow(fleet, below.redis, fleet.random.randint(1, 3))
        elif verb == "network":
            async with noted(fleet, f"network {what}"):
                await break_network(below.net, what, fleet.random.uniform(0.5, 6.0))
        elif verb == "broker":
            async with (broker_gone if what == "killed" else broker_silent)(fleet, cluster):
                await asyncio.sleep(fleet.random.uniform(0.5, 6.0))
        elif verb == "freeze":
            await fleet.freeze(fleet.random.choice(fleet.alive("dispatch")), fleet.random.uniform(1.0, 10.0))
        else:
            worker = fleet.random.choice(fleet.alive(what))
            await (fleet.kill(worker) if verb == "kill" else fleet.terminate(worker))
            await fleet.start(what)


async def break_network(net: Network, how: str, seconds: float) -> None:
    if how == "slow":
        net.delay_s = seconds
        await asyncio.sleep(seconds)
        net.delay_s = 0.0
    elif how == "loses":
        net.lose_answers += 3
        await asyncio.sleep(seconds)
        net.lose_answers = 0
    else:
        breaking = asyncio.create_task(net.resets(0.1, every_s=0.5))
        await asyncio.sleep(seconds)
        breaking.cancel()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first round; each round adds one")
    parser.add_argument("--minutes", type=float, default=10.0, help="no round begins later than this")
    parser.add_argument("--rounds", type=int, default=1_000)
    parser.add_argument("--faults", type=int, default=6, help="in each round")
    parser.add_argument("--per-second", type=float, default=40.0)
    arguments = parser.parse_args()
    sums, broken = Counter[str](), 0
    cluster = broker_with_detour()
    with cluster.broker:
        until = time.monotonic() + 60 * arguments.minutes
        for seed in range(arguments.seed, arguments.seed + arguments.rounds):
            if time.monotonic() > until:
                break
            directory = Path(tempfile.mkdtemp(prefix=f"heimdall-soak-{seed}-"))
            try:
                figures = asyncio.run(one_round(cluster, seed, directory, arguments.faults, arguments.per_second))
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
