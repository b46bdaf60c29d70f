import re

import pytest

from heimdall_fleet.dispatch.cost import Tokens
from heimdall_fleet.dispatch.run import Attempt
from heimdall_fleet.observe.exposition import json_map, text
from heimdall_fleet.observe.metrics import Metrics
from heimdall_fleet.observe.names import FORMER_NAMES
from heimdall_fleet.observe.records import BatchTimes
from heimdall_models.times import StepTimes
from heimdall_schemas.failure import FailureCode

SOURCE_NAMES = {
    "heimdall_requests_total": {"bucket", "model", "status", "cache_hit"},
    "heimdall_errors_total": {"type", "code"},
    "heimdall_cache_hits_total": set(),
    "heimdall_fallbacks_total": {"from", "to", "reason"},
    "heimdall_guardrails_total": {"rule"},
    "heimdall_cache_entries": set(),
    "heimdall_goroutines": set(),
    "heimdall_artifact_age_seconds": set(),
    "heimdall_request_duration_seconds_bucket": {"bucket", "model", "le"},
    "heimdall_routing_decisions_total": {"decision_type", "fallback_used"},
    "heimdall_bucket_distribution_total": {"bucket"},
    "heimdall_cache_hit_ratio": set(),
    "heimdall_feature_extraction_duration_seconds_bucket": {"le"},
    "heimdall_gbdt_prediction_duration_seconds_bucket": {"le"},
    "heimdall_alpha_score_calculation_duration_seconds_bucket": {"le"},
    "heimdall_memory_usage_bytes": set(),
    "heimdall_goroutine_count": set(),
    "heimdall_gc_duration_seconds_bucket": {"le"},
}


@pytest.fixture
def metrics() -> Metrics:
    made = Metrics("dispatch", "1.2.3")
    made.allow(models=["openai/gpt-5", "a/b"], providers=["openai", "groq"])
    return made


def attempt(
    provider: str, model: str, failure: FailureCode | None = None, tokens: tuple[int, int] = (0, 0), usd_micros: int = 0
) -> Attempt:
    return Attempt(provider, model, "a", None, failure, 200.0, usd_micros, Tokens(*tokens))


def used(metrics: Metrics) -> dict[str, set[str]]:
    """Every sample on the page after everything happened once: name → label names."""
    metrics.request_done("mid", "openai/gpt-5", "answered", cache_hit=False, duration_s=0.5)
    metrics.triage.batch(BatchTimes(2, 0.001, StepTimes(2, 0.0005, 0.0001, 0.0001, 0.0001, 0.0003)))
    metrics.triage.decided("scored")
    metrics.triage.guardrails.labels("context_200k").inc()
    metrics.dispatch.attempt(attempt("openai", "openai/gpt-5", FailureCode.PROVIDER_ERROR, (10, 5), 1500))
    metrics.dispatch.fell_back("openai/gpt-5", "openai/gpt-5", "a/b", "provider_error")
    metrics.dispatch.breaker("openai", "", "open")
    metrics.worker.error("internal", "CACHE_WRITE_FAILED")
    return {sample.name: set(sample.labels) for metric in metrics.registry.collect() for sample in metric.samples}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_every_name_of_the_source_design_is_on_the_page_with_its_labels(metrics: Metrics) -> None:
    page = used(metrics)
    assert {name: page.get(name) for name in SOURCE_NAMES} == SOURCE_NAMES


def test_every_former_name_has_a_successor_on_the_page(metrics: Metrics) -> None:
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used(metrics)}
    assert set(FORMER_NAMES.values()) <= families
    assert {"heimdall_prehook_latency_ms", "heimdall_memory_usage_mb"} <= set(json_map(metrics))


def test_one_request_counts_in_its_three_metrics_together(metrics: Metrics) -> None:
    metrics.request_done("mid", "openai/gpt-5", "answered", cache_hit=True, duration_s=0.5)
    labels = {"bucket": "mid", "model": "openai/gpt-5"}
    assert value(metrics, "heimdall_requests_total", **labels, status="answered", cache_hit="true") == 1
    assert value(metrics, "heimdall_request_duration_seconds_count", **labels) == 1
    assert value(metrics, "heimdall_bucket_distribution_total", bucket="mid") == 1


