"""A chain of the configuration leads to no model that caller, tenant or operator have ruled out."""

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from heimdall_fleet.dispatch.bounds import Bounds

if TYPE_CHECKING:
    from tests.unit.heimdall_fleet.dispatch.conftest import Bench

IDS = {"gemini-latest": "google/gemini", "google/gemini": "google/gemini", "anthropic/claude": "anthropic/claude"}
CHAIN = {"openai/gpt-5": ("google/gemini", "anthropic/claude")}
BOUNDS = Bounds(IDS.get, tenants={"acme": ("openai/", "anthropic/")}, exclude_authors=("x-ai",))


def failing(status: int, code: str = "x") -> Any:
    return lambda _: httpx.Response(status, json={"error": {"message": "no", "type": "x", "code": code}})


async def called(bench: "Bench", said: dict[str, Any], **order: Any) -> list[str]:
    bench.upstream.on("openai", failing(500))
    bench.upstream.on("google", failing(500))
    await bench.run("openai/gpt-5", body={"heimdall": said}, **order)
    return list(dict.fromkeys(bench.upstream.called()))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, ["openai", "google", "anthropic"]),
        ({"exclude": ["google/"]}, ["openai", "anthropic"]),
        ({"exclude": ["google"]}, ["openai", "anthropic"]),
        ({"exclude": ["gemini-latest"]}, ["openai", "anthropic"]),
        ({"candidates": ["openai/gpt-5", "anthropic/claude"]}, ["openai", "anthropic"]),
        ({"candidates": ["openai/gpt-5"]}, ["openai"]),
    ],
)
async def test_what_the_caller_rules_out_is_not_asked(
    bench: "Bench", said: dict[str, Any], expected: list[str]
) -> None:
    bench.bounds = BOUNDS
    bench.failover(fallbacks=CHAIN, max_attempts=10)
    assert await called(bench, said) == expected


async def test_what_the_tenant_may_not_use_is_not_asked(bench: "Bench") -> None:
    bench.bounds = BOUNDS
    bench.failover(fallbacks=CHAIN, max_attempts=10)
    assert await called(bench, {}, tenant="acme") == ["openai", "anthropic"]


async def test_an_excluded_author_is_not_asked(bench: "Bench") -> None:
    bench.bounds = Bounds(IDS.get, exclude_authors=("Google",))
    bench.failover(fallbacks=CHAIN, max_attempts=10)
    assert await called(bench, {}) == ["openai", "anthropic"]


async def test_a_chain_for_refused_content_keeps_to_it_too(bench: "Bench") -> None:
    bench.bounds = BOUNDS
    bench.failover(content_policy_fallbacks=CHAIN)
    bench.upstream.on("openai", failing(400, "content_policy_violation"))
    await bench.run("openai/gpt-5", body={"heimdall": {"exclude": ["google/"]}})
    assert bench.upstream.called() == ["openai", "anthropic"]


async def test_the_steps_of_the_plan_stay(bench: "Bench") -> None:
    """Triage has held them against the same rules, and knows where one was waived."""
    bench.bounds = BOUNDS
    bench.failover(fallbacks={"openai/gpt-5": ("openai/gpt-mini",)})
    bench.upstream.on("openai", failing(500))
    await bench.run("openai/gpt-5", "google/gemini", body={"heimdall": {"exclude": ["google/"]}})
    assert bench.upstream.called()[-1] == "google"
