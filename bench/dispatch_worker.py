"""The measured processes of `dispatch.py`: the fleet's dispatch worker, and a bare aiohttp loop.

Their orders are made elsewhere, so that what they hold is what such a worker holds.
"""

import asyncio
import ctypes
import os
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import measured

import heimdall_fleet.cli.workers  # noqa: F401  # `heimdall dispatch` has loaded it too
from heimdall_fleet import __version__
from heimdall_fleet.bootstrap.dispatch import dispatch_service
from heimdall_fleet.bootstrap.edges import closed_labels
from heimdall_fleet.config import Watcher, load
from heimdall_fleet.dispatch.run import Ending, Run
from heimdall_fleet.dispatch.telemetry import FleetTelemetry
from heimdall_fleet.observe.health import Health
from heimdall_fleet.observe.metrics import Metrics
from heimdall_fleet.observe.server import ObserveServer, ServerSettings
from heimdall_fleet.service import serve

_THP_DISABLE = 41
"""PR_SET_THP_DISABLE of prctl(2)."""


def main() -> None:
    kind, where = sys.argv[1:]
    if kind == "fleet_in_small_pages":
        refuse_huge_pages()
    asyncio.run(work_bare(where) if kind == "bare" else work(Path(where)))


def refuse_huge_pages() -> None:
    """As where an administrator wants none: the system makes none for this process. Raises OSError where it cannot be told."""
    if ctypes.CDLL(None).prctl(_THP_DISABLE, 1, 0, 0, 0):
        raise OSError("prctl(PR_SET_THP_DISABLE) was refused")


class Counting(FleetTelemetry):
    """The worker's telemetry, which also says when the last order of a round was published."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__(metrics)
        self.left = 0
        self.failed = 0
        self.all_ended = asyncio.Event()

    def ended(self, run: Run, ending: Ending, duration_ms: float) -> None:
        super().ended(run, ending, duration_ms)
        self.failed += ending.failure is not None
        self.left -= 1
        if self.left <= 0:
            self.all_ended.set()


async def work(config_file: Path) -> None:
    """The child: `heimdall dispatch`, told how many orders are coming."""
    loaded = load(config_file, os.environ, {})
    metrics = Metrics("dispatch", __version__)
    metrics.allow(**closed_labels(loaded.config))
    service = dispatch_service(loaded, metrics)
    counting = Counting(metrics)
    service.worker.room = replace(service.worker.room, telemetry=counting)
    health = Health(__version__, lambda: datetime.now(UTC))
    service.check_into(health)
    server = ObserveServer(metrics, health, ServerSettings(host="127.0.0.1", port=0))
    serving = asyncio.create_task(serve(service, server, Watcher(loaded, lambda: loaded, lambda _: None)))
    for _ in range(600):
        if service.wires.orders.facts().group.joined:
            break
        await asyncio.sleep(0.05)
    measured.say({"ready": True})
    async for command in measured.commands():
        counting.left, counting.failed = command["count"], 0
        watch = measured.Stopwatch()
        if counting.left:
            counting.all_ended.clear()
            await counting.all_ended.wait()
        measured.say({**watch.read(), "rss_mib": measured.rss_mib(), "failed": counting.failed})
    service.stop()
    await serving


async def work_bare(url: str) -> None:
    """The child: what nothing but the calls costs."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        measured.say({"ready": True})
        async for command in measured.commands():
            left = iter([body.encode() for body in command["bodies"]])
            watch = measured.Stopwatch()

            async def caller(bodies: Any = left) -> None:
                headers = {"authorization": "Bearer scripted-openai-1", "content-type": "application/json"}
                for body in bodies:
                    async with session.post(url, data=body, headers=headers) as response:
                        assert b'"usage"' in await response.read()

            await asyncio.gather(*(caller() for _ in range(command["in_flight"])))
            measured.say({**watch.read(), "rss_mib": measured.rss_mib()})


if __name__ == "__main__":
    main()
