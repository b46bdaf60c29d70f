"""An order: the request's bytes unchanged, the decision in headers, on its way to dispatch.

Headers of an order: those of the request that may travel on, and

    heimdall-request-id   the id of the request
    heimdall-bucket       cheap, mid or hard
    heimdall-decision     JSON, the fourteen decision fields
    heimdall-plan         JSON, what dispatch must know: `Plan`
    heimdall-shadow       JSON, only on a shadow order: `Shadow`
    reply-to, reply-partition, correlation-id   checked and made explicit by triage
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from heimdall_schemas import headers as h
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.shadow import Shadow, read_shadow


@dataclass(frozen=True, slots=True)
class Step:
    """A model that may be asked, with the bucket it stands for and its reasoning settings."""

    model: str
    bucket: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Plan:
    """What dispatch must know beyond the body. `steps` is the order of asking: chosen, runners-up, one bucket up."""

    # Never changed, yet not frozen: that takes four times as long to make, and every order has one.

    steps: tuple[Step, ...]
    deadline_ms: int
    received_ms: int
    p_chosen: float
    lane: str = "standard"
    pinned: bool = False
    max_cost_usd_micros: int | None = None
    token_count: int = 0
    tenant: str | None = None
    user: str | None = None
    service: str | None = None
    session: str | None = None
    tier: str = "standard"
    idempotency_key: str | None = None
    dedup: str = "default"
    attempts_before: int = 0


_BESIDE_STEPS = frozenset(each.name for each in fields(Plan)) - {"steps"}
_BEFORE_STEPS, _AFTER_STEPS = b'{"steps":', b'],"deadline_ms":'
"""What `plan_json` writes around the steps. The end cannot come again: no later field is a list."""
_PLAN_DEFAULTS = tuple((each.name, each.default) for each in fields(Plan))


class Address(NamedTuple):
    """Where a reply goes. `partition` None: the partition that the correlation id hashes to."""

    topic: str
    partition: int | None
    correlation_id: bytes


class Order(NamedTuple):
    """A request with its decision, as dispatch reads it."""

    request_id: str
    bucket: str
    decision: Mapping[str, Any]
    plan: Plan
    address: Address
    body: bytes
    trace: tuple[tuple[str, bytes], ...] = ()
    shadow: Shadow | None = None


def plan_header(plan: Plan) -> bytes:
    """The plan as JSON, without what has its default."""
    said = {
        name: value for name, default in _PLAN_DEFAULTS if (value := getattr(plan, name)) != default and name != "steps"
    }
    return plan_json(steps_json(plan.steps), said)


def plan_json(steps: bytes, said: Mapping[str, Any]) -> bytes:
    """The same from steps that are JSON already, and the plan's other fields."""
    return b'{"steps":%b,%b' % (steps, orjson.dumps(said)[1:])


def steps_json(steps: Sequence[Step]) -> bytes:
    """The steps of a plan as JSON."""
    return orjson.dumps(steps)


def read_order(value: bytes | None, found: Mapping[str, bytes]) -> Order:
    """The order in a record of a dispatch topic, of its value and its headers by name.

    Raises Failure `heimdall_internal` when a header that triage writes is missing or unreadable: nobody but the fleet
    may write to these topics.
    """
    try:
        return Order(
            found[h.REQUEST_ID].decode(),
            found[h.BUCKET].decode(),
            orjson.loads(found[h.DECISION]),
            _plan_in(found[h.PLAN]),
            Address(found[h.REPLY_TO].decode(), h.partition(found), found[h.CORRELATION_ID]),
            value or b"",
            h.trace(found),
            read_shadow(found[h.SHADOW]) if h.SHADOW in found else None,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Failure(
            FailureCode.HEIMDALL_INTERNAL,
            f"this record is no order: {type(error).__name__} {error}; only triage writes to dispatch topics",
        ) from error


def _plan_in(header: bytes) -> Plan:
    """The plan in its header. Orders with the same chain of models share its steps, which are read once."""
    end = header.rfind(_AFTER_STEPS)
    if end < 0 or not header.startswith(_BEFORE_STEPS):
        return plan_of(orjson.loads(header))
    steps = _shared_steps(header[len(_BEFORE_STEPS) : end + 1])
    return _plan(steps, orjson.loads(b"{" + header[end + 2 :]))


@lru_cache(maxsize=1024)
def _shared_steps(json: bytes) -> tuple[Step, ...]:
    return tuple(map(_step, orjson.loads(json)))


def plan_of(found: dict[str, Any]) -> Plan:
    """The plan in the JSON of its header. What only a newer triage knows is left out: both run in an upgrade."""
    return _plan(tuple(map(_step, found["steps"])), found)


def _plan(steps: tuple[Step, ...], said: Mapping[str, Any]) -> Plan:
    known = said if said.keys() <= _BESIDE_STEPS else {name: said[name] for name in said.keys() & _BESIDE_STEPS}
    return Plan(steps, **known)


def _step(found: Mapping[str, Any]) -> Step:
    return Step(found["model"], found["bucket"], found.get("settings") or {})


def plan_fields(plan: Plan) -> dict[str, Any]:
    """The plan as plain values, for `tail` and `explain`."""
    return asdict(plan)
