"""How well the traffic of `heimdall demo-learning` was routed, from nothing but the audit file that it leaves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from heimdall_fleet.demo_data.subjects import answers_well, right_model

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Routed:
    """Of decisions that were not explored: shares that chose the right model and one that answers well, and mean cost."""

    requests: int
    well_routed: float
    answered_well: float
    cost_usd_micros: float


def routed(audit: Iterable[Record], first_bundle: str) -> dict[str, Any]:
    """Before: the first bundle's decisions once the world had changed. After: those of the bundle that replaced it."""
    decisions: dict[str, Record] = {}
    outcomes: dict[str, Record] = {}
    for record in audit:
        if record["kind"] != "shadow":
            (decisions if record["kind"] == "decision" else outcomes).setdefault(record["request_id"], record)
    free = [each for each in decisions.values() if not each["explored"] and each["tags"]["phase"] != "at_first"]
    by_first = [each for each in free if each["bundle"] == first_bundle]
    by_next = [each for each in free if each["bundle"] != first_bundle]
    before, after = _measured(by_first, outcomes), _measured(by_next, outcomes)
    states = [each["state"] for each in outcomes.values()]
    return {
        "well_routed_before": before.well_routed,
        "well_routed_after": after.well_routed,
        "answered_well_before": before.answered_well,
        "answered_well_after": after.answered_well,
        "cost_usd_micros_before": before.cost_usd_micros,
        "cost_usd_micros_after": after.cost_usd_micros,
        "measured_before": before.requests,
        "measured_after": after.requests,
        "requests": len(decisions),
        "answered": states.count("answered"),
        "without_outcome": len(decisions.keys() - outcomes.keys()),
    }


def _measured(decisions: list[Record], outcomes: Mapping[str, Record]) -> Routed:
    if not decisions:
        return Routed(0, 0.0, 0.0, 0.0)
    told = [(each["selected_model"], each["tags"]["subject"], each["tags"]["phase"]) for each in decisions]
    costs = [outcomes[each["request_id"]]["cost_usd_micros"] for each in decisions if each["request_id"] in outcomes]
    count = len(decisions)
    return Routed(
        count,
        round(sum(model == right_model(subject, phase) for model, subject, phase in told) / count, 4),
        round(sum(answers_well(*each) for each in told) / count, 4),
        round(sum(costs) / max(1, len(costs)), 1),
    )
