"""What huge pages spare: the CPU of an order in a dispatch worker that is denied them, beside one that makes them.

    python bench/huge_pages.py -o json

Both are the fleet's own worker, measured as in `dispatch.py`, in interleaved rounds. Where the system makes no huge pages
`huge_mib` is 0, and the ratio says how far two equal workers are apart.
"""

import asyncio
import os
import re
import statistics
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import dispatch
import harness
from harness import Child, child, in_turn

from heimdall_fleet.config import load
from heimdall_fleet.service import GROWN_AFTER_S

HUGE, SMALL = dispatch.BUSY, dispatch.BUSY + 1
"""Calls in flight, which tell the two workers apart and are as good as equal."""
WARMING, ROUNDS, ORDERS = 3, 24, 1000


def main() -> None:
    arguments = harness.parser(__doc__ or "").parse_args()
    sizes = (0, 2, 40) if arguments.quick else (WARMING, ROUNDS, ORDERS)
    harness.show(asyncio.run(measure(*sizes)), arguments.output)


async def measure(warming: int, rounds: int, orders: int) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(harness.site())
        url = await stack.enter_async_context(dispatch.upstream(here.folder))
        files = {number: dispatch.configure(here, url, number) for number in (HUGE, SMALL)}
        huge, small = await asyncio.gather(
            stack.enter_async_context(child(dispatch.WORKER, "fleet", str(files[HUGE]))),
            stack.enter_async_context(child(dispatch.WORKER, "fleet_in_small_pages", str(files[SMALL]))),
        )
        deciding = {number: dispatch.deciding_for(load(file, os.environ, {}).config) for number, file in files.items()}
        sides = dispatch.Sides(here, harness.Texts(seed=17), {HUGE: huge, SMALL: small}, huge, deciding)
        if warming:
            await paired(sides, warming, orders)
            await asyncio.sleep(GROWN_AFTER_S + 1)  # what the first rounds have filled becomes huge pages
        with_huge, without = await paired(sides, rounds, orders)
        held = {
            "huge_mib": mib(huge, "AnonHugePages"),
            "huge_mib_denied": mib(small, "AnonHugePages"),
            "rss_mib": mib(huge, "Rss"),
            "rss_mib_small_pages": mib(small, "Rss"),
        }
    low, _, high = statistics.quantiles([one / other for one, other in zip(without, with_huge, strict=True)])
    return {
        "us_request": round(statistics.median(with_huge), 1),
        "us_request_small_pages": round(statistics.median(without), 1),
        "ratio_small_pages": harness.median_ratio(without, with_huge),
        "ratio_low_quartile": round(low, 2),
        "ratio_high_quartile": round(high, 2),
        **held,
        "rounds": rounds,
    }


async def paired(sides: dispatch.Sides, rounds: int, orders: int) -> tuple[list[float], list[float]]:
    """CPU microseconds a request of each round, of the worker with huge pages and of the other."""
    costs: dict[str, list[float]] = {str(HUGE): [], str(SMALL): []}
    for _, name in in_turn(list(costs), rounds):
        costs[name].append((await sides.cost("fleet", int(name), orders))["cpu_s"] / orders * 1e6)
    return costs[str(HUGE)], costs[str(SMALL)]


def mib(worker: Child, kind: str) -> int:
    """How much memory of this kind a worker has, as proc(5) `smaps_rollup` names it."""
    found = re.search(
        rf"^{kind}:\s+(\d+) kB", Path(f"/proc/{worker.process.pid}/smaps_rollup").read_text(), re.MULTILINE
    )
    return 0 if found is None else int(found[1]) // 1024


if __name__ == "__main__":
    main()
