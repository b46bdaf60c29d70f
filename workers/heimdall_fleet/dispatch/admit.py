"""Whether an order may be worked on at all. Pure: an order that may not raises the Failure it ends with, or Park."""

from heimdall_fleet.dispatch.ending.no_answer import too_late
from heimdall_fleet.dispatch.failover import Chain
from heimdall_fleet.dispatch.reserve import Park
from heimdall_fleet.dispatch.run import Parked, Run
from heimdall_schemas.failure import Failure, FailureCode

_CONFIGURED_WITHIN_MS = 90_000
"""A changed file reaches the machines of a fleet one after the other; Kubernetes takes about so long."""
_REST_MS = 10_000.0


def admit(run: Run, chain: Chain, now_ms: float) -> None:
    """Raises Failure: `policy_expired` after the deadline, `caller_unknown_model` when nobody serves it,
    `policy_budget` when earlier attempts have used `max_cost_usd` up. Raises Park for a young order that nobody serves:
    triage may have read a changed configuration before this worker did."""
    plan = run.order.plan
    if now_ms >= run.deadline_ms:
        raise too_late()
    if not chain.routes:
        age_ms, left_ms = run.started_unix_ms - plan.received_ms, run.deadline_ms - now_ms
        if age_ms < _CONFIGURED_WITHIN_MS and left_ms > 2 * _REST_MS:
            raise Park(Parked(_REST_MS, "unknown_model"))
        asked = ", ".join(dict.fromkeys(step.model for step in plan.steps))
        raise Failure(
            FailureCode.CALLER_UNKNOWN_MODEL,
            f"no configured provider serves {asked[:200]}; add models.<id>.providers, or a provider for it",
        )
    ceiling = plan.max_cost_usd_micros
    if ceiling is not None and run.spent_before_usd_micros >= ceiling > 0:
        raise Failure(
            FailureCode.POLICY_BUDGET,
            f"earlier attempts cost {run.spent_before_usd_micros} micro-dollars, heimdall.max_cost_usd is {ceiling}",
        )
