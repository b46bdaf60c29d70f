"""Every metric of the fleet, each with its meaning above it.

Labels come from closed sets: what is outside of one is counted as "other", so that no caller can make new series. Times
are seconds, sizes bytes, money US dollars, as Prometheus wants it; names.py maps the names of older systems.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter

from heimdall_fleet.observe.closed import OTHER, ClosedSets
from heimdall_fleet.observe.declare import Declare
from heimdall_fleet.observe.health import HealthState
from heimdall_fleet.observe.histogram import Distribution, doubling
from heimdall_fleet.observe.process import live_tasks, resident_bytes
from heimdall_fleet.observe.records import Attempt, BatchTimes, BreakerState, DecisionType, ReloadOutcome
from heimdall_fleet.observe.tally import Tally

_BREAKER_VALUES: Mapping[BreakerState, int] = {"closed": 0, "half_open": 1, "open": 2}
_HEALTH_STATES: tuple[HealthState, ...] = ("healthy", "degraded", "unhealthy")
_WINDOW_SECONDS = 5.0


class TriageMetrics:
    """What deciding costs, and what is decided."""

    def __init__(self, make: Declare, closed: ClosedSets) -> None:
        self._closed = closed
        # Decisions, by what made them. `fallback_used`: a safe default stood in for a step that failed.
        self.decisions = make.counter(
            "heimdall_routing_decisions_total", "Decisions, by what made them", "decision_type", "fallback_used"
        )
        # Decisions that came from the decision cache.
        self.cache_hits = make.counter("heimdall_cache_hits_total", "Decisions from the cache")
        # Cache hits ÷ decisions in the last five seconds; unchanged while nothing is decided.
        self.cache_hit_ratio = make.gauge("heimdall_cache_hit_ratio", "Share of decisions from the cache")
        # Entries of the decision cache.
        self.cache_entries = make.gauge("heimdall_cache_entries", "Entries of the decision cache")
        # Guardrails that changed a decision, by rule.
        self.guardrails = make.counter("heimdall_guardrails_total", "Guardrails that acted", "rule")
        # A request's share of its batch, from bytes to decision; the same as prehook in the older system's words.
        self.prehook = make.step("heimdall_prehook_duration_seconds", "Time in triage a request", 0.0001)
        # The decision proper: classify, guard, score, choose.
        self.decision = make.step("heimdall_decision_duration_seconds", "Classify to choose", 0.00001)
        # Numbers from text.
        self.features = make.step("heimdall_feature_extraction_duration_seconds", "Features", 0.0001)
        # The vector of the text.
        self.embedding = make.step("heimdall_embedding_duration_seconds", "Embedding", 0.00001)
        # The classifier's run.
        self.classifier = make.step("heimdall_gbdt_prediction_duration_seconds", "Classifier", 0.00001)
        # α-scores of all candidates.
        self.scores = make.step("heimdall_alpha_score_calculation_duration_seconds", "α-scores", 0.00001)
        # Requests a micro-batch holds; near 1 the fleet is idle, near 64 it is busy.
        self.batch_size = make.batches(
            "heimdall_triage_batch_size", "Requests of a micro-batch", (1, 2, 4, 8, 16, 32, 64)
        )
        # Age of the bundle that decides, since it was made.
        self.artifact_age = make.gauge("heimdall_artifact_age_seconds", "Age of the bundle")
        # Population stability index that the last turn of the learning loop found; what is features (the largest) or buckets.
        self.drift_psi = make.gauge("heimdall_drift_psi", "Drift since what was learned from", "what")
        # Mean reward that a model's answers lost in one kind of task; a model that lost nothing has no series.
        self.reward_drop = make.gauge("heimdall_reward_drop", "Reward that a model has lost", "model")
        # When that turn was, in Unix seconds; no turn is no series.
        self.drift_time = make.gauge("heimdall_drift_timestamp_seconds", "When drift was looked for", "by")
        self._children: dict[tuple[DecisionType, bool], Counter] = {}
        self.decided_count = 0
        self.hit_count = 0

    def batch(self, times: BatchTimes) -> None:
        """Record a batch: each request gets its even share, at the cost of one observation a step."""
        self.prehook.observe(times.total_s / times.size, times.size)
        self.batch_size.observe(times.size)
        steps = times.steps
        if not steps.rows:
            return
        for histogram, seconds in (
            (self.features, steps.features_s),
            (self.embedding, steps.embedding_s),
            (self.classifier, steps.classifier_s),
            (self.scores, steps.scores_s),
            (self.decision, steps.decision_s),
        ):
            histogram.observe(seconds / steps.rows, steps.rows)

    def drift(self, psi: Mapping[str, float], reward_drops: Mapping[str, float], unix_s: float) -> None:
        """Show what the last turn of the learning loop found, in the place of what the one before did."""
        self.drift_psi.clear()
        self.reward_drop.clear()
        for what in ("features", "buckets"):
            self.drift_psi.labels(what).set(psi.get(what, 0.0))
        for model, loss in sorted(reward_drops.items(), key=lambda each: each[1]):
            self.reward_drop.labels(self._closed.model(model)).set(loss)
        self.drift_time.labels("learn").set(unix_s)

    def decided(self, decision_type: DecisionType, *, fallback_used: bool = False, count: int = 1) -> None:
        """Count decisions of one kind; those of kind `cached` are the cache hits."""
        key = (decision_type, fallback_used)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self.decisions.labels(decision_type, _flag(fallback_used))
        child.inc(count)
        self.decided_count += count
        if decision_type == "cached":
            self.cache_hits.inc(count)
            self.hit_count += count


class DispatchMetrics:
    """What calling providers costs, and how it ends."""

    def __init__(self, make: Declare, closed: ClosedSets) -> None:
        self._closed = closed
        # Calls of one worker in flight, and the bytes of their requests.
        self.in_flight = make.gauge("heimdall_dispatch_in_flight", "Provider calls in flight")
        self.in_flight_bytes = make.gauge("heimdall_dispatch_in_flight_bytes", "Bytes of requests held")
        # From an order's arrival to its first call: waiting for a place, a key, a limit.
        self.wait = make.batches("heimdall_dispatch_wait_seconds", "From arrival to the first call", doubling(0.001))
        # Provider calls, by how they ended.
        self.attempts = make.tally("heimdall_dispatch_attempts_total", "Provider calls", "provider", "model", "status")
        # How long they took.
        self.attempt_seconds = make.histogram(
            "heimdall_dispatch_attempt_duration_seconds",
            "Time of a provider call",
            doubling(0.016, 13),
            "provider",
            "model",
        )
        # Calls that failed, by failure code.
        self.attempt_errors = make.tally(
            "heimdall_request_errors_total", "Provider calls that failed", "model", "provider", "error_type"
        )
        # Tokens as the provider reported them; type is prompt or completion.
        self.tokens = make.tally("heimdall_tokens_total", "Tokens", "model", "provider", "type")
        # Money spent.
        self.cost = make.tally("heimdall_cost_dollars_total", "US dollars spent", "model", "provider")
        # What one call cost.
        self.cost_per_request = make.batches(
            "heimdall_cost_per_request", "US dollars of one provider call", doubling(0.00001, 18)
        )
        # Steps from one model to the next in a chain, and why (a failure code).
        self.fallbacks = make.counter("heimdall_fallbacks_total", "Fail-overs", "from", "to", "reason")
        # The same hops, by the model that was asked for.
        self.fallback_triggered = make.counter(
            "heimdall_fallback_triggered_total", "Fail-overs by the model asked for", "model", "from", "to"
        )
        # Circuit breaker: 0 closed, 1 half-open, 2 open. An empty key is the provider's own.
        self.breaker_state = make.gauge("heimdall_breaker_state", "Circuit breaker", "provider", "key")
        # 1 while the provider gets traffic, 0 while its breaker takes it out or none of its keys is in use.
        self.provider_health = make.gauge("heimdall_provider_health", "Provider is used", "provider")
        # 1 for a key that is out of use, and why (a failure code); a key in use has no series.
        self.key_out = make.gauge("heimdall_key_out", "Key is out of use", "provider", "key", "reason")
        # Calls made a second time after a crash, an expulsion or an ambiguous time-out; each may have been paid twice.
        self.repeated_calls = make.counter("heimdall_dispatch_repeated_calls_total", "Calls made again")
        # Answers that came after we had given up on them.
        self.wasted_calls = make.counter("heimdall_dispatch_wasted_calls_total", "Answers too late")
        # Orders sent to a retry topic, by its step.
        self.retries = make.counter("heimdall_dispatch_retries_total", "Orders put off", "delay")
        # Shadows by their end: a terminal state, over_budget (nobody was asked), not_sent (Kafka did not take it).
        self.shadows = make.counter("heimdall_shadows_total", "Shadows by their end", "model", "end")
        self._children: dict[tuple[str, str, str], _AttemptChildren] = {}

    def attempt(self, attempt: Attempt) -> None:
        """Record one provider call with its tokens and cost."""
        key = (attempt.provider, attempt.model, attempt.failure or "ok")
        children = self._children.get(key)
        if children is None:
            children = self._attempt_children(*key)
        children.count.value += 1
        children.seconds.observe(attempt.latency_ms / 1_000)
        if children.errors is not None:
            children.errors.value += 1
        tokens = attempt.tokens
        children.prompt.value += tokens.prompt
        children.completion.value += tokens.completion
        if attempt.cost_usd_micros:
            dollars = attempt.cost_usd_micros / 1e6
            children.cost.value += dollars
            self.cost_per_request.observe(dollars)

    def fell_back(self, model: str, origin: str, target: str, reason: str) -> None:
        """Count one hop of a chain: `model` was asked for, `origin` failed with `reason`, `target` is tried next."""
        named = self._closed.model
        self.fallbacks.labels(named(origin), named(target), reason).inc()
        self.fallback_triggered.labels(named(model), named(origin), named(target)).inc()

    def shadowed(self, model: str, end: str) -> None:
        self.shadows.labels(self._closed.model(model), end).inc()

    def breaker(self, provider: str, key: str, state: BreakerState) -> None:
        """Show a circuit breaker's state; `key` "" is the provider's own, which also says whether it is used."""
        name = self._closed.provider(provider)
        self.breaker_state.labels(name, key).set(_BREAKER_VALUES[state])
        if not key:
            self.provider_health.labels(name).set(0 if state == "open" else 1)

    def keys_out(self, reasons: Mapping[tuple[str, str], str], bare: Iterable[str]) -> None:
        """Show the keys that are out of use, by provider and key, and as not used the providers with no other key."""
        self.key_out.clear()
        for (provider, key), reason in reasons.items():
            self.key_out.labels(self._closed.provider(provider), key, reason).set(1)
        for provider in bare:
            self.provider_health.labels(self._closed.provider(provider)).set(0)

    def forget_children(self) -> None:
        """Look labels up again: the closed sets have changed. Nobody would tell any more of a provider that is gone."""
        self._children.clear()
        self.breaker_state.clear()
        self.provider_health.clear()

    def _attempt_children(self, provider: str, model: str, status: str) -> "_AttemptChildren":
        at, name = self._closed.provider(provider), self._closed.model(model)
        children = _AttemptChildren(
            count=self.attempts.labels(at, name, status),
            seconds=self.attempt_seconds.labels(at, name),
            errors=None if status == "ok" else self.attempt_errors.labels(name, at, status),
            prompt=self.tokens.labels(name, at, "prompt"),
            completion=self.tokens.labels(name, at, "completion"),
            cost=self.cost.labels(name, at),
        )
        if OTHER not in (at, name):
            self._children[provider, model, status] = children
        return children


@dataclass(frozen=True, slots=True)
class _AttemptChildren:
    count: Tally
    seconds: Distribution
    errors: Tally | None
    prompt: Tally
    completion: Tally
    cost: Tally


class WorkerMetrics:
    """What every worker tells, whatever it does."""

    def __init__(self, make: Declare) -> None:
        # Errors of the fleet itself, by family and code.
        self.errors = make.counter("heimdall_errors_total", "Errors by family and code", "type", "code")
        # Records put into the dead-letter topic, by reason.
        self.dlq_records = make.counter("heimdall_dlq_records_total", "Records dead-lettered", "reason")
        # Records between the committed position and the end, over the partitions this worker has.
        self.kafka_lag = make.gauge("heimdall_kafka_lag_records", "Records behind", "topic")
        # Partitions this worker has.
        self.kafka_assigned = make.gauge("heimdall_kafka_assigned_partitions", "Partitions", "topic")
        # Changes of the assignment; a steady rate means that workers fight over partitions.
        self.kafka_rebalances = make.counter("heimdall_kafka_rebalances_total", "Rebalances")
        # Producers thrown away and built anew, after the broker refused what they sent.
        self.producer_rebuilds = make.counter("heimdall_kafka_producer_rebuilds_total", "Rebuilds")
        # Reloads of the configuration: swapped, unchanged or refused.
        self.config_reloads = make.counter("heimdall_config_reloads_total", "Reloads", "outcome")
        # 1 for the state the worker is in, 0 for the other two.
        self.health_state = make.gauge("heimdall_health_state", "State of the worker", "state")
        # Which release runs, in which role; always 1.
        self.build_info = make.gauge("heimdall_build_info", "Release", "version", "component")
        # Resident memory.
        self.memory = make.gauge("heimdall_memory_usage_bytes", "Resident memory")
        self.memory.set_function(resident_bytes)
        # Live asyncio tasks, under the two names that dashboards of the older system ask for.
        for name in ("heimdall_goroutine_count", "heimdall_goroutines"):
            make.gauge(name, "Live asyncio tasks").set_function(live_tasks)
        # Pauses of the garbage collector, each once.
        self.gc_pauses = make.step("heimdall_gc_duration_seconds", "Garbage collections", 0.00001)

    def error(self, family: str, code: str, count: int = 1) -> None:
        self.errors.labels(family, code).inc(count)

    def dead_lettered(self, reason: str) -> None:
        self.dlq_records.labels(reason).inc()

    def lag(self, topic: str, records: int) -> None:
        self.kafka_lag.labels(topic).set(records)

    def assigned(self, topic: str, partitions: int) -> None:
        self.kafka_assigned.labels(topic).set(partitions)

    def config_reloaded(self, outcome: ReloadOutcome) -> None:
        self.config_reloads.labels(outcome).inc()

    def health(self, state: HealthState) -> None:
        for name in _HEALTH_STATES:
            self.health_state.labels(name).set(name == state)


class Metrics:
    """All metrics of one worker, in a registry of their own.

    One worker makes one, and uses it from its event loop only.
    """

    def __init__(self, component: str, version: str) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.closed = ClosedSets()
        make = Declare(self.registry)
        self.triage = TriageMetrics(make, self.closed)
        self.dispatch = DispatchMetrics(make, self.closed)
        self.worker = WorkerMetrics(make)
        # Requests that reached their terminal state.
        self.requests = make.tally(
            "heimdall_requests_total", "Requests by terminal state", "bucket", "model", "status", "cache_hit"
        )
        # From the request's own time to its reply.
        self.request_seconds = make.histogram(
            "heimdall_request_duration_seconds", "From request to reply", doubling(0.001), "bucket", "model"
        )
        # Requests by bucket.
        self.buckets = make.tally("heimdall_bucket_distribution_total", "Requests by bucket", "bucket")
        self.worker.build_info.labels(version, component).set(1)
        self._children: dict[tuple[str, str, str, bool], tuple[Tally, Distribution, Tally]] = {}
        self.request_count = 0
        self._window: tuple[float, int, int] | None = None

    def allow(self, *, models: Iterable[str], providers: Iterable[str]) -> None:
        """Set the closed sets of the labels `model` and `provider`; what is not in them is counted as "other"."""
        self.closed.allow(models, providers)
        self._children.clear()
        self.dispatch.forget_children()

    def request_done(self, bucket: str, model: str, status: str, *, cache_hit: bool, duration_s: float) -> None:
        """Record a request that reached its terminal state, `status`: its count, its duration and its bucket belong
        together. `cache_hit`: the decision or the answer was in a cache."""
        key = (bucket, model, status, cache_hit)
        children = self._children.get(key)
        if children is None:
            name = self.closed.model(model)
            children = (
                self.requests.labels(bucket, name, status, _flag(cache_hit)),
                self.request_seconds.labels(bucket, name),
                self.buckets.labels(bucket),
            )
            if name != OTHER:
                self._children[key] = children
        by_end, seconds, by_bucket = children
        by_end.value += 1
        seconds.observe(duration_s)
        by_bucket.value += 1
        self.request_count += 1

    def refresh(self, now: float) -> None:
        """Bring windowed gauges up to date; to be called every few seconds and before a scrape. `now` is monotonic."""
        decided, hits = self.triage.decided_count, self.triage.hit_count
        if self._window is None:
            self._window = (now, decided, hits)
            return
        started, decided_before, hits_before = self._window
        if now - started < _WINDOW_SECONDS:
            return
        if decided > decided_before:
            self.triage.cache_hit_ratio.set((hits - hits_before) / (decided - decided_before))
        self._window = (now, decided, hits)


def _flag(value: bool) -> str:
    return "true" if value else "false"
