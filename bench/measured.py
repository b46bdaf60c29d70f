"""What a measured process needs: commands from the benchmark, answers to it, its own CPU time and memory.

Nothing else is imported here, so that the memory of the process is that of what it measures.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson

from heimdall_fleet.observe.process import resident_bytes

MIB = 1024 * 1024


async def commands() -> AsyncIterator[dict[str, Any]]:
    """What the benchmark says, until it closes the pipe."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield orjson.loads(line)


def say(value: Mapping[str, Any]) -> None:
    """One answer."""
    print(orjson.dumps(value).decode(), flush=True)


class Stopwatch:
    """CPU and wall-clock seconds of this process, all threads."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def read(self) -> dict[str, float]:
        return {"cpu_s": time.process_time() - self._cpu, "wall_s": time.perf_counter() - self._wall}


def rss_mib() -> float:
    return round(resident_bytes() / MIB, 1)
