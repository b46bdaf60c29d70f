"""A request: the Chat Completions body that producers already have, plus one optional object `heimdall`.

Only what the fleet itself reads is declared. Every other field is kept: an order carries the request's own bytes.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from heimdall_schemas.codec import DEFAULT_LIMITS, Limits, check_depth, parse
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.faults import faults_of
from heimdall_schemas.text import unix_ms_of

AUTO = "auto"

MODEL_CHARS = 256

ShortText = Annotated[str, Field(min_length=1, max_length=256)]
ModelId = Annotated[str, Field(min_length=1, max_length=MODEL_CHARS)]
Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


class Lane(StrEnum):
    """Which requests go first inside a worker."""

    INTERACTIVE = "interactive"
    STANDARD = "standard"
    BATCH = "batch"


class Tier(StrEnum):
    """The provider's service tier that may be used; `auto` lets the fleet choose by the deadline."""

    STANDARD = "standard"
    FLEX = "flex"
    AUTO = "auto"


class Part(BaseModel):
    """One part of a message's content: `text`, `image_url`, `input_audio`, `file`, or a kind yet unknown."""

    model_config = ConfigDict(extra="allow", frozen=True)
    type: ShortText
    text: str | None = None


class Message(BaseModel):
    """One turn. An assistant turn may have tool calls instead of content."""

    model_config = ConfigDict(extra="allow", frozen=True)
    role: Role
    content: str | list[Part] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


_BOTH: dict[str, Any] = {
    "required": ["deadline", "ttl_ms"],
    "properties": {"deadline": {"type": "string"}, "ttl_ms": {"type": "integer"}},
}


def _null_too(published: dict[str, Any]) -> None:
    """Null is as good as leaving the field out; here it never arrives."""
    kind = {name: published.pop(name) for name in ("$ref", "enum", "type") if name in published}
    published["anyOf"] = [kind, {"type": "null"}]


def _a_number(given: Any) -> Any:
    """As it is: 5000.0 is a whole number of JSON. A text or a truth value is none."""
    if isinstance(given, str | bool):
        raise ValueError("must be a number")
    return given


def _a_time(given: Any) -> Any:
    """As it is. A number is none, nor is one written as text: nobody knows whether it counts seconds, or from when."""
    if isinstance(given, int | float) or (isinstance(given, str) and ":" not in given):
        raise ValueError("must be a time with its zone, such as 2026-11-21T12:00:30Z")
    return given


