"""The one table of topics. `heimdall topics`, the AsyncAPI document and the docs are generated from it.

A name is ``<prefix>.<entity>.v<major>``; a breaking change of a message is a new topic.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from typing import Literal

CleanupPolicy = Literal["delete", "compact", "compact,delete"]

MIB = 1024 * 1024


class Bucket(StrEnum):
    """How hard a request is. Synonyms in older systems: budget, balanced, premium."""

    CHEAP = "cheap"
    MID = "mid"
    HARD = "hard"


class Delay(StrEnum):
    """The fixed steps of the retry topics; a step is how long a record rests there."""

    SHORT = "10s"
    MEDIUM = "60s"
    LONG = "600s"

    @property
    def span(self) -> timedelta:
        return timedelta(seconds=int(self.value[:-1]))


@dataclass(frozen=True, slots=True)
class Topic:
    """One row of the table. `key` says in words what its records are keyed by."""

    entity: str
    name: str
    key: str
    partitions: int
    cleanup_policy: CleanupPolicy
    retention: timedelta | None
    purpose: str
    max_message_bytes: int = 2 * MIB

    @property
    def may_grow(self) -> bool:
        """Whether more partitions do no harm. Where the last record of a key counts, an older one would stay elsewhere."""
        return self.cleanup_policy != "compact"

    @property
    def retention_ms(self) -> int | None:
        return None if self.retention is None else int(self.retention.total_seconds() * 1000)


@dataclass(frozen=True)
class Topics:
    """The names of one fleet's topics, each made once: several are looked up for every request.

    >>> Topics("heimdall").requests
    'heimdall.requests.v1'
    """

    prefix: str = "heimdall"

    def named(self, entity: str) -> str:
        return f"{self.prefix}.{entity}.v1"

    @cached_property
    def requests(self) -> str:
        return self.named("requests")

    @cached_property
    def replies(self) -> str:
        return self.named("replies")

    @cached_property
    def audit(self) -> str:
        return self.named("audit")

    @cached_property
    def feedback(self) -> str:
        return self.named("feedback")

    @cached_property
    def dlq(self) -> str:
        return self.named("dlq")

    @cached_property
    def cancel(self) -> str:
        return self.named("cancel")

    @cached_property
    def control(self) -> str:
        return self.named("control")

    def dispatch(self, bucket: Bucket) -> str:
        return self.named(f"dispatch.{bucket}")

    def retry(self, delay: Delay) -> str:
        return self.named(f"retry.{delay}")

    def internal(self) -> frozenset[str]:
        """Every topic of the fleet except the one that replies may go to."""
        return self._internal

    @cached_property
    def _internal(self) -> frozenset[str]:
        return frozenset(topic.name for topic in self.all()) - {self.replies}

    def all(self) -> tuple[Topic, ...]:
        """The table, in the order a request meets them."""
        hours, days = _hours, _days
        rows: list[Topic] = [
            self._row("requests", "session id, else request id", 24, "delete", hours(72), "requests from outside"),
            *(
                self._row(
                    f"dispatch.{bucket}",
                    "none: the partition number of the request",
                    24,
                    "delete",
                    hours(24),
                    f"orders of the {bucket} bucket: the request's bytes, the decision in headers",
                )
                for bucket in Bucket
            ),
            self._row("replies", "correlation id", 24, "compact,delete", hours(48), "replies and stream chunks"),
            self._row("audit", "request id", 12, "delete", days(90), "decision, outcome and shadow records"),
            self._row("feedback", "request id", 6, "delete", days(90), "late rewards: rating, accepted, label"),
            *(
                self._row(
                    f"retry.{delay}",
                    "as its source",
                    12,
                    "delete",
                    hours(24),
                    f"orders that rest for {delay.value}",
                )
                for delay in Delay
            ),
            self._row("dlq", "request id", 6, "delete", days(30), "what cannot be read or gave up, with the reason"),
            self._row(
                "cancel",
                "request id",
                1,
                "compact",
                None,
                "cancellations, read whole by every dispatch worker",
            ),
            self._row(
                "control",
                "name",
                1,
                "compact",
                None,
                "pointers to bundles, and what is known of drift; read whole",
            ),
        ]
        return tuple(rows)

    def _row(
        self,
        entity: str,
        key: str,
        partitions: int,
        cleanup: CleanupPolicy,
        retention: timedelta | None,
        purpose: str,
    ) -> Topic:
        return Topic(entity, self.named(entity), key, partitions, cleanup, retention, purpose)


def _hours(count: int) -> timedelta:
    return timedelta(hours=count)


def _days(count: int) -> timedelta:
    return timedelta(days=count)
