import logging
from typing import TYPE_CHECKING

import httpx
import pytest

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
    assert [getattr(line, "action", None) for line in caplog.records] == ["fell_back"]


async def test_a_call_that_goes_well_writes_no_line(
    bench: "Bench", metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    bench.notes = FleetTelemetry(metrics)  # type: ignore[assignment]  # the real telemetry instead of the notes
    with caplog.at_level(logging.INFO):
        await bench.run("openai/gpt-5")
    assert caplog.records == []
