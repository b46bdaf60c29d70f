"""The audit topic: one decision record from triage and one outcome record from dispatch for each request, and a shadow
record for those that another model was asked as well.

The workers write plain dictionaries of these shapes (a third of the cost); these classes read, document and check them.
No credential ever stands in them, and no prompt text but the last question of a tenant whose text may be kept.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from heimdall_schemas.failure import FailureCode
from heimdall_schemas.topics import Bucket

SomeFailure = Annotated[FailureCode | str, Field(union_mode="left_to_right")]
"""A failure code; one that only a newer writer knows is kept as text."""


class State(StrEnum):
    """The terminal states. A request reaches exactly one."""

    ANSWERED = "answered"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    DEAD_LETTERED = "dead_lettered"


class _Open(BaseModel):
    """A newer writer may add fields; they are kept when a record is read and written again."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Decision(_Open):
    """The fourteen decision fields of the Heimdall API, under their own names."""

    selected_model: str = Field(description="author/model")
    selected_provider: str = Field(description="who is asked first")
    bucket: Bucket
    bucket_probabilities: dict[Bucket, float] = Field(description="sums to 1")
    alpha_scores: dict[str, float] = Field(description="every eligible candidate of the bucket")
    quality_score: float = Field(description="of the selected model, 0 to 1 within the bucket")
    cost_score: float = Field(description="of the selected model, 0 to 1 within the bucket")
    final_score: float = Field(description="alpha * quality - (1 - alpha) * cost - penalties")
    decision_latency_ms: float
    cache_hit: bool
    fallback_used: bool = Field(description="a default stood in for a failed step of the decision")
    fallback_reason: str | None
    guardrail_triggered: bool
    decision_version: str


class Candidate(_Open):
    """One model that was looked at: its score with every term, or why it fell out."""

    model: str
    bucket: Bucket
    score: float | None = None
    quality: float | None = None
    cost: float | None = None
    penalties: dict[str, float] = Field(default_factory=dict)
    fell_out: str | None = Field(None, description="the rule that took it out, with the numbers that decided")


class Opinion(_Open):
    """What the challenger would have decided; null where it would have refused. Nothing was done with it."""

    bundle: str = Field(description="sha-256 of the challenger's manifest")
    bucket: Bucket | None
    selected_model: str | None
    p_chosen: float | None
    decision_type: str | None
    latency_ms: float = Field(description="the request's share of what it cost to ask")


class DecisionRecord(Decision):
    """What triage decided, and everything needed to decide it again."""

    kind: Literal["decision"]
    request_id: str
    correlation_id: str = Field(description="UTF-8 text, or base64 after `base64:` where the bytes are not text")
    time: str = Field(description="RFC 3339, UTC")
    decision_type: str = Field(description="scored, cached, pinned, guarded, explored, sticky or default")
    features: dict[str, Any]
    difficulty: float | None = Field(description="1 - P(a cheap model answers well), calibrated")
    difficulty_raw: float | None = None
    difficulty_percentile: float | None = Field(
        None, description="of reference traffic, 0 to 1; the thresholds cut this"
    )
    bucket_before_guardrails: Bucket | None = None
    guardrails: list[str] = Field(default_factory=list)
    waived: list[str] = Field(
        default_factory=list, description="guardrails that acted and gave way, since nothing else was left anywhere"
    )
    candidates: list[Candidate]
    chain: list[str] = Field(default_factory=list, description="models in the order dispatch may ask them")
    alpha: float
    p_chosen: Annotated[float, Field(ge=0, le=1)]
    explored: bool
    across: list[str] | None = Field(None, description="the models that could be drawn, where that is over all buckets")
    experiment: str | None = None
    tenant: str | None = None
    session: str | None = None
    question: str | None = Field(None, description="keyed hash of the last question, to know it when it is asked again")
    text: str | None = Field(None, description="the last question itself, only where the tenant's text may be kept")
    challenger: Opinion | None = Field(None, description="a second bundle's silent decision, while there is one")
    bundle: str = Field(description="sha-256 of the bundle's manifest")
    catalogue: str
    config: str
    worker: str


class Attempt(_Open):
    """One provider call. `key` is the key's name; the key itself stands nowhere."""

    provider: str
    model: str
    key: str
    status: int | None = Field(description="HTTP status, or null when none arrived")
    failure: SomeFailure | None
    latency_ms: float
    cost_usd_micros: int
    cost_estimated: bool = Field(False, description="the provider named no usage: the cost is the fleet's own guess")
    hedged: bool = Field(False, description="another call for the same request was faster")
    call: str | None = Field(None, description="names the call where two records may tell of it")


