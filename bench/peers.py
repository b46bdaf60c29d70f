"""What a request costs here and in LiteLLM: CPU of the process, on the same upstream, in the same run.

    python -m venv .venv-peers && .venv-peers/bin/pip install '.[bench]'
    python bench/peers.py --python .venv-peers/bin/python -o json

Ours is the whole dispatch worker, orders from Kafka and two records to Kafka included; LiteLLM's SDK and Router are
called in a loop by a process of their own, and publish nothing. Each process measures itself; rounds are interleaved,
a ratio is the median of the rounds' ratios, and the first round warms up. LiteLLM brings its own versions of what we
pin, so it lives in an environment of its own.
"""

import asyncio
import importlib.util
import os
import statistics
import subprocess
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dispatch
import harness
from dispatch import BODY_BYTES, BUSY, SMALL
from harness import Child, child, in_turn

from heimdall_fleet.config import load

PEER = str(Path(__file__).with_name("peers_litellm.py"))
KINDS = ("sdk", "router")
IS_THERE = "import importlib.util, sys; sys.exit(importlib.util.find_spec('litellm') is None)"


@dataclass(frozen=True, slots=True)
class Effort:
    """Rounds, and requests of one round: ours by calls in flight, and a peer's."""

    rounds: int
    ours: dict[int, int]
    peers: int


THOROUGH = Effort(5, {SMALL: 300, BUSY: 1500}, 400)
QUICK = Effort(1, {SMALL: 20, BUSY: 40}, 20)


def main() -> None:
    options = harness.parser(__doc__ or "")
    options.add_argument("--python", default=sys.executable, help="the interpreter that has litellm; default: this one")
    arguments = options.parse_args()
    if not has_litellm(arguments.python):
        print(
            f"{arguments.python} has no litellm, so there is nobody to compare with. Make an environment for it:\n"
            "    python -m venv .venv-peers && .venv-peers/bin/pip install '.[bench]'\n"
            "and give its interpreter: python bench/peers.py --python .venv-peers/bin/python",
            file=sys.stderr,
        )
        sys.exit(2)
    effort = QUICK if arguments.quick else THOROUGH
    harness.show(asyncio.run(measure(effort, arguments.python)), arguments.output)


def has_litellm(python: str) -> bool:
    if python == sys.executable:
        return importlib.util.find_spec("litellm") is not None
    return subprocess.run([python, "-c", IS_THERE], check=False).returncode == 0


async def measure(effort: Effort, python: str) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(harness.site())
        url = await stack.enter_async_context(dispatch.upstream(here.folder))
        files = {number: dispatch.configure(here, url, number) for number in effort.ours}
        fleet = {
            number: await stack.enter_async_context(child(dispatch.WORKER, "fleet", str(file)))
            for number, file in files.items()
        }
        peers = {
            kind: await stack.enter_async_context(child(PEER, kind, f"{url}/openai/v1", python=python))
            for kind in KINDS
        }
        deciding = {number: dispatch.deciding_for(load(file, os.environ, {}).config) for number, file in files.items()}
        sides = dispatch.Sides(here, harness.Texts(seed=17), fleet, peers["sdk"], deciding)
        costs = await rounds(sides, peers, effort)
    return {
        "us_request": round(statistics.median(costs["fleet-200"]), 1),
        "us_litellm_sdk": round(statistics.median(costs["sdk"]), 1),
        "us_litellm_router": round(statistics.median(costs["router"]), 1),
        "ratio_litellm_sdk": harness.median_ratio(costs["sdk"], costs["fleet-200"]),
        "ratio_litellm_router": harness.median_ratio(costs["router"], costs["fleet-200"]),
        "ratio_200_to_10": harness.median_ratio(costs["fleet-200"], costs["fleet-10"]),
        "rounds": effort.rounds,
    }


async def rounds(sides: dispatch.Sides, peers: dict[str, Child], effort: Effort) -> dict[str, list[float]]:
    """CPU microseconds a request of each way; the round before the first warms up."""
    ways = ("fleet-200", "fleet-10", *KINDS)
    costs: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(effort.rounds + (effort.rounds > 1)):
        for _, way in in_turn(ways, 1):
            if way in peers:
                count, answer = effort.peers, await ask_peer(peers[way], sides.texts, effort.peers)
            else:
                in_flight = BUSY if way == "fleet-200" else SMALL
                count = effort.ours[in_flight]
                answer = await sides.cost("fleet", in_flight, count)
            if number or effort.rounds == 1:
                costs[way].append(answer["cpu_s"] / count * 1e6)
    return costs


async def ask_peer(peer: Child, texts: harness.Texts, count: int) -> dict[str, Any]:
    bodies = [body.decode() for body in texts.bodies(BODY_BYTES, count)]
    return await peer.ask(count=count, in_flight=BUSY, bodies=bodies)


if __name__ == "__main__":
    main()
