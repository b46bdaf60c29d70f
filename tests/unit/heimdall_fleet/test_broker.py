"""What a worker says of its broker."""

from dataclasses import replace

from heimdall_fleet.broker import broker_check
from heimdall_fleet.kafka.facts import GroupFacts
from heimdall_fleet.kafka.producer import ProducerFacts

GROUP = GroupFacts(
    joined=True,
    broker_reachable=True,
    metadata_age_s=0.0,
    last_poll_age_s=0.0,
    assigned=frozenset([("t", 0), ("t", 1)]),
    lag={("t", 0): 3},
    held=frozenset(),
    unreadable=frozenset(),
    rebalances=1,
    commits=0,
    commits_failed=0,
)
IDLE = ProducerFacts(
    ready=True, pending_records=0, pending_bytes=0, oldest_pending_s=0.0, replaced=0, refused=0, timed_out=0
)


def test_partitions_that_cannot_be_read_degrade_the_worker_and_are_named() -> None:
    check = broker_check(replace(GROUP, unreadable=frozenset([("t", 1), ("t", 0)])), IDLE)
    assert (check.state, check.details["held"]) == ("degraded", ["t-0", "t-1"])
    assert broker_check(GROUP, IDLE).state == "healthy"