def test_a_name_that_a_caller_made_up_becomes_other(metrics: Metrics) -> None:
    for index in range(50):
        metrics.request_done("mid", f"evil/{index}", "failed", cache_hit=False, duration_s=1)
        metrics.dispatch.attempt(attempt(f"p{index}", f"evil/{index}"))
        metrics.dispatch.fell_back(f"evil/{index}", f"evil/{index}", "a/b", "provider_error")
    page = text(metrics, {}).decode()
    assert "evil" not in page
    assert value(metrics, "heimdall_dispatch_attempts_total", provider="other", model="other", status="ok") == 50


def test_an_allowed_name_takes_its_own_series_from_then_on(metrics: Metrics) -> None:
    metrics.dispatch.attempt(attempt("new", "n/m"))
    metrics.allow(models=["n/m"], providers=["new"])
    metrics.dispatch.attempt(attempt("new", "n/m"))
    assert value(metrics, "heimdall_dispatch_attempts_total", provider="new", model="n/m", status="ok") == 1


def test_a_provider_that_is_gone_from_the_configuration_raises_no_alert(metrics: Metrics) -> None:
    metrics.dispatch.breaker("groq", "", "open")
    assert value(metrics, "heimdall_provider_health", provider="groq") == 0
    metrics.allow(models=["a/b"], providers=["openai"])
    assert value(metrics, "heimdall_provider_health", provider="groq") is None
    assert value(metrics, "heimdall_breaker_state", provider="groq", key="") is None


def test_an_attempt_adds_tokens_money_and_its_error(metrics: Metrics) -> None:
    metrics.dispatch.attempt(attempt("openai", "a/b", None, (100, 50), 2_500_000))
    metrics.dispatch.attempt(attempt("openai", "a/b", FailureCode.PROVIDER_TIMEOUT))
    by = {"model": "a/b", "provider": "openai"}
    assert value(metrics, "heimdall_tokens_total", **by, type="prompt") == 100
    assert value(metrics, "heimdall_tokens_total", **by, type="completion") == 50
    assert value(metrics, "heimdall_cost_dollars_total", **by) == 2.5
    assert value(metrics, "heimdall_cost_per_request_sum") == 2.5
    assert value(metrics, "heimdall_request_errors_total", **by, error_type="provider_timeout") == 1
    assert value(metrics, "heimdall_request_errors_total", **by, error_type="ok") is None


def test_the_providers_own_breaker_says_whether_it_is_used(metrics: Metrics) -> None:
    metrics.dispatch.breaker("openai", "main", "open")
    assert value(metrics, "heimdall_provider_health", provider="openai") is None
    metrics.dispatch.breaker("openai", "", "half_open")
    assert value(metrics, "heimdall_breaker_state", provider="openai", key="") == 1
    assert value(metrics, "heimdall_provider_health", provider="openai") == 1


def test_a_key_that_is_out_has_a_series_until_it_is_back_and_a_provider_without_keys_is_not_used(
    metrics: Metrics,
) -> None:
    metrics.dispatch.breaker("openai", "", "closed")
    metrics.dispatch.keys_out({("openai", "main"): "provider_auth"}, ["openai"])
    labels = {"provider": "openai", "key": "main", "reason": "provider_auth"}
    assert value(metrics, "heimdall_key_out", **labels) == 1
    assert value(metrics, "heimdall_provider_health", provider="openai") == 0
    metrics.dispatch.breaker("openai", "", "closed")
    metrics.dispatch.keys_out({}, [])
    assert value(metrics, "heimdall_key_out", **labels) is None
    assert value(metrics, "heimdall_provider_health", provider="openai") == 1


