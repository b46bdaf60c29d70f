"""The outcome record: how an order ended and every call that was paid for on the way."""

import orjson

from heimdall_fleet.dispatch.cost import Tokens
from heimdall_fleet.dispatch.ending.reply import Facts
from heimdall_fleet.dispatch.ending.words import kept
from heimdall_fleet.dispatch.room import Room
from heimdall_fleet.dispatch.run import Ending, Run
from heimdall_fleet.dispatch.settle import named_records
from heimdall_schemas.codec import encode
from heimdall_schemas.failure import Failure
from heimdall_schemas.text import readable, rfc3339


def outcome_value(run: Run, facts: Facts, failure: Failure | None, worker: str, now_ms: float) -> bytes:
    """The value of an outcome record: the facts of the reply and what only the auditor needs. Of a shadow, its own record."""
    if run.order.shadow is not None:
        return _shadow_value(run, facts, failure, worker, now_ms)
    plan, model_id = run.order.plan, facts["selected_model"]
    chosen = model_id is not None and model_id == plan.steps[0].model and facts["cache"] is None
    record = {
        "kind": "outcome",
        **facts,
        "correlation_id": readable(run.order.address.correlation_id),
        "time": rfc3339(run.started_unix_ms + round(now_ms - run.started_ms)),
        "failure": None if failure is None else failure.code,
        "error": None if failure is None else kept(failure.message, run.body),
        "p_served": plan.p_chosen if chosen else None,
        "tokens": _sum(run).as_record(),
        "worker": worker,
        "tenant": plan.tenant,
    }
    if run.repeated:
        record["call_repeated"] = True
    if run.state_down:
        record["unreserved"] = True
    if run.redriven:
        record["redriven"] = run.redriven
    return encode(record)


_NOT_OF_A_SHADOW = frozenset({"fallback_used", "fallback_reason", "cache"})


def _shadow_value(run: Run, facts: Facts, failure: Failure | None, worker: str, now_ms: float) -> bytes:
    shadow, plan = run.order.shadow, run.order.plan
    assert shadow is not None
    told = {name: value for name, value in facts.items() if name not in _NOT_OF_A_SHADOW}
    record = {
        **told,
        "kind": "shadow",
        "request_id": shadow.of,
        "shadow_id": run.request_id,
        "time": rfc3339(run.started_unix_ms + round(now_ms - run.started_ms)),
        "failure": None if failure is None else failure.code,
        "error": None if failure is None else kept(failure.message, run.body),
        "model": plan.steps[0].model,
        "served_model": shadow.served_model,
        "share": shadow.share,
        "p_drawn": shadow.p_drawn,
        "tokens": _sum(run).as_record(),
        "worker": worker,
        "tenant": plan.tenant,
    }
    return encode(record)


def superseded_value(run: Run, ending: Ending, room: Room) -> bytes:
    """An outcome record of calls that led to nothing: another worker had brought the order to `ending` meanwhile.

    What `ending` tells of the same calls as a guess is taken off the cost, so that the records of a request add up.
    """
    published = orjson.loads(ending.outcome)
    calls = named_records(run, room)
    names = {call["call"] for call in calls}
    guessed = sum(each["cost_usd_micros"] for each in published["attempts"] if each.get("call") in names)
    own = {
        "correlation_id": readable(run.order.address.correlation_id),
        "time": rfc3339(room.clock.unix_ms()),
        "selected_model": None,
        "selected_provider": None,
        "attempts": calls,
        "cost_usd_micros": sum(call["cost_usd_micros"] for call in calls) - guessed,
        "p_served": None,
        "tokens": _sum(run).as_record(),
        "worker": room.settings.worker,
        "superseded": True,
    }
    return encode({**published, **own})


def _sum(run: Run) -> Tokens:
    if len(run.attempts) == 1:
        return run.attempts[0].tokens
    return Tokens(*(sum(counts) for counts in zip(*(attempt.tokens for attempt in run.attempts), strict=True)))
