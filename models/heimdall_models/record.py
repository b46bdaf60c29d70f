"""What a decision is once it is made: the answer, its two pieces of JSON, and what the decision cache keeps of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import orjson

from heimdall_models.forms import Chain
from heimdall_schemas.failure import Failure
from heimdall_schemas.order import Step

DECISION_VERSION = "1"
"""Raised when the same inputs would be decided otherwise, or when a recorded field changes its meaning."""

DecisionType = Literal["scored", "cached", "pinned", "guarded", "explored", "sticky", "default"]

FEATURE_TIMEOUT = "FEATURE_TIMEOUT"
EMBEDDING_TIMEOUT = "EMBEDDING_TIMEOUT"
PREHOOK_TIMEOUT = "PREHOOK_TIMEOUT"
MODEL_PREDICT_FAILED = "MODEL_PREDICT_FAILED"


class Kept(NamedTuple):
    """What the decision cache keeps, as JSON: all but what belongs to the request itself or fills the record.

    `took`: the piece of `decision` that each copy says for itself, see `took_json`.
    """

    took: bytes
    decision: bytes
    common: bytes
    features: bytes


def took_json(latency_ms: float, *, cache_hit: bool) -> bytes:
    """The two fields of a decision that differ between an answer and its cached copies."""
    return b'"decision_latency_ms":%b,"cache_hit":%b' % (orjson.dumps(latency_ms), b"true" if cache_hit else b"false")


class Decided(NamedTuple):
    """One request's decision.

    `decision_json`: the fourteen names of the Heimdall API. `record_json`: a DecisionRecord's other fields but those of
    the request itself, which `audit_json` puts first. `kept` None: the next caller shall not get this decision.
    """

    request_id: str
    session: str | None
    bucket: str
    model: str
    decision_type: DecisionType
    fallback_reason: str | None
    guardrails: Sequence[str]
    chain: Chain
    p_chosen: float
    token_count: int
    pinned: bool
    decision_json: bytes
    record_json: bytes
    kept: Kept | None

    @property
    def steps(self) -> tuple[Step, ...]:
        """Whom to ask in turn."""
        return self.chain.steps

    @property
    def decision(self) -> dict[str, Any]:
        """The fourteen fields, read back from their JSON."""
        fields: dict[str, Any] = orjson.loads(self.decision_json)
        return fields

    @property
    def record(self) -> dict[str, Any]:
        """The record's other fields but those that only triage knows (`correlation_id`, `time`, `worker`)."""
        return {**_own(self), **orjson.loads(self.record_json)}


def audit_json(decided: Decided, added: Mapping[str, Any]) -> bytes:
    """The DecisionRecord as JSON; `added` is what triage knows besides."""
    head = orjson.dumps({**_own(decided), **added})
    return b"".join((head[:-1], b",", decided.decision_json[1:-1], b",", decided.record_json[1:]))


def _own(decided: Decided) -> dict[str, Any]:
    return {"kind": "decision", "request_id": decided.request_id, "session": decided.session}


class Refusal(NamedTuple):
    """A request that no model may answer, or that pins a model nobody serves."""

    request_id: str
    failure: Failure
