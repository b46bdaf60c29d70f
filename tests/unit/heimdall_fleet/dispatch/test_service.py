"""What a dispatch worker says of its shared state and its keys."""

from typing import Any

import pytest

from heimdall_fleet.dispatch.capacity.pool import KeysOut
from heimdall_fleet.dispatch.service import keys_check, providers_check, state_check
from heimdall_fleet.kafka.facts import GroupFacts
from heimdall_fleet.kafka.records import Partition

PARTITIONS: frozenset[Partition] = frozenset(("orders", number) for number in range(6))
SOME: frozenset[Partition] = frozenset([("orders", 0)])


def group(assigned: frozenset[Partition], *, joined: bool = True) -> GroupFacts:
    return GroupFacts(
        joined=joined,
        broker_reachable=True,
        metadata_age_s=0.0,
        last_poll_age_s=0.0,
        assigned=assigned,
        lag={},
        held=frozenset(),
        unreadable=frozenset(),
        rebalances=1,
        commits=0,
        commits_failed=0,
    )


def test_several_workers_without_a_shared_state_are_degraded_and_told_how_to_mend_it() -> None:
    check = state_check(False, group(SOME), 6)
    assert check.state == "degraded"
    assert "state.url" in check.details["reason"]


@pytest.mark.parametrize(
    ("shared", "facts"),
    [(True, group(SOME)), (False, group(PARTITIONS)), (False, group(frozenset(), joined=False))],
    ids=["shared", "alone", "not in the group yet"],
)
def test_a_worker_that_is_alone_or_shares_its_state_is_healthy(shared: bool, facts: GroupFacts) -> None:
    assert state_check(shared, facts, 6).state == "healthy"


def test_a_key_that_is_out_degrades_the_worker_and_is_named_with_the_reason_and_no_more() -> None:
    check = keys_check(KeysOut({("openai", "main"): "provider_auth"}, ("openai",)))
    assert check.state == "degraded"
    assert check.details["out"] == {"openai/main": "provider_auth"}
    assert check.details["providers_without_a_key"] == ["openai"]
    assert keys_check(KeysOut({}, ())).state == "healthy"


def key(breaker: str = "closed", closed_for_ms: int = 0) -> dict[str, Any]:
    return {"breaker": breaker, "disabled": None, "closed_for_ms": closed_for_ms, "in_flight": 0, "limit": 10}


def test_keys_that_are_closed_are_named_with_how_long_and_degrade_nothing() -> None:
    keys = {"main": key(), "limited": key(closed_for_ms=12_000), "broken": key("open")}
    check = providers_check({"openai": {"breaker": "closed", "keys": keys}}, accepts=True)
    assert check.state == "healthy"
    assert check.details["keys_closed"] == {
        "openai/limited": {"breaker": "closed", "closed_for_ms": 12_000},
        "openai/broken": {"breaker": "open", "closed_for_ms": 0},
    }
    assert "keys_closed" not in providers_check({"openai": {"breaker": "closed", "keys": {}}}, accepts=True).details


def test_a_provider_that_is_taken_out_degrades_and_an_outage_of_all_is_unhealthy() -> None:
    health: dict[str, dict[str, Any]] = {
        "openai": {"breaker": "open", "keys": {}},
        "groq": {"breaker": "closed", "keys": {}},
    }
    check = providers_check(health, accepts=True)
    assert (check.state, check.details) == ("degraded", {"providers": {"openai": "open", "groq": "closed"}})
    assert providers_check(health, accepts=False).state == "unhealthy"
