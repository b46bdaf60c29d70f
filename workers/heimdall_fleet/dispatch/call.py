"""One attempt: to wire → HTTP → from wire, within the deadline and the provider's own limits."""

import math
from collections.abc import Mapping
from typing import Any

from heimdall_fleet.dispatch.capacity.pool import Ticket
from heimdall_fleet.dispatch.chains import bounded_body
from heimdall_fleet.dispatch.ending.publish import publish_chunk
from heimdall_fleet.dispatch.room import Room
from heimdall_fleet.dispatch.routes import chain_of
from heimdall_fleet.dispatch.run import Result, Run
from heimdall_fleet.dispatch.settle import give_up
from heimdall_fleet.providers.answer_reader import AnswerReader, chunk_of
from heimdall_fleet.providers.dialect import Action, AttemptError, AttemptFailure, Call, Dialect, WireRequest
from heimdall_fleet.providers.http import CallLimits, HttpClient
from heimdall_schemas.failure import FailureCode

_OK = 200
_FILTERED = AttemptFailure(
    FailureCode.PROVIDER_REFUSED,
    Action.OTHER_MODEL,
    "the provider's content filter cut the answer",
    status=_OK,
    content_policy=True,
)


async def call(ticket: Ticket, run: Run, room: Room) -> Result:
    """Ask the provider. A stream is read to its terminal marker: a cut one is a failure, never a short answer.

    After the first chunk has gone out no other provider may go on, so a failure is final from there. The place of `ticket`
    is given back by who settles the result; when this raises it is given up.
    """
    try:
        target = ticket.route.target.as_asked(run.body.get("model"))
        dialect, client = room.dialects[target.type], room.clients[target.provider]
        secret = await room.tokens.secret_for(target, ticket.key.settings.secret)
        body, settings = bounded_body(run, ticket.route, room), ticket.route.settings
        asked = Call(body, target, secret, settings, run.stream, run.request_id)
        limits = within(ticket.provider.limits, run.deadline_ms - room.clock.mono_ms())
        wire = dialect.to_wire(asked)
        if asked.stream:
            return await _stream(wire, asked, (client, dialect, limits), run, room)
        answer = await client.post(wire, limits)
        if answer.status != _OK:
            return Result(None, dialect.failure(answer.status, answer.headers, answer.body), answer.status)
        return _judged(dialect.from_wire(answer.body, asked), wire, run, room)
    except AttemptError as error:
        return Result(None, _final_once_emitted(error.failure, run), error.failure.status)
    except BaseException:
        give_up(ticket, run, room)
        raise


async def _stream(
    wire: WireRequest,
    asked: Call,
    means: tuple[HttpClient, Dialect, CallLimits],
    run: Run,
    room: Room,
) -> Result:
    client, dialect, limits = means
    reader = AnswerReader(dialect, asked)
    async with client.stream(wire, limits) as answer:
        if answer.status != _OK:
            return Result(None, dialect.failure(answer.status, answer.headers, await answer.read()), answer.status)
        async for data in answer:
            for chunk in reader.feed(data):
                await publish_chunk(run, room, asked.target.model_id, chunk)
        completion = reader.finish()
    result = _judged(completion, wire, run, room)
    if reader.whole and result.failure is None:
        await publish_chunk(run, room, asked.target.model_id, chunk_of(completion))
    return result


def _judged(answer: dict[str, Any], wire: WireRequest, run: Run, room: Room) -> Result:
    """An answer that a content filter cut goes to the model's content-policy chain, where it has one."""
    chains = room.settings.failover.content_policy_fallbacks
    if chains and not run.chunks and _filtered(answer) and chain_of(run.order.plan.steps[0].model, chains):
        return Result(answer, _FILTERED, _OK, wire.dropped)
    return Result(answer, None, _OK, wire.dropped)


def _filtered(answer: Mapping[str, Any]) -> bool:
    choices = answer.get("choices") or ()
    return any(choice.get("finish_reason") == "content_filter" for choice in choices)


def _final_once_emitted(failure: AttemptFailure, run: Run) -> AttemptFailure:
    if not run.chunks:
        return failure
    return AttemptFailure(
        code=failure.code,
        action=Action.FINAL,
        message=f"after {run.chunks} chunks had gone out: {failure.message}"[:500],
        status=failure.status,
        counts_for_breaker=failure.counts_for_breaker,
    )


def within(limits: CallLimits, left_ms: float) -> CallLimits:
    """The provider's limits, with no time-out beyond the deadline, nor before it: what is left then would be one more call."""
    if left_ms >= limits.total_timeout_ms:
        return limits
    left = max(1, math.ceil(left_ms))
    return limits._replace(total_timeout_ms=left, connect_timeout_ms=min(limits.connect_timeout_ms, left))
