"""Workers that are lost with calls under way, and those of them that come back: every call is in the audit, once."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from heimdall_fleet.dispatch.clock import SystemClock
from heimdall_fleet.state.base import StateUnavailable
from heimdall_fleet.state.memory import MemoryState
from heimdall_schemas.audit import AUDIT, OutcomeRecord, calls_of

if TYPE_CHECKING:
    from tests.unit.heimdall_fleet.dispatch.conftest import Bench

LEASE_MS = 20
GUESS_USD_MICROS = 100
"""100 tokens of prompt at a dollar a million."""
PAID_USD_MICROS = 200
"""And 50 of output at two."""


class Jumping(SystemClock):
    """A clock that can be put forward."""

    passed_ms = 0.0

    def mono_ms(self) -> float:
        return super().mono_ms() + self.passed_ms


class Provider:
    """Answers when it is let go."""

    def __init__(self, status: int = 200) -> None:
        self.called, self.go, self._status = asyncio.Event(), asyncio.Event(), status

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.called.set()
        await self.go.wait()
        message = {"role": "assistant", "content": "late"}
        usage = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        good = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage}
        return httpx.Response(self._status, json=good if self._status == 200 else {"error": {"message": "no"}})


@pytest.fixture
def pair(bench: "Bench") -> tuple["Bench", "Bench"]:
    """Two workers that share their state; neither renews its reservations."""
    workers = (bench, type(bench)())
    workers[1].state = bench.state
    for name, worker in zip(("w1", "w2"), workers, strict=True):
        worker.settings = replace(worker.settings, worker=name, lease_ms=LEASE_MS, look_again_ms=2)
    return workers


async def frozen_in_its_call(worker: "Bench", provider: Provider, **order: Any) -> "asyncio.Task[None]":
    worker.upstream.on("openai", provider)
    running = asyncio.create_task(worker.worker.handle(worker.order(**order)))
    await provider.called.wait()
    return running


async def killed(running: "asyncio.Task[None]") -> None:
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_call_of_a_worker_that_died_is_told_by_its_successor(pair: tuple["Bench", "Bench"]) -> None:
    one, two = pair
    await killed(await frozen_in_its_call(one, Provider()))
    reply = await two.run()
    outcome = two.outcomes()[0]
    lost, made = outcome["attempts"]
    assert (lost["failure"], lost["status"], lost["cost_estimated"]) == ("heimdall_interrupted", None, True)
    assert (lost["provider"], lost["model"], lost["key"]) == ("openai", "openai/gpt-5", "a")
    assert made["failure"] is None
    assert outcome["cost_usd_micros"] == GUESS_USD_MICROS + PAID_USD_MICROS
    assert outcome["call_repeated"] is True
    assert reply["heimdall"]["attempts"] == outcome["attempts"]
    AUDIT.validate_python(outcome)


@pytest.mark.parametrize("when", ["on its arrival", "while the lease runs"])
async def test_an_order_that_is_cancelled_tells_the_call_of_a_worker_that_died(
    pair: tuple["Bench", "Bench"], when: str
) -> None:
    one, two = pair
    clock = Jumping()
    one.state = two.state = MemoryState(clock.mono_ms)
    one.settings = replace(one.settings, lease_ms=60_000)
    await killed(await frozen_in_its_call(one, Provider()))
    cancel = b'{"request_id":"r1"}'
    if when == "on its arrival":
        two.worker.cancel(cancel)
    running = asyncio.create_task(two.worker.handle(two.order()))
    await asyncio.sleep(0)
    two.worker.cancel(cancel)
    clock.passed_ms = 60_000.0
    await running
    (outcome,) = two.outcomes()
    assert (outcome["state"], two.upstream.requests) == ("cancelled", [])
    assert [attempt["failure"] for attempt in outcome["attempts"]] == ["heimdall_interrupted"]
    assert (outcome["cost_usd_micros"], outcome["call_repeated"]) == (GUESS_USD_MICROS, True)
    assert two.replies()[0]["heimdall"]["attempts"] == outcome["attempts"]
    AUDIT.validate_python(outcome)


async def test_calls_of_several_lost_workers_add_up_and_count_as_attempts(pair: tuple["Bench", "Bench"]) -> None:
    one, two = pair
    one.failover(max_attempts=3)
    two.failover(max_attempts=3)
    for worker in (one, two, one):
        worker._worker = None  # another life of it
        await killed(await frozen_in_its_call(worker, Provider()))
    reply = await two.run()
    assert reply["error"]["code"] == "provider_exhausted"
    assert [attempt["failure"] for attempt in two.outcomes()[0]["attempts"]] == ["heimdall_interrupted"] * 3


async def test_what_was_known_of_earlier_attempts_stays_known(pair: tuple["Bench", "Bench"]) -> None:
    one, two = pair
    one.upstream.on("anthropic", lambda request: httpx.Response(503, json={"error": {"message": "no"}}))
    provider = Provider()
    one.upstream.on("openai", provider)
    running = asyncio.create_task(one.worker.handle(one.order("anthropic/claude", "openai/gpt-5")))
    await provider.called.wait()
    await killed(running)
    await two.run("anthropic/claude", "openai/gpt-5")
    found = [attempt["failure"] for attempt in two.outcomes()[0]["attempts"]]
    assert found == ["provider_overloaded", "heimdall_interrupted", None]


async def test_an_order_that_expires_after_its_worker_died_still_tells_of_the_call(
    pair: tuple["Bench", "Bench"],
) -> None:
    one, two = pair
    await killed(await frozen_in_its_call(one, Provider()))
    await asyncio.sleep(2 * LEASE_MS / 1_000)
    reply = await two.run(ttl_ms=-1)
    assert reply["heimdall"]["state"] == "expired"
    assert [attempt["failure"] for attempt in reply["heimdall"]["attempts"]] == ["heimdall_interrupted"]
    assert two.upstream.requests == []


async def test_a_worker_that_comes_back_repeats_the_published_end_and_adds_its_own_calls(
    pair: tuple["Bench", "Bench"],
) -> None:
    one, two = pair
    provider = Provider()
    zombie = await frozen_in_its_call(one, provider)
    await two.run()
    provider.go.set()
    await zombie
    assert one.replies() == two.replies()
    published, wasted = one.outcomes()
    assert published == two.outcomes()[0]
    assert (wasted["superseded"], wasted["state"], wasted["worker"]) == (True, "answered", "w1")
    assert wasted["selected_model"] is None
    read = AUDIT.validate_python(wasted)
    assert isinstance(read, OutcomeRecord)
    assert read.superseded
    paid = published["cost_usd_micros"] + wasted["cost_usd_micros"]
    assert paid == 2 * PAID_USD_MICROS, "the guess of the successor is replaced by what is known"
    calls = calls_of([published, wasted])
    assert [call["failure"] for call in calls] == [None, None]
    assert sum(call["cost_usd_micros"] for call in calls) == paid


async def test_a_worker_that_comes_back_too_late_does_not_contradict_an_answer(pair: tuple["Bench", "Bench"]) -> None:
    one, two = pair
    zombie = await frozen_in_its_call(one, provider := Provider(), ttl_ms=200)
    await two.run()
    one.settings = replace(one.settings, grace_ms=0)
    await zombie
    assert not provider.go.is_set()
    assert [reply["heimdall"]["state"] for reply in one.replies()] == ["answered"]
    assert one.outcomes()[-1]["attempts"][0]["failure"] == "provider_timeout"


async def test_an_order_that_another_worker_took_over_in_the_meantime_is_not_called_for(bench: "Bench") -> None:
    other = type(bench)()

    class Sleepy(MemoryState):
        """Falls asleep between the reservation and the call; another worker answers the order meanwhile."""

        async def begin_call(self, call_id: str, holder: str, begun: Callable[[], bytes], lease_ms: int) -> bool:
            if holder == "w1" and not other.replies():
                await self.release_call(call_id, holder)
                await other.run()
            return await super().begin_call(call_id, holder, begun, lease_ms)

    bench.state = other.state = Sleepy(bench.clock.mono_ms)
    other.settings = replace(other.settings, worker="w2")
    await bench.run()
    assert bench.upstream.requests == []
    assert bench.replies() == other.replies()
    assert bench.outcomes() == other.outcomes()
    assert bench.worker.room.pool.provider("openai").in_flight == 0


async def test_no_call_begins_when_the_deadline_passed_on_the_way_to_it(bench: "Bench") -> None:
    class Slow(MemoryState):
        async def begin_call(self, call_id: str, holder: str, begun: Callable[[], bytes], lease_ms: int) -> bool:
            clock.passed_ms = 60_000.0
            return await super().begin_call(call_id, holder, begun, lease_ms)

    bench.clock = clock = Jumping()
    bench.state = Slow(clock.mono_ms)
    reply = await bench.run()
    assert reply["heimdall"]["state"] == "expired"
    assert bench.upstream.requests == []
    assert reply["heimdall"]["attempts"] == []
    assert bench.worker.room.pool.provider("openai").in_flight == 0


@pytest.mark.parametrize(("dedup", "calls"), [("default", 1), ("strict", 0)])
async def test_a_state_that_goes_down_right_before_the_call_is_told_or_waited_for(
    bench: "Bench", dedup: str, calls: int
) -> None:
    class Gone(MemoryState):
        async def begin_call(self, call_id: str, holder: str, begun: Callable[[], bytes], lease_ms: int) -> bool:
            raise StateUnavailable("gone")

    bench.state = Gone(bench.clock.mono_ms)
    await bench.worker.handle(bench.order(dedup=dedup))
    assert len(bench.upstream.requests) == calls
    assert [outcome.get("unreserved") for outcome in bench.outcomes()] == [True] * calls
    assert [parked.reason for parked, _ in bench.notes.parks] == ["state_unavailable"] * (1 - calls)
