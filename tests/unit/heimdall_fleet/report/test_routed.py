"""The share of well-routed requests is counted from audit records alone."""

from typing import Any

from heimdall_fleet.demo_data.subjects import LARGE, SMALL
from heimdall_fleet.report.routed import routed


def decided(number: int, model: str, subject: str, **fields: Any) -> dict[str, Any]:
    return {
        "kind": "decision",
        "request_id": f"r{number}",
        "selected_model": model,
        "explored": False,
        "bundle": "old",
        "tags": {"subject": subject, "phase": "changed"},
        **fields,
    }


def ended(number: int, cost: int) -> dict[str, Any]:
    return {"kind": "outcome", "request_id": f"r{number}", "state": "answered", "cost_usd_micros": cost}


def test_right_is_the_cheapest_model_that_answers_well() -> None:
    found = routed(
        [
            decided(1, SMALL, "chat"),
            decided(2, LARGE, "chat"),
            decided(3, SMALL, "sums"),
            decided(4, LARGE, "proofs"),
            *(ended(number, 10 * number) for number in range(1, 5)),
        ],
        "old",
    )
    assert (found["well_routed_before"], found["answered_well_before"]) == (0.5, 0.75)
    assert found["cost_usd_micros_before"] == 25.0


def test_the_shadow_of_a_request_is_no_outcome_of_it() -> None:
    shadow = {**ended(1, 999), "kind": "shadow", "state": "failed"}
    found = routed([shadow, decided(1, SMALL, "chat"), ended(1, 10)], "old")
    assert (found["cost_usd_micros_before"], found["answered"]) == (10.0, 1)


def test_explored_decisions_and_those_before_the_change_are_not_counted() -> None:
    at_first = decided(1, SMALL, "chat", tags={"subject": "chat", "phase": "at_first"})
    found = routed([at_first, decided(2, LARGE, "chat", explored=True), decided(3, LARGE, "sums", bundle="new")], "old")
    assert (found["measured_before"], found["measured_after"], found["requests"]) == (0, 1, 3)
    assert found["well_routed_after"] == 1.0


def test_a_copy_counts_once_and_a_request_without_an_outcome_is_named() -> None:
    found = routed(
        [decided(1, SMALL, "chat"), decided(1, LARGE, "chat"), decided(2, SMALL, "chat"), ended(2, 1)], "old"
    )
    assert (found["requests"], found["well_routed_before"], found["without_outcome"]) == (2, 1.0, 1)
