"""A slow first model gets a second one beside it, when that is wanted; the first answer wins and nothing is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from tests.unit.heimdall_fleet.dispatch.conftest import Bench


def after(
    delay_s: float, text: str = "hello", status: int = 200
) -> Callable[[httpx.Request], Awaitable[httpx.Response]]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}

    async def answer(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(delay_s)
        return httpx.Response(status, json=body if status == 200 else {"error": {"message": "no"}})

    return answer


@pytest.fixture
def hedged(bench: "Bench") -> "Bench":
    bench.settings = replace(bench.settings, hedge_after_ms=20)
    return bench


def told(reply: dict[str, Any]) -> list[tuple[str, str | None, bool]]:
    attempts = reply["heimdall"]["attempts"]
    return [(each["provider"], each["failure"], each.get("hedged", False)) for each in attempts]


def all_free(bench: "Bench") -> bool:
    return all(bench.worker.room.pool.provider(name).in_flight == 0 for name in bench.providers)


async def test_a_fast_first_model_is_asked_alone(hedged: "Bench") -> None:
    await hedged.run("openai/gpt-5", "google/gemini")
    assert hedged.upstream.called() == ["openai"]


async def test_the_second_model_answers_for_a_slow_first_one(hedged: "Bench") -> None:
    hedged.upstream.on("openai", after(60))
    reply = await hedged.run("openai/gpt-5", "google/gemini")
    assert reply["heimdall"]["selected_provider"] == "google"
    assert told(reply) == [("openai", "policy_cancelled", True), ("google", None, False)] or told(reply) == [
        ("google", None, False),
        ("openai", "policy_cancelled", True),
    ]
    assert reply["heimdall"]["fallback_reason"] is None
    assert hedged.outcomes()[0]["cost_usd_micros"] == 200 + 100
    assert all_free(hedged)


async def test_the_first_model_may_still_win(hedged: "Bench") -> None:
    hedged.upstream.on("openai", after(0.06))
    hedged.upstream.on("google", after(60))
    reply = await hedged.run("openai/gpt-5", "google/gemini")
    assert reply["heimdall"]["selected_provider"] == "openai"
    assert ("google", "policy_cancelled", True) in told(reply)
    assert all_free(hedged)


async def test_a_hedge_that_fails_leaves_the_first_its_time(hedged: "Bench") -> None:
    hedged.upstream.on("openai", after(0.08))
    hedged.upstream.on("google", after(0, status=503))
    reply = await hedged.run("openai/gpt-5", "google/gemini")
    assert reply["heimdall"]["selected_provider"] == "openai"
    assert told(reply) == [("google", "provider_overloaded", False), ("openai", None, False)]
    assert all_free(hedged)


async def test_when_both_fail_the_third_is_asked(hedged: "Bench") -> None:
    hedged.upstream.on("openai", after(0.06, status=503))
    hedged.upstream.on("google", after(0, status=503))
    reply = await hedged.run("openai/gpt-5", "google/gemini", "anthropic/claude")
    assert reply["heimdall"]["selected_provider"] == "anthropic"
    assert [provider for provider, _, _ in told(reply)] == ["google", "openai", "anthropic"]
    assert all_free(hedged)


async def test_both_calls_are_ended_when_the_order_is_cancelled(hedged: "Bench") -> None:
    both = asyncio.Event()

    async def hang(request: httpx.Request) -> httpx.Response:
        if len(hedged.upstream.requests) == 2:
            both.set()
        await asyncio.sleep(60)
        raise AssertionError

    hedged.upstream.on("openai", hang)
    hedged.upstream.on("google", hang)
    running = asyncio.create_task(hedged.worker.handle(hedged.order("openai/gpt-5", "google/gemini")))
    await both.wait()
    assert hedged.worker.cancel(b'{"request_id":"r1"}')
    await running
    (reply,) = hedged.replies()
    assert reply["heimdall"]["state"] == "cancelled"
    assert sorted(provider for provider, _, _ in told(reply)) == ["google", "openai"]
    assert all_free(hedged)


@pytest.mark.parametrize(
    "order", [{"max_cost_usd_micros": 100_000}, {"body": {"stream": True}}, {"attempts_before": 3}]
)
async def test_no_second_call_for_money_streams_and_last_attempts(hedged: "Bench", order: dict[str, Any]) -> None:
    hedged.upstream.on("openai", after(0.06, status=400))
    await hedged.run("openai/gpt-5", "google/gemini", **order)
    assert hedged.upstream.called() == ["openai"]
