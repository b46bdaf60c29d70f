"""A call as a record: the body, the options beside it, and the headers that bring the reply back."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypedDict

from heimdall_fleet.client.transport import Outgoing
from heimdall_schemas import codec
from heimdall_schemas import headers as h
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.request import AUTO, deadline_ms, read_request
from heimdall_schemas.text import rfc3339
from heimdall_schemas.topics import Topics

Messages = Iterable[Mapping[str, Any]]


class CallOptions(TypedDict, total=False):
    """The object `heimdall` of a request; `heimdall_schemas.request.Options` says what each field does."""

    request_id: str
    tenant: str
    user: str
    service: str
    session: str
    lane: Literal["interactive", "standard", "batch"]
    max_cost_usd: float
    alpha: float
    candidates: list[str]
    exclude: list[str]
    tier: Literal["standard", "flex", "auto"]
    cache: bool
    idempotency_key: str
    dedup: Literal["default", "strict"]
    tags: dict[str, str]


@dataclass(frozen=True, slots=True)
class Ask:
    """What a caller gave: a body or its messages, and what goes before the body's own words."""

    body: Mapping[str, Any] | None
    messages: Messages | None
    model: str | None
    deadline: timedelta | None
    options: CallOptions
    stream: bool = False


@dataclass(frozen=True, slots=True)
class ReturnAddress:
    """Where this client reads its replies."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Call:
    """One request, ready to send."""

    request_id: str
    correlation_id: bytes
    expires_at: datetime
    record: Outgoing


@dataclass(frozen=True, slots=True)
class Ids:
    """The two ids of a call: the request's, unless its options name one, and the one its replies carry."""

    request_id: str
    correlation_id: str


@dataclass(frozen=True, slots=True)
class Caller:
    """What is the same for every call of one client."""

    topics: Topics
    address: ReturnAddress
    default_deadline: timedelta
    limits: codec.Limits


def call_of(ask: Ask, caller: Caller, ids: Ids, now: datetime) -> Call:
    """The record of a request, checked as the fleet would check it.

    Raises Failure with the field at fault: nothing is sent that triage would refuse for its form.
    """
    body = body_of(ask)
    try:
        value = codec.encode(body)
    except TypeError as error:
        raise Failure(FailureCode.CALLER_BAD_REQUEST, f"the body cannot be written as JSON: {error}") from error
    options, _ = read_request(value, caller.limits)
    request_id = options.request_id or ids.request_id
    now_ms = unix_ms(now)
    given_ms = None if ask.deadline is None else now_ms + _ms(ask.deadline)
    expires_ms = deadline_ms(options, now_ms, given_ms, _ms(caller.default_deadline))
    try:
        expires_at = datetime.fromtimestamp(expires_ms / 1000, UTC)
    except (OverflowError, ValueError) as error:
        raise Failure(FailureCode.CALLER_BAD_REQUEST, f"the deadline lies too far away: {error}") from error
    headers = {
        **cloud_event("request", request_id, options.service, now),
        h.CE_EXPIRY: rfc3339(expires_ms).encode(),
        h.CORRELATION_ID: ids.correlation_id.encode(),
        h.REPLY_TO: caller.address.topic.encode(),
        h.REPLY_PARTITION: str(caller.address.partition).encode(),
    }
    key = (options.session or request_id).encode()
    record = Outgoing(caller.topics.requests, key, value, headers)
    return Call(request_id, ids.correlation_id.encode(), expires_at, record)


def body_of(ask: Ask) -> dict[str, Any]:
    """One Chat Completions body out of what the caller gave; what the call names goes before what the body says.

    Raises Failure when neither or both of `body` and `messages` are given.
    """
    if (ask.body is None) == (ask.messages is None):
        raise Failure(FailureCode.CALLER_BAD_REQUEST, "give either a body or messages=, not both and not neither")
    body: dict[str, Any] = {"messages": list(ask.messages or ())} if ask.body is None else dict(ask.body)
    body["model"] = ask.model or body.get("model") or AUTO
    if ask.stream:
        body["stream"] = True
    else:
        body.pop("stream", None)
        body.pop("stream_options", None)
    own = body.pop("heimdall", None) or {}
    if not isinstance(own, Mapping):
        raise Failure(FailureCode.CALLER_BAD_REQUEST, f"heimdall: an object is needed, not a {type(own).__name__}")
    beside: dict[str, Any] = {**own, **ask.options}
    if ask.deadline is not None:  # triage would prefer the body's own word
        beside.pop("deadline", None)
        beside.pop("ttl_ms", None)
    return {**body, "heimdall": beside} if beside else body


def cloud_event(message: str, event_id: str, source: str | None, now: datetime) -> dict[str, bytes]:
    """The CloudEvents headers of a record in binary mode."""
    return {
        h.CE_SPECVERSION: b"1.0",
        h.CE_ID: event_id.encode(),
        h.CE_TYPE: f"heimdall.{message}.v1".encode(),
        h.CE_SOURCE: (source or "heimdall-client").encode(),
        h.CE_TIME: rfc3339(unix_ms(now)).encode(),
        h.CONTENT_TYPE: b"application/json",
    }


def _ms(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)


def unix_ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