class Options(BaseModel):
    """What the fleet needs beyond the body; every field is optional and unknown fields are refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"not": _BOTH})

    request_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")] | None = Field(
        None,
        description="The request's id; the record header `ce_id` wins. Without either, made of the record's place.",
    )
    tenant: ShortText | None = Field(None, description="Whose budget, limits and rules hold.")
    user: ShortText | None = Field(None, description="The end user, for budgets and limits.")
    service: ShortText | None = Field(None, description="The calling service, for budgets and limits.")
    session: ShortText | None = Field(None, description="The conversation; keeps a model, keys the partition.")
    lane: Lane = Field(
        Lane.STANDARD,
        description="interactive goes before standard, standard before batch.",
        json_schema_extra=_null_too,
    )
    deadline: Annotated[AwareDatetime, BeforeValidator(_a_time)] | None = Field(
        None, description="When an answer is worthless (RFC 3339 with zone)."
    )
    ttl_ms: Annotated[int, Field(ge=1, le=7 * 86_400_000), BeforeValidator(_a_number)] | None = Field(
        None, description="The same as a span after the record's timestamp, in milliseconds."
    )
    max_cost_usd: Annotated[float, Field(strict=True, ge=0, le=10_000)] | None = Field(
        None, description="Most that all attempts together may cost, in USD."
    )
    alpha: Annotated[float, Field(strict=True, ge=0, le=1)] | None = Field(
        None, description="0 = cheapest, 1 = best; overrides `router.alpha`."
    )
    candidates: Annotated[list[ModelId], Field(min_length=1, max_length=64)] | None = Field(
        None, description="Only these models may answer."
    )
    exclude: Annotated[list[ModelId], Field(max_length=256)] | None = Field(
        None, description="These models, or authors (`author/`), may not answer."
    )
    tier: Tier = Field(Tier.STANDARD, description="Provider service tier.", json_schema_extra=_null_too)
    cache: Annotated[bool, Field(strict=True)] | None = Field(
        None, description="false: no cached answer for this request."
    )
    idempotency_key: ShortText | None = Field(None, description="Requests with one key get one answer.")
    dedup: Literal["default", "strict"] = Field(
        "default",
        description="strict: rather wait than risk a second paid call when the shared state is gone.",
        json_schema_extra=_null_too,
    )
    tags: Annotated[dict[str, ShortText], Field(max_length=32)] | None = Field(
        None, description="Copied to the audit records."
    )

    @model_validator(mode="before")
    @classmethod
    def _nulls_are_absent(cls, given: Any) -> Any:
        """Many serializers write null for what was not set, in `lane` as in any other field."""
        return {name: value for name, value in given.items() if value is not None} if type(given) is dict else given

    @model_validator(mode="after")
    def _one_deadline(self) -> "Options":
        if self.deadline is not None and self.ttl_ms is not None:
            raise ValueError("deadline and ttl_ms are both given; keep one of them")
        return self


NO_OPTIONS = Options()
"""What a request without `heimdall` has; the very same object in each."""


def _or_none_given(given: Any) -> Any:
    return NO_OPTIONS if given is None else given


class Request(BaseModel):
    """A Chat Completions body. Declared is what the fleet reads; the rest travels on untouched."""

    model_config = ConfigDict(extra="allow", frozen=True)

    model: ModelId = Field(AUTO, description='"auto" asks for routing; a name pins the model.')
    messages: Annotated[list[Message], Field(min_length=1)]
    stream: Annotated[bool, Field(strict=True)] | None = Field(
        None, description="true: numbered chunks, then one record with the whole reply."
    )
    max_tokens: Annotated[int, Field(strict=True, ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(strict=True, ge=1)] | None = None
    temperature: Annotated[float, Field(strict=True, ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(strict=True, ge=0, le=1)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    heimdall: Annotated[Options, BeforeValidator(_or_none_given)] = Field(NO_OPTIONS, json_schema_extra=_null_too)

    @property
    def max_output_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


def read_request(value: bytes | None, limits: Limits = DEFAULT_LIMITS) -> tuple[Options, dict[str, Any]]:
    """What the request in `value` asks of the fleet, and the plain JSON object that it came as.

    Raises Failure: `caller_bad_request` or `caller_too_large`; the message names every field at fault (at most eight).
    """
    body = parse(value, limits)
    messages = body.get("messages")
    if isinstance(messages, list) and len(messages) > limits.max_messages:
        raise Failure(
            FailureCode.CALLER_TOO_LARGE,
            f"{len(messages):,} messages, the limit is {limits.max_messages:,} (limits.max_messages)",
            context={"limit": "max_messages", "max": limits.max_messages},
        )
    if _is_plain(body) and limits.max_depth >= _PLAIN_DEPTH:
        if "heimdall" not in body:
            return NO_OPTIONS, body
        with suppress(ValidationError):  # the whole schema, below, says where in the body the fault is
            return Options.model_validate(body["heimdall"]), body
    check_depth(value or b"", limits.max_depth)
    try:
        return Request.model_validate(body).heimdall, body
    except ValidationError as error:
        raise _refusal(error) from None


def _is_plain(body: Mapping[str, Any]) -> bool:
    """Whether a body is of the form that most have: turns of text and single values. The schema takes each of these.

    This look costs a tenth of the schema's own and of counting brackets. The options in `heimdall` are left to theirs.
    """
    for name, value in body.items():
        plain = _PLAIN_FIELDS.get(name)
        if not (type(value) in _SINGLE if plain is None else plain(value)):
            return False
    return "messages" in body


def _plain_turns(messages: Any) -> bool:
    if type(messages) is not list or not messages:
        return False
    for turn in messages:
        if type(turn) is not dict or len(turn) != _FIELDS_OF_A_TURN:
            return False
        if type(turn.get("content")) is not str or turn.get("role") not in _ROLES:
            return False
    return True


def _plain_limit(tokens: Any) -> bool:
    return tokens is None or (type(tokens) is int and tokens >= 1)


def _plain_text(value: Any) -> bool:
    return value is None or type(value) is str


_PLAIN_DEPTH = 3
_FIELDS_OF_A_TURN = 2
_ROLES: tuple[str, ...] = get_args(Role)
_SINGLE = frozenset((str, int, float, bool, type(None)))
_PLAIN_FIELDS: Mapping[str, Callable[[Any], bool]] = {
    "messages": _plain_turns,
    "model": lambda name: type(name) is str and 1 <= len(name) <= MODEL_CHARS,
    "stream": lambda asked: asked is None or type(asked) is bool,
    "max_tokens": _plain_limit,
    "max_completion_tokens": _plain_limit,
    "temperature": lambda number: number is None or (type(number) in (float, int) and 0 <= number <= 2),
    "top_p": lambda number: number is None or (type(number) in (float, int) and 0 <= number <= 1),
    "tool_choice": _plain_text,
    "reasoning_effort": _plain_text,
    "tools": lambda _: False,
    "response_format": lambda _: False,
    "heimdall": lambda options: type(options) is dict,
}
"""How a plain body looks where the schema declares a field; what it does not declare may be any single value."""


def _refusal(error: ValidationError) -> Failure:
    """`param` is the path of the first fault."""
    found = faults_of(error, known=Options.model_fields, otherwise="take it out, or put it beside heimdall")
    message = f"the request breaks its schema: {found.text}"
    return Failure(FailureCode.CALLER_BAD_REQUEST, message, param=found.param)


def deadline_ms(options: Options, sent_at_ms: int, header_expiry_ms: int | None, default_ttl_ms: int) -> int:
    """When the request expires, in Unix milliseconds: the body's own word, else the header's, else the default."""
    if options.deadline is not None:
        return unix_ms_of(options.deadline)
    if options.ttl_ms is not None:
        return sent_at_ms + options.ttl_ms
    return header_expiry_ms if header_expiry_ms is not None else sent_at_ms + default_ttl_ms
