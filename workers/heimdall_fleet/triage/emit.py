"""What triage writes: orders, decision records, and the endings of requests that go no further."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from heimdall_fleet.dlq import Undertaker
from heimdall_fleet.kafka.records import Outgoing
from heimdall_fleet.outbound import audit_record, reply_headers, reply_record
from heimdall_fleet.triage.question import Questions
from heimdall_fleet.triage.read import Incoming, Unreadable
from heimdall_models.record import Decided, audit_json
from heimdall_schemas import headers as h
from heimdall_schemas.audit import State
from heimdall_schemas.codec import encode
from heimdall_schemas.failure import Failure
from heimdall_schemas.order import Address, plan_json
from heimdall_schemas.request import NO_OPTIONS
from heimdall_schemas.text import readable, rfc3339
from heimdall_schemas.topics import Bucket, Topics


@dataclass(frozen=True, slots=True)
class Desk:
    """Who writes, and where to. `audit_partitions`: the decision and the outcome of a request share a partition.

    `dispatch`: the topic of each bucket. `questions`: what may be said of the question itself.
    """

    topics: Topics
    worker: str
    undertaker: Undertaker
    audit_partitions: int
    dispatch_partitions: int
    questions: Questions = field(default_factory=Questions)
    dispatch: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        topics = {bucket.value: self.topics.dispatch(bucket) for bucket in Bucket}
        object.__setattr__(self, "dispatch", topics)

    def audit_partition(self, request_partition: int) -> int:
        return request_partition % self.audit_partitions


def order(incoming: Incoming, decided: Decided, now_ms: int, desk: Desk) -> Outgoing:
    """The request's own bytes, with the decision in headers, on the partition number the request came from."""
    address = incoming.address
    headers: list[tuple[str, bytes]] = [
        (h.REQUEST_ID, incoming.request_id.encode()),
        (h.BUCKET, decided.bucket.encode()),
        (h.DECISION, decided.decision_json),
        (h.PLAN, plan_json(decided.chain.json, plan_fields(incoming, decided, now_ms))),
        (h.CORRELATION_ID, address.correlation_id),
        (h.REPLY_TO, address.topic.encode()),
    ]
    if address.partition is not None:
        headers.append((h.REPLY_PARTITION, str(address.partition).encode()))
    headers.extend(incoming.trace)
    record = incoming.record
    partition = record.partition % desk.dispatch_partitions
    return Outgoing(desk.dispatch[decided.bucket], record.value or b"", None, partition, headers)


def plan_fields(incoming: Incoming, decided: Decided, now_ms: int) -> dict[str, Any]:
    """The fields of the order's Plan beside the steps. What the caller did not say is left out: it has its default."""
    said: dict[str, Any] = {
        "deadline_ms": incoming.deadline_ms,
        "received_ms": now_ms,
        "p_chosen": decided.p_chosen,
        "token_count": decided.token_count,
    }
    if decided.pinned:
        said["pinned"] = True
    options = incoming.options
    if options is NO_OPTIONS:
        return said
    wishes = {
        "lane": options.lane.value,
        "max_cost_usd_micros": None if options.max_cost_usd is None else round(options.max_cost_usd * 1_000_000),
        "tenant": options.tenant,
        "user": options.user,
        "service": options.service,
        "session": options.session,
        "tier": options.tier.value,
        "idempotency_key": options.idempotency_key,
        "dedup": options.dedup,
    }
    return {**said, **{name: value for name, value in wishes.items() if value is not None}}


def decision_record(
    incoming: Incoming, decided: Decided, opinion: Mapping[str, Any] | None, time: str, desk: Desk
) -> Outgoing:
    """What was decided and all that is needed to decide it again. No prompt text, unless the tenant's may be kept."""
    added: dict[str, Any] = {
        "correlation_id": readable(incoming.correlation_id), "time": time, "worker": desk.worker
    }  # fmt: skip
    if desk.questions.any:
        added |= desk.questions.fields(incoming.body, incoming.options.tenant)
    if opinion is not None:
        added["challenger"] = opinion
    if incoming.options.tags:
        added["tags"] = incoming.options.tags
    partition = desk.audit_partition(incoming.record.partition)
    return audit_record(incoming.request_id, audit_json(decided, added), partition, desk.topics)


def ending(incoming: Incoming, failure: Failure, state: State, now_ms: int, desk: Desk) -> list[Outgoing]:
    """A readable request that goes no further: an error reply, and its outcome record."""
    return [
        error_reply(incoming.request_id, incoming.address, failure, state, desk),
        _outcome(incoming, (failure, state, now_ms), desk),
    ]


def burial(unreadable: Unreadable, now_ms: int, desk: Desk) -> list[Outgoing]:
    """A record that is no request: an error reply where an address could be read, an outcome record, a dead letter."""
    state = State.DEAD_LETTERED
    address, failure = unreadable.address, unreadable.failure
    replies = [error_reply(unreadable.request_id, address, failure, state, desk)] if address else []
    return [
        *replies,
        _outcome(unreadable, (failure, state, now_ms), desk),
        desk.undertaker.letter(unreadable.record, failure, unreadable.request_id, now_ms=now_ms),
    ]


def error_reply(request_id: str, address: Address, failure: Failure, state: State, desk: Desk) -> Outgoing:
    """`{"error": …, "heimdall": …}`, on the address, under the correlation id."""
    value = {"error": failure.as_error(), "heimdall": {**NOTHING_DONE, "request_id": request_id, "state": state}}
    return reply_record(address, encode(value), reply_headers(address, request_id, (), failure), desk.topics)


NOTHING_DONE: dict[str, Any] = {
    "bucket": None,
    "selected_model": None,
    "selected_provider": None,
    "attempts": [],
    "cost_usd_micros": 0,
    "cache": None,
    "decision": None,
    "timings_ms": {},
}


def _outcome(asked: Incoming | Unreadable, verdict: tuple[Failure, State, int], desk: Desk) -> Outgoing:
    failure, state, now_ms = verdict
    value: dict[str, Any] = {
        "kind": "outcome",
        "request_id": asked.request_id,
        "correlation_id": readable(asked.correlation_id),
        "time": rfc3339(now_ms),
        "state": state,
        "failure": failure.code,
        "error": failure.message,
        "bucket": None,
        "selected_model": None,
        "selected_provider": None,
        "attempts": [],
        "p_served": None,
        "cost_usd_micros": 0,
        "tokens": {"prompt": 0, "completion": 0, "cached": 0, "reasoning": 0},
        "cache": None,
        "timings_ms": {},
        "worker": desk.worker,
    }
    partition = desk.audit_partition(asked.record.partition)
    return audit_record(asked.request_id, encode(value), partition, desk.topics)
