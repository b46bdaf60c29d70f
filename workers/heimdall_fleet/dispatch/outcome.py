"""The outcome record: how an order ended and every call that was paid for on the way."""

import base64
from datetime import UTC, datetime

from heimdall_fleet.dispatch.cost import Tokens
from heimdall_fleet.dispatch.reply import Facts
from heimdall_fleet.dispatch.run import Run
from heimdall_fleet.kafka.records import Outgoing
from heimdall_schemas.codec import encode
from heimdall_schemas.failure import Failure
from heimdall_schemas.topics import Topics


def outcome_value(run: Run, facts: Facts, failure: Failure | None, worker: str, now_ms: float) -> bytes:
    """The value of an outcome record: the facts of the reply and what only the auditor needs."""
    plan, model_id = run.order.plan, facts["selected_model"]
    record = {
        "kind": "outcome",
        **facts,
        "correlation_id": readable(run.order.address.correlation_id),
        "time": rfc3339(run.started_unix_ms + round(now_ms - run.started_ms)),
        "failure": None if failure is None else failure.code,
        "error": None if failure is None else failure.message,
        "p_served": plan.p_chosen if model_id is not None and model_id == plan.steps[0].model else None,
        "tokens": _sum(run)._asdict(),
        "worker": worker,
        "tenant": plan.tenant,
    }
    if run.repeated:
        record["call_repeated"] = True
    if run.state_down:
        record["unreserved"] = True
    return encode(record)


def outcome_record(request_id: str, value: bytes, partition: int, topics: Topics) -> Outgoing:
    """On the audit partition that the decision record of the same request is on."""
    return Outgoing(topic=topics.audit, value=value, key=request_id.encode(), partition=partition)


def _sum(run: Run) -> Tokens:
    if len(run.attempts) == 1:
        return run.attempts[0].tokens
    return Tokens(*(sum(counts) for counts in zip(*(attempt.tokens for attempt in run.attempts), strict=True)))


def readable(correlation_id: bytes) -> str:
    """Correlation ids are opaque bytes; text stays text, anything else is shown as base64."""
    try:
        text = correlation_id.decode()
    except UnicodeDecodeError:
        text = ""
    return text if text and text.isprintable() else "base64:" + base64.b64encode(correlation_id).decode()


def rfc3339(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
