import logging
from typing import TYPE_CHECKING

import httpx
import pytest

from heimdall_fleet.dispatch.ending.words import WITHHELD
from heimdall_fleet.dispatch.telemetry import FleetTelemetry
from heimdall_fleet.observe.metrics import Metrics

if TYPE_CHECKING:
    from tests.unit.heimdall_fleet.dispatch.conftest import Bench


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics("dispatch", "1")
    metrics.allow(models=["openai/gpt-5", "google/gemini"], providers=["openai", "google"])
    return metrics


def count(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


async def test_an_answer_counts_its_attempt_its_money_and_its_end(bench: "Bench", metrics: Metrics) -> None:
    bench.notes = FleetTelemetry(metrics)  # type: ignore[assignment]  # the real telemetry instead of the notes
    await bench.run("openai/gpt-5")
    at = {"provider": "openai", "model": "openai/gpt-5"}
    assert count(metrics, "heimdall_dispatch_attempts_total", **at, status="ok") == 1
    assert count(metrics, "heimdall_cost_dollars_total", **at) == pytest.approx(0.0002)
    done = {"bucket": "hard", "model": "openai/gpt-5", "status": "answered", "cache_hit": "false"}
    assert count(metrics, "heimdall_requests_total", **done) == 1


async def test_a_hop_is_counted_by_its_model_its_ends_and_its_reason(
    bench: "Bench", metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    bench.notes = FleetTelemetry(metrics)  # type: ignore[assignment]  # the real telemetry instead of the notes
    bench.upstream.on("openai", lambda request: httpx.Response(503, json={"error": {"message": "busy"}}))
    with caplog.at_level(logging.INFO):
        await bench.run("openai/gpt-5", "google/gemini")
    hop = {"from": "openai/gpt-5", "to": "google/gemini"}
    assert count(metrics, "heimdall_fallbacks_total", **hop, reason="provider_overloaded") == 1
    assert count(metrics, "heimdall_fallback_triggered_total", **hop, model="openai/gpt-5") == 1
    assert [getattr(line, "action", None) for line in caplog.records] == ["attempt_failed"]


async def test_at_debug_each_end_is_told_with_its_time_its_tokens_and_its_cost(
    bench: "Bench", metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "heimdall_fleet.dispatch.telemetry"):
        bench.notes = FleetTelemetry(metrics)  # type: ignore[assignment]  # the real telemetry instead of the notes
        await bench.run("openai/gpt-5")
    (line,) = [each for each in caplog.records if getattr(each, "action", None) == "order_ended"]
    told = {name: vars(line)[name] for name in ("state", "model", "provider", "attempts", "cost_usd_micros")}
    assert told == {
        "state": "answered",
        "model": "openai/gpt-5",
        "provider": "openai",
        "attempts": 1,
        "cost_usd_micros": 200,
    }
    assert vars(line)["tokens"] > 0
    assert vars(line)["latency_ms"] >= 0


async def test_a_failed_call_is_told_with_its_place_its_key_and_the_words_of_the_provider(
    bench: "Bench", metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    bench.notes = FleetTelemetry(metrics)  # type: ignore[assignment]  # the real telemetry instead of the notes
    bench.upstream.on("openai", lambda request: httpx.Response(404, json={"error": {"message": "no model gpt-5"}}))
    await bench.run("openai/gpt-5", "google/gemini")
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert line.getMessage() == "openai/gpt-5 at openai: provider_not_found: no model gpt-5"
    told = {name: vars(line)[name] for name in ("action", "provider", "model", "key", "failure", "status")}
    assert told == {
        "action": "attempt_failed",
        "provider": "openai",
        "model": "openai/gpt-5",
        "key": "a",
        "failure": "provider_not_found",
        "status": 404,
    }
    assert vars(line)["request_id"]


async def test_an_outage_is_told_once_in_ten_seconds_with_how_many_calls_failed_meanwhile(
    bench: "Bench", metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = 100.0
    bench.notes = FleetTelemetry(metrics, lambda: now_s)  # type: ignore[assignment]  # the real telemetry
    bench.upstream.on("openai", lambda request: httpx.Response(503, json={"error": {"message": "busy"}}))
    for request_id in ("r0", "r1"):
        await bench.run("openai/gpt-5", "google/gemini", request_id=request_id)
    assert len(caplog.records) == 1
    now_s += 10.0
    await bench.run("openai/gpt-5", "google/gemini", request_id="r2")
    assert [vars(line).get("count") for line in caplog.records] == [None, 1]


async def test_words_of_a_provider_that_repeat_the_prompt_are_in_the_reply_alone(
    bench: "Bench", metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    bench.notes = FleetTelemetry(metrics)  # type: ignore[assignment]  # the real telemetry instead of the notes
    bench.upstream.on("openai", lambda request: httpx.Response(400, json={"error": {"message": "bad: my secret"}}))
    body = {"messages": [{"role": "user", "content": "my secret"}]}
    reply = await bench.run("openai/gpt-5", body=body)
    assert reply["error"]["message"] == "openai/gpt-5 at openai: bad: my secret"
    (outcome,) = bench.outcomes()
    assert outcome["error"] == WITHHELD
    (line,) = caplog.records
    assert line.getMessage() == f"openai/gpt-5 at openai: provider_rejected: {WITHHELD}"
