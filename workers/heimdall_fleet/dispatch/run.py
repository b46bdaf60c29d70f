"""One order on its way through a worker: what came in, what was tried, how it ended."""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from heimdall_fleet.dispatch.capacity.pool import Ticket
from heimdall_fleet.dispatch.cost import Tokens
from heimdall_fleet.kafka.records import Record
from heimdall_fleet.providers.dialect import AttemptFailure
from heimdall_schemas.audit import State
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.order import Order


def to_microseconds(ms: float) -> float:
    """Milliseconds with three decimals, as records have them. `round` goes by way of the decimal digits, which takes four
    times as long."""
    return int(ms * 1_000 + 0.5) / 1_000


class Attempt(NamedTuple):
    """One provider call. `key` is the key's name. `number`: of the call among all that this worker made. `estimated`: the
    cost is the fleet's guess. `hedged`: another call for the same order was faster."""

    provider: str
    model: str
    key: str
    status: int | None
    failure: FailureCode | None
    latency_ms: float
    cost_usd_micros: int
    tokens: Tokens
    number: int = 0
    estimated: bool = False
    hedged: bool = False

    def as_record(self) -> dict[str, Any]:
        """The attempt as replies and audit records have it."""
        record: dict[str, Any] = {
            "provider": self.provider,
            "model": self.model,
            "key": self.key,
            "status": self.status,
            "failure": self.failure,
            "latency_ms": to_microseconds(self.latency_ms),
            "cost_usd_micros": self.cost_usd_micros,
        }
        if self.estimated:
            record["cost_estimated"] = True
        if self.hedged:
            record["hedged"] = True
        return record


class Result(NamedTuple):
    """How an attempt went: an `answer` (canonical chat.completion), a `failure`, or an answer that counts as one."""

    answer: dict[str, Any] | None
    failure: AttemptFailure | None
    status: int | None
    dropped: tuple[str, ...] = ()


@dataclass(slots=True)
class Run:
    """The one mutable thing of an order. Moments are monotonic milliseconds, but for those that say `unix`."""

    order: Order
    body: Mapping[str, Any]
    request_id: str
    call_id: str
    """What the paid call is reserved as. An order that was dead-lettered and sent again is a new call."""
    stream: bool
    started_ms: float
    started_unix_ms: int
    deadline_ms: float
    redriven: int = 0
    """How often an operator has sent the order again from the DLQ."""
    record: Record | None = None
    """What the order was read from; None where nobody else can have it."""
    waited_ms: float = 0.0
    earlier: list[dict[str, Any]] = field(default_factory=list)
    """Attempts from before the order rested on a retry topic, or of a worker that was lost with it, as records."""
    attempts: list[Attempt] = field(default_factory=list)
    under_way: dict[int, Ticket] = field(default_factory=dict)
    """The places of calls that have begun, by their number."""
    chunks: int = 0
    """Stream chunks that went out."""
    repeated: bool = False
    """A worker had begun to call for this order and was lost: it was probably paid twice."""
    state_down: bool = False
    """The shared state gave no answer, so the call is not reserved."""
    dropped: tuple[str, ...] = ()
    """Parameters of the caller that the model which answered cannot take."""
    ending: "Ending | None" = None
    """The end that is being published: from here on no other one may be."""
    unconfirmed: list[Awaitable[int]] = field(default_factory=list)
    """Chunks that the broker has not acknowledged yet."""

    @property
    def audit_id(self) -> str:
        """The request that audit records of this order are about: of a shadow, the one that it is a shadow of."""
        shadow = self.order.shadow
        return self.request_id if shadow is None else shadow.of

    @property
    def limited_before(self) -> int:
        """Earlier attempts that a rate limit turned away."""
        return sum([record.get("failure") == FailureCode.PROVIDER_RATE_LIMITED for record in self.earlier])

    @property
    def attempts_before(self) -> int:
        """All the other earlier ones."""
        return max(self.order.plan.attempts_before, len(self.earlier) - self.limited_before)

    @property
    def spent_before_usd_micros(self) -> int:
        return sum([int(record.get("cost_usd_micros", 0)) for record in self.earlier])

    @property
    def cost_usd_micros(self) -> int:
        return self.spent_before_usd_micros + sum([attempt.cost_usd_micros for attempt in self.attempts])

    @property
    def output_limit(self) -> int | None:
        """The caller's own limit on the output tokens."""
        limit = self.body.get("max_completion_tokens") or self.body.get("max_tokens")
        return limit if isinstance(limit, int) else None

    def output_tokens(self, expected: int) -> int:
        """The caller's own limit on the output, else what is expected."""
        limit = self.output_limit
        return expected if limit is None else limit

    @property
    def fallback_reason(self) -> str | None:
        """Why the first place that was asked, on whatever worker, was not the last one; None when it was."""
        if not self.earlier and len(self.attempts) < 2:
            return None
        meant = [record for record in self.attempt_records() if not record.get("hedged")]
        places = [(record.get("provider"), record.get("model")) for record in meant]
        return meant[0].get("failure") if places and places[0] != places[-1] else None

    def attempt_records(self) -> list[dict[str, Any]]:
        return self.earlier + [attempt.as_record() for attempt in self.attempts]


def begin(order: Order, body: Mapping[str, Any], unix_ms: int, mono_ms: float, redriven: int = 0) -> Run:
    """The start of an order: its wall-clock deadline becomes a moment on the clock that never jumps."""
    request_id = order.request_id
    call_id = f"{request_id}~{redriven}" if redriven else request_id
    stream, deadline_ms = body.get("stream") is True, mono_ms + (order.plan.deadline_ms - unix_ms)
    return Run(order, body, request_id, call_id, stream, mono_ms, unix_ms, deadline_ms, redriven)


class Ending(NamedTuple):
    """A terminal state, ready to be published. `model` and `provider` are those that answered. `stored`: it was found
    in the shared state, where another worker or an earlier life of this one left it."""

    state: State
    failure: Failure | None
    reply: bytes
    outcome: bytes
    model: str | None = None
    provider: str | None = None
    stored: bool = False


class Parked(NamedTuple):
    """Nothing can be asked for a while: the order shall rest this long."""

    delay_ms: float
    reason: str
