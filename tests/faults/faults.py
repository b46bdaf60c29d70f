"""Faults that last: entered and left with `async with`, and written into the history."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.brokers.clusters import ApacheCluster
from tests.faults.fleet import Fleet
from tests.faults.history import Fault


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
