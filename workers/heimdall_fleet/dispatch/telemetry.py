"""What dispatch tells, to the metrics and the log. Nothing at `info` for a call that went well; at `debug` each order's end."""

import logging
import time
from collections.abc import Callable

from heimdall_fleet.dispatch.capacity.pool import Alarm
from heimdall_fleet.dispatch.ending.words import kept
from heimdall_fleet.dispatch.run import Attempt, Ending, Parked, Run, to_microseconds
from heimdall_fleet.observe.metrics import Metrics
from heimdall_fleet.observe.seldom import Spaced
from heimdall_fleet.providers.dialect import AttemptFailure
from heimdall_schemas.failure import Failure, FailureCode

log = logging.getLogger(__name__)


class FleetTelemetry:
    """`room.Telemetry` over the worker's metrics and the standard log."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._spaced = Spaced(clock)
        self._each = log.isEnabledFor(logging.DEBUG)

    def attempted(self, run: Run, attempt: Attempt, failure: AttemptFailure | None) -> None:
        self._metrics.dispatch.attempt(attempt)
        if failure is None:
            return
        if attempt.estimated:
            self._metrics.dispatch.wasted_calls.inc()
        if failure.code is not FailureCode.POLICY_CANCELLED:
            self._tell_failed(run, attempt, failure)

    def _tell_failed(self, run: Run, attempt: Attempt, failure: AttemptFailure) -> None:
        """One line in 10 s for each model, place and code: an outage fails every order in the same words."""
        left_out = self._spaced.left_out((attempt.provider, attempt.model, failure.code))
        if left_out is None:
            return
        facts = {
            "action": "attempt_failed",
            "request_id": run.request_id,
            "provider": attempt.provider,
            "model": attempt.model,
            "key": attempt.key,
            "failure": failure.code.value,
            "status": attempt.status,
        }
        if left_out:
            facts["count"] = left_out
        words = kept(failure.message, run.body)
        log.warning("%s at %s: %s: %s", attempt.model, attempt.provider, failure.code.value, words, extra=facts)

    def fell_back(self, asked: str, origin: str, target: str, reason: FailureCode) -> None:
        self._metrics.dispatch.fell_back(asked, origin, target, reason.value)

    def alarm(self, alarm: Alarm) -> None:
        log.error(
            "the key is out of use%s; give it another value where it comes from: %s",
            ", the last one of its provider" if alarm.last else "",
            alarm.reason,
            extra={"action": "key_disabled", "provider": alarm.provider, "key": alarm.key},
        )

    def ended(self, run: Run, ending: Ending, duration_ms: float) -> None:
        model = ending.model or run.order.plan.steps[0].model
        cache_hit = run.order.decision.get("cache_hit") is True
        duration_s = max(0.0, duration_ms / 1_000)
        self._metrics.request_done(run.order.bucket, model, ending.state, cache_hit=cache_hit, duration_s=duration_s)
        self._metrics.dispatch.wait.observe(run.waited_ms / 1_000)
        if run.repeated:
            self._metrics.dispatch.repeated_calls.inc()
        if ending.failure is not None:
            code = ending.failure.code
            self._metrics.worker.error(code.facts.family.value, code.value)
        if self._each:
            _tell_end(run, ending, duration_ms)

    def parked(self, run: Run, parked: Parked, delay: str) -> None:
        self._metrics.dispatch.retries.labels(delay).inc()

    def shadowed(self, model: str, end: str) -> None:
        self._metrics.dispatch.shadowed(model, end)

    def dead_lettered(self, request_id: str, failure: Failure) -> None:
        self._metrics.worker.dead_lettered(failure.code.value)
        log.error("dead-lettered: %s", failure.message, extra={"action": "dead_lettered", "request_id": request_id})

    def bug(self, request_id: str, error: Exception) -> None:
        self._metrics.worker.error("internal", FailureCode.HEIMDALL_INTERNAL.value)
        log.error("a bug", exc_info=error, extra={"action": "dispatch_bug", "request_id": request_id})


def _tell_end(run: Run, ending: Ending, duration_ms: float) -> None:
    facts = {
        "action": "order_ended",
        "request_id": run.request_id,
        "state": ending.state.value,
        "model": ending.model,
        "provider": ending.provider,
        "bucket": run.order.bucket,
        "latency_ms": to_microseconds(duration_ms),
        "attempts": len(run.attempts),
        "tokens": sum(attempt.tokens.prompt + attempt.tokens.completion for attempt in run.attempts),
        "cost_usd_micros": run.cost_usd_micros,
    }
    if ending.failure is not None:
        facts["failure"] = ending.failure.code.value
    log.debug("%s", ending.state.value, extra=facts)
