"""What the asker reads: a reply, an error reply, a stream chunk. Plain dictionaries of the shapes in the schemas."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from heimdall_fleet.dispatch.run import Run, to_microseconds
from heimdall_fleet.kafka.records import Outgoing
from heimdall_fleet.outbound import reply_headers, reply_record
from heimdall_schemas import headers as h
from heimdall_schemas.audit import State
from heimdall_schemas.codec import encode
from heimdall_schemas.failure import Failure
from heimdall_schemas.order import Address, Order
from heimdall_schemas.topics import Topics

Facts: TypeAlias = dict[str, Any]
"""What the reply and the outcome record both tell."""


def facts_of(run: Run, state: State, served: tuple[str, str] | None, now_ms: float) -> Facts:
    """The facts of an order that has ended. `served` is (provider, model id) of the answer."""
    provider, model_id = served or (None, None)
    reason = run.fallback_reason
    return {
        "request_id": run.request_id,
        "state": state,
        "bucket": run.order.bucket or None,
        "selected_model": model_id,
        "selected_provider": provider,
        "attempts": run.attempt_records(),
        "cost_usd_micros": run.cost_usd_micros,
        "fallback_used": reason is not None,
        "fallback_reason": reason,
        "cache": None,
        "timings_ms": _timings(run, now_ms),
    }


def answer_value(run: Run, answer: dict[str, Any], facts: Facts) -> bytes:
    """The reply of an answered order: the provider's completion, with the model's own id and the fleet's facts."""
    told = _told(run, facts)
    if run.dropped:
        told["dropped"] = run.dropped
    model_id, decision = facts["selected_model"], run.order.decision
    metadata = {
        "bucket": run.order.bucket,
        "selected_model": model_id,
        "alpha_score": decision.get("final_score"),
        "cache_hit": decision.get("cache_hit"),
        "decision_latency_ms": decision.get("decision_latency_ms"),
    }
    return encode({**answer, "model": model_id, "metadata": metadata, "heimdall": told})


def copy_value(run: Run, reply: dict[str, Any], facts: Facts) -> bytes:
    """The reply of another request as this one's: what it says, with this one's facts."""
    kept = {name: reply["heimdall"][name] for name in ("dropped", "claim_check") if name in reply["heimdall"]}
    return encode({**reply, "heimdall": {**_told(run, facts), **kept}})


def error_value(run: Run, failure: Failure, facts: Facts) -> bytes:
    """The reply of an order that got no answer."""
    return encode({"error": failure.as_error(), "heimdall": _told(run, facts)})


def _told(run: Run, facts: Facts) -> Facts:
    told = {**facts, "decision": run.order.decision or None}
    if run.stream:
        told["sequence"] = run.chunks
        told["final"] = True
    return told


def _timings(run: Run, now_ms: float) -> dict[str, float]:
    """Milliseconds: from triage to here, waiting for a place, at the providers, and in dispatch altogether."""
    return {
        "queued": max(0, run.started_unix_ms - run.order.plan.received_ms),
        "waited": to_microseconds(run.waited_ms),
        "provider": to_microseconds(sum([attempt.latency_ms for attempt in run.attempts])),
        "dispatch": to_microseconds(now_ms - run.started_ms),
    }


def final_record(record: Outgoing, chunks: int) -> Outgoing:
    """The last record of a stream, which is the whole reply."""
    marks = ((h.SEQUENCE, str(chunks).encode()), (h.FINAL, b"true"))
    return record._replace(headers=(*record.headers, *marks))


def chunk_record(order: Order, address: Address, chunk: Mapping[str, Any], sequence: int, topics: Topics) -> Outgoing:
    """One chunk of a streaming reply, numbered from 0."""
    facts = {"request_id": order.request_id, "sequence": sequence, "final": False}
    headers = reply_headers(order.address, order.request_id, order.trace, None)
    headers.append((h.SEQUENCE, str(sequence).encode()))
    return reply_record(address, encode({**chunk, "heimdall": facts}), headers, topics)
