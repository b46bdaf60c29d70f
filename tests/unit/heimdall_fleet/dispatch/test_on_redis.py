"""Two workers that share a real Redis: one call for a request, and a dead worker's orders are free within a lease."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.brokers.redis import redis_server

from heimdall_fleet.state.redis import RedisState

if TYPE_CHECKING:
    from tests.unit.heimdall_fleet.dispatch.conftest import Bench

LEASE_MS = 300


@pytest.fixture(scope="module")
def redis_port() -> Iterator[int]:
    with redis_server() as server:
        yield server.port


@pytest.fixture
async def pair(bench: "Bench", redis_port: int) -> AsyncIterator[tuple["Bench", "Bench"]]:
    """Two workers, each with connections of its own."""
    prefix = f"{uuid.uuid4()}:"
    workers = [bench, type(bench)()]
    for name, worker in zip(("w1", "w2"), workers, strict=True):
        worker.state = RedisState.connect(f"redis://127.0.0.1:{redis_port}/0", prefix=prefix, timeout_s=5)
        worker.settings = replace(worker.settings, worker=name, lease_ms=LEASE_MS, look_again_ms=20)
    yield workers[0], workers[1]
    for worker in workers:
        await worker.state.close()


class Hanging:
    """A provider that never answers, so that its caller can be killed in the middle."""

    def __init__(self) -> None:
        self.called = asyncio.Event()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.called.set()
        await asyncio.sleep(60)
        raise AssertionError


async def killed_in_its_call(worker: "Bench", **order: Any) -> None:
    hanging = Hanging()
    worker.upstream.on("openai", hanging)
    running = asyncio.create_task(worker.worker.handle(worker.order(**order)))
    await hanging.called.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_an_order_in_two_workers_at_once_is_called_once_and_answered_the_same(
    pair: tuple["Bench", "Bench"],
) -> None:
    one, two = pair
    await asyncio.gather(one.run(), two.run())
    assert len(one.upstream.requests) + len(two.upstream.requests) == 1
    assert one.replies() == two.replies()
    assert one.outcomes() == two.outcomes()


async def test_the_orders_of_a_dead_worker_are_taken_over_within_a_lease_and_told_as_repeated(
    pair: tuple["Bench", "Bench"],
) -> None:
    one, two = pair
    await killed_in_its_call(one)
    started = monotonic()
    reply = await two.run()
    assert LEASE_MS / 2 <= (monotonic() - started) * 1_000 <= LEASE_MS + 1_000
    assert reply["heimdall"]["state"] == "answered"
    assert two.outcomes()[0]["call_repeated"] is True


async def test_a_lease_that_is_renewed_outlives_itself(pair: tuple["Bench", "Bench"]) -> None:
    one, two = pair
    hanging = Hanging()
    one.upstream.on("openai", hanging)
    running = asyncio.create_task(one.worker.handle(one.order()))
    await hanging.called.wait()
    waiting = asyncio.create_task(two.run())
    for _ in range(4):
        await asyncio.sleep(LEASE_MS / 2_000)
        await one.state.renew_calls(one.worker.room.leases.all(), LEASE_MS)
    assert not waiting.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (await waiting)["heimdall"]["state"] == "answered"


async def test_a_failover_streaming_and_keyed_order_goes_all_the_way(pair: tuple["Bench", "Bench"]) -> None:
    one, two = pair
    one.upstream.on("anthropic", lambda request: httpx.Response(503, json={"error": {"message": "no"}}))
    first = await one.run("anthropic/claude", "openai/gpt-5", idempotency_key="k")
    assert first["heimdall"]["selected_provider"] == "openai"
    copy = await two.run("anthropic/claude", request_id="r2", idempotency_key="k")
    assert copy["heimdall"]["answered_for"] == "r1"
    assert two.upstream.requests == []


async def test_a_key_with_a_dead_first_holder_is_taken_over(pair: tuple["Bench", "Bench"]) -> None:
    one, two = pair
    await killed_in_its_call(one, request_id="r1", idempotency_key="k")
    assert (await two.run(request_id="r2", idempotency_key="k"))["heimdall"]["state"] == "answered"
