"""What happened in a run, as one JSONL file: everything a verdict needs, and nothing else is asked for a verdict.

Moments are Unix seconds. Those of orders, replies, audit records, letters and commits are the broker's own (the topics
of a run stamp records when they are appended), so that "before" between them means what it says.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import orjson
from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True)
class Run:
    """What held for the whole run. `prices`: USD-micros per million tokens, (input, output), by provider/model."""

    seed: int
    max_attempts: int
    prices: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    publish_bound_s: float = 20.0
    """Longest time from the end of a call to its outcome record; what a worker took into its grave was younger."""
    progress_bound_s: float = 60.0
    stop_bound_s: float = 45.0
    max_rss_bytes: int = 600 * 1024 * 1024
    max_tasks: int = 5_000
    max_in_flight: int = 500
    shared_state: bool = False
    """Calls are written down before they are made, where the other workers read it."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A request, and what the broker said: `acknowledged` False means that nobody knows whether it is in the log."""

    at: float
    request_id: str
    correlation_id: str
    partition: int
    offset: int
    deadline: float
    acknowledged: bool = True
    ceiling_usd_micros: int | None = None
    """What all attempts together may cost."""
    deaf: bool = False
    """Its reply address cannot be read or is not allowed, so that nobody can be told."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call as the provider saw it. `worker` follows from the key it came with; `end` None: open to the last."""

    at: float
    end: float | None
    request_id: str
    provider: str
    model: str
    worker: str
    status: int | None
    outcome: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Order:
    """`decided`: it carries a decision, which orders that triage writes do."""

    at: float
    request_id: str
    topic: str
    partition: int
    offset: int
    decided: bool = True


@dataclass(frozen=True, slots=True)
class Rested:
    """An order on a retry topic, and the place of the copy that it stands for."""

    at: float
    request_id: str
    source_topic: str
    source_partition: int


@dataclass(frozen=True, slots=True)
class Reply:
    at: float
    request_id: str
    correlation_id: str
    state: str
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Decision:
    at: float
    request_id: str
    worker: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """One outcome record; copies are there as often as they are in the log. `body` is a digest of its value."""

    at: float
    request_id: str
    worker: str
    state: str
    failure: str | None
    reached: int
    """Attempts without a name that reached a provider; those that found no connection are left out."""
    prompt_tokens: int
    completion_tokens: int
    cost_usd_micros: int
    body: str
    estimated: bool = False
    """A cost in it is the fleet's own guess, and flagged as such: the provider's figure never came."""
    named: Mapping[str, bool] = field(default_factory=dict)
    """Attempts that several records may tell of, by name; whether this record knows how the attempt ended."""
    superseded: bool = False
    """No ending: calls of a worker whose request another one ended."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter, and the record that it is about."""

    at: float
    request_id: str
    reason: str
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit, from the broker's own log of them. `finished`: the ranges above `position` that it also covers."""

    at: float
    group: str
    topic: str
    partition: int
    position: int
    finished: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class LogEnd:
    """Where a topic that a group reads ended when the run was over."""

    group: str
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Fault:
    """`workers` are those it hit; none named: whatever moved partitions hit everybody."""

    start: float
    end: float
    kind: str
    workers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exit:
    """A worker ended. `asked_at`: when it was told to; `signal` by which signal, None when it ended by itself."""

    asked_at: float
    at: float
    worker: str
    signal: str | None
    code: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A look at a worker's own metrics."""

    at: float
    worker: str
    rss_bytes: float
    tasks: float
    in_flight: float


@dataclass(frozen=True, slots=True)
class Leak:
    """A canary was found where it must not be."""

    canary: str
    where: str


@dataclass(frozen=True, slots=True)
class Complaint:
    """A line in a worker's log that says that something was left behind, such as a task nobody awaited."""

    worker: str
    line: str


Event: TypeAlias = (
    Run
    | Sent
    | Call
    | Order
    | Rested
    | Reply
    | Decision
    | Outcome
    | Letter
    | Commit
    | LogEnd
    | Fault
    | Exit
    | Sample
    | Leak
    | Complaint
)
_KINDS: Mapping[str, TypeAdapter[Any]] = {
    kind.__name__.lower(): TypeAdapter(kind)
    for kind in (
        Run, Sent, Call, Order, Rested, Reply, Decision, Outcome,
        Letter, Commit, LogEnd, Fault, Exit, Sample, Leak, Complaint,
    )
}  # fmt: skip


@dataclass(slots=True)
class History:
    """The events of a run by kind, each kind in the order of the file."""

    run: Run
    sent: list[Sent] = field(default_factory=list)
    call: list[Call] = field(default_factory=list)
    order: list[Order] = field(default_factory=list)
    rested: list[Rested] = field(default_factory=list)
    reply: list[Reply] = field(default_factory=list)
    decision: list[Decision] = field(default_factory=list)
    outcome: list[Outcome] = field(default_factory=list)
    letter: list[Letter] = field(default_factory=list)
    commit: list[Commit] = field(default_factory=list)
    logend: list[LogEnd] = field(default_factory=list)
    fault: list[Fault] = field(default_factory=list)
    exit: list[Exit] = field(default_factory=list)
    sample: list[Sample] = field(default_factory=list)
    leak: list[Leak] = field(default_factory=list)
    complaint: list[Complaint] = field(default_factory=list)

    @classmethod
    def of(cls, events: Iterable[Event]) -> "History":
        """Raises ValueError when there is not exactly one `Run`."""
        listed = list(events)
        runs = [event for event in listed if isinstance(event, Run)]
        if len(runs) != 1:
            raise ValueError(f"a history has one event `run`, this one has {len(runs)}")
        history = cls(runs[0])
        for event in listed:
            if not isinstance(event, Run):
                getattr(history, type(event).__name__.lower()).append(event)
        return history


def write(events: Iterable[Event], path: Path) -> None:
    lines = (orjson.dumps({"event": type(event).__name__.lower(), **asdict(event)}) for event in events)
    path.write_bytes(b"\n".join(lines) + b"\n")


def read(path: Path) -> History:
    """The history in a file that `write` wrote."""
    rows = (orjson.loads(line) for line in path.read_bytes().splitlines())
    return History.of(_KINDS[row.pop("event")].validate_python(row) for row in rows)