def test_the_hit_ratio_is_that_of_the_last_five_seconds_and_stays_when_idle(metrics: Metrics) -> None:
    def ratio_at(now: float) -> float | None:
        metrics.refresh(now)
        return value(metrics, "heimdall_cache_hit_ratio")

    assert ratio_at(0) == 0
    metrics.triage.decided("cached", count=3)
    metrics.triage.decided("scored", count=1)
    assert ratio_at(4) == 0
    assert ratio_at(5) == 0.75
    assert ratio_at(10) == 0.75
    metrics.triage.decided("scored", count=4)
    assert ratio_at(15) == 0


def test_a_batch_spreads_its_time_over_its_requests(metrics: Metrics) -> None:
    metrics.triage.batch(BatchTimes(64, 0.064, StepTimes(64, 0.0064, 0.0, 0.0032, 0.0032, 0.0064)))
    assert value(metrics, "heimdall_prehook_duration_seconds_count") == 64
    assert value(metrics, "heimdall_prehook_duration_seconds_sum") == pytest.approx(0.064)
    assert value(metrics, "heimdall_embedding_duration_seconds_count") == 64
    assert json_map(metrics)["avg_decision_latency_ms"] == pytest.approx(0.1)


def test_decisions_from_the_cache_take_no_step(metrics: Metrics) -> None:
    metrics.triage.batch(BatchTimes(64, 0.064, StepTimes(rows=16, features_s=0.0016)))
    assert value(metrics, "heimdall_prehook_duration_seconds_count") == 64
    assert value(metrics, "heimdall_feature_extraction_duration_seconds_count") == 16
    assert value(metrics, "heimdall_feature_extraction_duration_seconds_sum") == pytest.approx(0.0016)


def test_the_json_map_has_its_six_numbers_before_anything_happened() -> None:
    numbers = json_map(Metrics("triage", "1"))
    six = {"request_count", "cache_hit_count", "cache_hit_rate", "avg_feature_latency_ms", "avg_decision_latency_ms"}
    assert six | {"p99_latency"} <= set(numbers)
    assert {numbers[name] for name in (*six, "p99_latency")} == {0}


def test_constant_labels_are_on_every_sample_and_never_win_over_a_metrics_own(metrics: Metrics) -> None:
    used(metrics)
    page = text(metrics, {"environment": "production", "bucket": "nonsense"}).decode()
    samples = [line for line in page.splitlines() if line and not line.startswith("#")]
    assert all('environment="production"' in line for line in samples)
    assert 'heimdall_bucket_distribution_total{bucket="mid"' in page


def test_exactly_one_health_state_is_on(metrics: Metrics) -> None:
    metrics.worker.health("degraded")
    states = {
        state: value(metrics, "heimdall_health_state", state=state) for state in ("healthy", "degraded", "unhealthy")
    }
    assert states == {"healthy": 0, "degraded": 1, "unhealthy": 0}


async def test_memory_and_tasks_are_read_when_the_page_is_made(metrics: Metrics) -> None:
    assert (value(metrics, "heimdall_memory_usage_bytes") or 0) > 1_000_000
    assert (value(metrics, "heimdall_goroutine_count") or 0) >= 1


def test_drift_is_what_the_last_turn_found_and_a_model_that_recovered_has_no_series(metrics: Metrics) -> None:
    metrics.triage.drift({"features": 0.4, "buckets": 0.1}, {"a/b": 0.2, "evil/1": 0.1, "evil/2": 0.3}, 1000.0)
    assert value(metrics, "heimdall_drift_psi", what="features") == 0.4
    assert value(metrics, "heimdall_reward_drop", model="a/b") == 0.2
    assert value(metrics, "heimdall_reward_drop", model="other") == 0.3
    metrics.triage.drift({"features": 0.05, "buckets": 0.1}, {}, 2000.0)
    assert value(metrics, "heimdall_drift_psi", what="features") == 0.05
    assert value(metrics, "heimdall_reward_drop", model="a/b") is None
    assert value(metrics, "heimdall_drift_timestamp_seconds", by="learn") == 2000.0
