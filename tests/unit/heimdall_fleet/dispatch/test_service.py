"""What a dispatch worker says of its shared state and its keys."""

import pytest

from heimdall_fleet.dispatch.capacity.pool import KeysOut
from heimdall_fleet.dispatch.service import keys_check, state_check
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
