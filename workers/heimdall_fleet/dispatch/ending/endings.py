"""The terminal states: from an answer or a failure to what is published."""

from collections.abc import Mapping
from typing import Any

import orjson

from heimdall_fleet.dispatch.capacity.pool import Ticket
from heimdall_fleet.dispatch.ending.answer_facts import answer_facts
from heimdall_fleet.dispatch.ending.outcome import outcome_value
from heimdall_fleet.dispatch.ending.reply import answer_value, copy_value, error_value, facts_of
from heimdall_fleet.dispatch.room import Room
from heimdall_fleet.dispatch.run import Ending, Run
from heimdall_schemas.audit import State
from heimdall_schemas.failure import Failure, FailureCode

_STATES: Mapping[FailureCode, State] = {
    FailureCode.POLICY_EXPIRED: State.EXPIRED,
    FailureCode.POLICY_CANCELLED: State.CANCELLED,
}


def answered(run: Run, answer: dict[str, Any], ticket: Ticket, room: Room, now_ms: float) -> Ending:
    """The end of an answered order, however large its reply is."""
    target = ticket.route.target
    facts = facts_of(run, State.ANSWERED, (target.provider, target.model_id), now_ms)
    reply = answer_value(run, answer, facts)
    facts.update(answer_facts(answer, run.body))
    outcome = outcome_value(run, facts, None, room.settings.worker, now_ms)
    return Ending(State.ANSWERED, None, reply, outcome, target.model_id, target.provider)


def copied(run: Run, original: Ending, room: Room) -> Ending:
    """The answer to another request with the same idempotency key, as the end of this one: nothing was called or paid.

    The request's own answer, stored by an earlier life of it, is returned as it is.
    """
    reply = orjson.loads(original.reply)
    answered_for = reply["heimdall"]["request_id"]
    if answered_for == run.request_id:
        return original
    now_ms = room.clock.mono_ms()
    served = (original.provider, original.model) if original.provider and original.model else None
    facts = {**facts_of(run, original.state, served, now_ms), "cache": "idempotency", "answered_for": answered_for}
    outcome = outcome_value(run, facts, original.failure, room.settings.worker, now_ms)
    return original._replace(reply=copy_value(run, reply, facts), outcome=outcome, stored=False)


def failed(run: Run, failure: Failure, room: Room) -> Ending:
    """The end of an order without an answer: failed, expired, cancelled."""
    return _without_answer(run, failure, _STATES.get(failure.code, State.FAILED), room)


def dead_lettered(run: Run, failure: Failure, room: Room) -> Ending:
    """The end of an order that the fleet itself could not handle."""
    return _without_answer(run, failure, State.DEAD_LETTERED, room)


def _without_answer(run: Run, failure: Failure, state: State, room: Room) -> Ending:
    now_ms = room.clock.mono_ms()
    facts = facts_of(run, state, None, now_ms)
    outcome = outcome_value(run, facts, failure, room.settings.worker, now_ms)
    return Ending(state, failure, error_value(run, failure, facts), outcome)
