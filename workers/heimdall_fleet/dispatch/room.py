"""Everything around one order: what dispatch works with, and what it tells about its work."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from heimdall_fleet.dispatch.bounds import Bounds
from heimdall_fleet.dispatch.cancel import Cancellations
from heimdall_fleet.dispatch.capacity.pool import Alarm, Pool
from heimdall_fleet.dispatch.capacity.turnstile import Turnstile
from heimdall_fleet.dispatch.clock import Clock
from heimdall_fleet.dispatch.leases import Leases
from heimdall_fleet.dispatch.routes import RouteBook
from heimdall_fleet.dispatch.run import Attempt, Ending, Parked, Run
from heimdall_fleet.dispatch.settings import DispatchSettings
from heimdall_fleet.kafka.records import Producer, Record
from heimdall_fleet.objects.base import ObjectStore
from heimdall_fleet.providers.dialect import AttemptFailure, Dialect
from heimdall_fleet.providers.http import HttpClient
from heimdall_fleet.providers.vertex_tokens import TokenSource
from heimdall_fleet.state.base import SharedState
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.topics import Topics


class Telemetry(Protocol):
    """What dispatch tells: metrics and log lines. Called on the hot path, must not wait or raise."""

    def attempted(self, run: Run, attempt: Attempt, failure: AttemptFailure | None) -> None:
        """One provider call came to its end; `failure` says why it was a bad one."""
        ...

    def fell_back(self, asked: str, origin: str, target: str, reason: FailureCode) -> None:
        """The order moved from the model `origin` to `target`; `asked` was its first model."""
        ...

    def alarm(self, alarm: Alarm) -> None:
        """A key went out of service until an operator acts."""
        ...

    def ended(self, run: Run, ending: Ending, duration_ms: float) -> None:
        """The order reached its terminal state, published."""
        ...

    def parked(self, run: Run, parked: Parked, delay: str) -> None:
        """The order rests on a retry topic."""
        ...

    def shadowed(self, model: str, end: str) -> None:
        """A shadow of `model` came to its end: a terminal state, `over_budget`, or `not_sent`."""
        ...

    def dead_lettered(self, request_id: str, failure: Failure) -> None:
        """A record went to the DLQ."""
        ...

    def bug(self, request_id: str, error: Exception) -> None:
        """The fleet itself failed on a record."""
        ...


def held(record: Record) -> bool:
    """Nobody else is there to have the record."""
    return True


@dataclass(frozen=True, slots=True)
class Room:
    """What an order is answered with. `clients`: one HTTP client a provider; `dialects`: by family. `tokens`: for
    credentials that must be exchanged before they can be sent.

    `objects`: where replies go that no record can hold; None: they become an error. `holds`: whether a record is still
    this worker's, None while the group has not said so. `bounds`: whom configured chains may lead to.
    """

    settings: DispatchSettings
    topics: Topics
    clock: Clock
    jitter: Callable[[], float]
    book: RouteBook
    pool: Pool
    turnstile: Turnstile
    clients: Mapping[str, HttpClient]
    dialects: Mapping[str, Dialect]
    tokens: TokenSource
    state: SharedState
    leases: Leases
    cancels: Cancellations
    producer: Producer
    telemetry: Telemetry
    objects: ObjectStore | None = None
    holds: Callable[[Record], bool | None] = held
    bounds: Bounds = field(default_factory=Bounds)
