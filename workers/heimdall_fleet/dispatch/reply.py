"""What the asker reads: a reply, an error reply, a stream chunk. Plain dictionaries of the shapes in the schemas."""

from collections.abc import Mapping
from typing import Any

from heimdall_fleet.dispatch.run import Run
from heimdall_fleet.kafka.records import Header, Outgoing
from heimdall_schemas import headers as h
from heimdall_schemas.audit import State
from heimdall_schemas.codec import encode
from heimdall_schemas.failure import Failure
from heimdall_schemas.order import Address, Order
from heimdall_schemas.topics import Topics


def answer_value(run: Run, answer: dict[str, Any], provider: str, model_id: str, now_ms: float) -> bytes:
    """The reply of an answered order: the provider's completion, with the model's own id and the fleet's facts."""
    facts = _facts(run, State.ANSWERED, now_ms)
    facts["selected_model"] = model_id
    facts["selected_provider"] = provider
    if run.dropped:
        facts["dropped"] = run.dropped
    decision = run.order.decision
    metadata = {
        "bucket": run.order.bucket,
        "selected_model": model_id,
        "alpha_score": decision.get("final_score"),
        "cache_hit": decision.get("cache_hit"),
        "decision_latency_ms": decision.get("decision_latency_ms"),
    }
    return encode({**answer, "model": model_id, "metadata": metadata, "heimdall": facts})


def error_value(run: Run, failure: Failure, state: State, now_ms: float) -> bytes:
    """The reply of an order that got no answer."""
    return encode({"error": failure.as_error(), "heimdall": _facts(run, state, now_ms)})


def _facts(run: Run, state: State, now_ms: float) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "request_id": run.request_id,
        "state": state,
        "bucket": run.order.bucket or None,
        "selected_model": None,
        "selected_provider": None,
        "attempts": run.attempt_records(),
        "cost_usd_micros": run.cost_usd_micros,
        "fallback_used": run.fallback_reason is not None,
        "fallback_reason": run.fallback_reason,
        "cache": None,
        "decision": run.order.decision or None,
        "timings_ms": timings(run, now_ms),
    }
    if run.stream:
        facts["sequence"] = run.chunks
        facts["final"] = True
    return facts


def timings(run: Run, now_ms: float) -> dict[str, float]:
    """Milliseconds: from triage to here, waiting for a place, at the providers, and in dispatch altogether."""
    return {
        "queued": max(0, run.started_unix_ms - run.order.plan.received_ms),
        "waited": round(run.waited_ms, 3),
        "provider": round(sum(attempt.latency_ms for attempt in run.attempts), 3),
        "dispatch": round(now_ms - run.started_ms, 3),
    }


def reply_record(order: Order, address: Address, value: bytes, failure: Failure | None, topics: Topics) -> Outgoing:
    """The record of a reply: never an empty value, the correlation id exactly once."""
    headers = _headers(order)
    if failure is not None:
        headers.append((h.ERROR, failure.code.value.encode()))
    return _addressed(address, value, headers, topics)


def final_record(record: Outgoing, chunks: int) -> Outgoing:
    """The last record of a stream, which is the whole reply."""
    marks = ((h.SEQUENCE, str(chunks).encode()), (h.FINAL, b"true"))
    return record._replace(headers=(*record.headers, *marks))


def chunk_record(order: Order, address: Address, chunk: Mapping[str, Any], sequence: int, topics: Topics) -> Outgoing:
    """One chunk of a streaming reply, numbered from 0."""
    facts = {"request_id": order.request_id, "sequence": sequence, "final": False}
    headers = [*_headers(order), (h.SEQUENCE, str(sequence).encode())]
    return _addressed(address, encode({**chunk, "heimdall": facts}), headers, topics)


def _headers(order: Order) -> list[Header]:
    return [
        (h.CORRELATION_ID, order.address.correlation_id),
        (h.REQUEST_ID, order.request_id.encode()),
        (h.CONTENT_TYPE, b"application/json"),
        *order.trace,
    ]


def _addressed(address: Address, value: bytes, headers: list[Header], topics: Topics) -> Outgoing:
    """Keyed by the correlation id on the fleet's own topic; a caller's topic gets no key, its readers may type them."""
    own = address.topic == topics.replies
    return Outgoing(
        topic=address.topic,
        value=value,
        key=address.correlation_id if own else None,
        partition=address.partition,
        headers=headers,
    )