class Tokens(_Open):
    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0


class OutcomeRecord(_Open):
    """How a request ended, and every call that was paid for on the way.

    A request has one; a worker that lost the request to another one while it was calling adds one that is `superseded`.
    """

    kind: Literal["outcome"]
    request_id: str
    correlation_id: str
    time: str
    state: State
    failure: SomeFailure | None
    bucket: Bucket | None
    selected_model: str | None = Field(description="the model that answered")
    selected_provider: str | None
    attempts: list[Attempt]
    p_served: float | None = Field(description="probability that this model served, exploration and failover included")
    cost_usd_micros: int = Field(description="of all attempts; the outcome records of a request add up")
    tokens: Tokens
    cache: str | None
    timings_ms: dict[str, float]
    worker: str
    tenant: str | None = None
    finish_reason: str | None = Field(None, description="of the answer: stop, length, tool_calls, content_filter")
    refused: bool | None = Field(None, description="the model declined, by its own word or by how the answer begins")
    schema_valid: bool | None = Field(None, description="structured output has the shape asked for; null: none was")
    answered_for: str | None = Field(None, description="the request whose answer this is, by an idempotency key")
    redriven: int = Field(0, description="how often an operator has sent the order again from the DLQ")
    call_repeated: bool = Field(False, description="a worker had begun on the order before this one and was lost")
    unreserved: bool = Field(False, description="the shared state was down, so a second call could not be ruled out")
    superseded: bool = Field(
        False,
        description="no ending: calls of a worker whose request another one ended. `state` repeats that ending, "
        "`cost_usd_micros` is what its calls add to the cost",
    )


class Judgement(_Open):
    """What a judge said of the two answers; scores are null where it said nothing that can be read."""

    model: str
    order: str = Field(description="in which order it saw them, by a draw: `served, shadow` or `shadow, served`")
    score_served: Annotated[float, Field(ge=0, le=1)] | None
    score_shadow: Annotated[float, Field(ge=0, le=1)] | None
    cost_usd_micros: int = Field(description="beside the shadow's own")
    failure: str | None = Field(None, description="a failure code, unreadable_verdict, or why there was no place")


class ShadowRecord(_Open):
    """What another model made of a request that had been answered. Its asker never hears of it.

    Expired, unaffordable and failed shadows have one too. Its costs are none of the request's.
    """

    kind: Literal["shadow"]
    request_id: str = Field(description="of the request that was answered")
    shadow_id: str = Field(description="of the shadow itself, made from the request's")
    time: str
    state: State
    failure: SomeFailure | None
    bucket: Bucket | None = Field(description="that the model was a candidate of")
    model: str = Field(description="the model that was drawn")
    served_model: str = Field(description="the model that had answered the request")
    selected_model: str | None = Field(description="`model`, if it answered")
    selected_provider: str | None
    share: float = Field(description="of the answered requests that get a shadow")
    p_drawn: Annotated[float, Field(gt=0, le=1)] = Field(description="that it was this model, given a shadow")
    attempts: list[Attempt]
    cost_usd_micros: int = Field(description="of all attempts")
    tokens: Tokens
    timings_ms: dict[str, float]
    worker: str
    tenant: str | None = None
    finish_reason: str | None = None
    refused: bool | None = None
    schema_valid: bool | None = None
    judge: Judgement | None = Field(None, description="where a judge was asked to score both answers")
    superseded: bool = Field(False, description="no ending: calls of a worker whose shadow another one ended")


AuditRecord = Annotated[DecisionRecord | OutcomeRecord | ShadowRecord, Field(discriminator="kind")]
AUDIT: TypeAdapter[DecisionRecord | OutcomeRecord | ShadowRecord] = TypeAdapter(AuditRecord)


def calls_of(outcomes: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The attempts in all outcome records of one request, each call once.

    A call of a lost worker is `heimdall_interrupted` in the record of its successor; the lost worker's own record,
    where it came back, knows better.
    """
    calls: dict[object, Mapping[str, Any]] = {}
    for outcome in outcomes:
        for attempt in outcome["attempts"]:
            name = attempt.get("call") or id(attempt)
            if name not in calls or attempt["failure"] != FailureCode.HEIMDALL_INTERRUPTED:
                calls[name] = attempt
    return list(calls.values())
