"""What the reading side tells of itself, for health and metrics."""

from collections.abc import Mapping
from dataclasses import dataclass

from heimdall_fleet.kafka.records import Partition


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """For health and metrics; counts are since the start, ages in seconds."""

    joined: bool
    """A member with a settled assignment whose committed positions are read (it may be of no partition)."""
    broker_reachable: bool
    metadata_age_s: float
    last_poll_age_s: float
    assigned: frozenset[Partition]
    lag: Mapping[Partition, int]
    """Records between the position and the end of the log, as of the last fetch."""
    held: frozenset[Partition]
    """Not read until their map of finished offsets shrinks."""
    unreadable: frozenset[Partition]
    """Not read for now, because their records could not be fetched or decoded."""
    rebalances: int
    commits: int
    commits_failed: int


@dataclass(frozen=True, slots=True)
class IntakeFacts:
    """For health and metrics; counts are since the start, ages in seconds."""

    group: GroupFacts
    in_flight: int
    in_flight_bytes: int
    oldest_in_flight_s: float
    failing: int
    """Records whose handler raised and that wait to be tried again, or are being tried again."""
    finished: int
    failures: int
    paused: bool
