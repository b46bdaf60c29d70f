"""Shadows at work: sending one after an answer was published, and answering one within its budget."""

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson

from heimdall_fleet.dispatch.ending.endings import failed
from heimdall_fleet.dispatch.pipeline import conclude, end_of
from heimdall_fleet.dispatch.reserve import store
from heimdall_fleet.dispatch.room import Room
from heimdall_fleet.dispatch.run import Ending, Parked, Run, begin
from heimdall_fleet.dispatch.shadow.draw import shadow_for, shadow_order
from heimdall_fleet.dispatch.shadow.verdict import answer_text, judge_order, served_first, verdict_in
from heimdall_fleet.kafka.errors import KafkaFailure
from heimdall_fleet.state.base import Budget, StateUnavailable
from heimdall_models.ceiling import needed_usd_micros
from heimdall_schemas.audit import State
from heimdall_schemas.codec import encode
from heimdall_schemas.failure import Failure, FailureCode

log = logging.getLogger(__name__)

MOST_OUTPUT_TOKENS = 8_192
"""Of an answer whose asker set no limit: for so many money is set aside, and no more are asked for."""

UNREADABLE = "unreadable_verdict"

_KEPT_MS = 48 * 3_600_000
_NO_CHAIN: dict[str, tuple[str, ...]] = {}


async def send_shadow(run: Run, ending: Ending, room: Room, partition: int) -> None:
    """Have an order asked once more if it is drawn. To be called when its reply and outcome are confirmed.

    A shadow that Kafka does not take is lost and counted: its request is answered, and must not be again.
    """
    drawn = shadow_for(run, ending, room.settings.shadow)
    if drawn is None:
        return
    order = shadow_order(run, drawn, room.topics, room.clock.unix_ms())
    try:
        count = await room.producer.partition_count(order.topic)
        await room.producer.send(order._replace(partition=partition % count))
    except KafkaFailure as error:
        room.telemetry.shadowed(drawn.step.model, "not_sent")
        log.warning(
            "a shadow was not sent: %s", error, extra={"action": "shadow_not_sent", "request_id": run.request_id}
        )


async def answer_shadow(run: Run, room: Room, partition: int) -> Ending | Parked:
    """Answer a shadow order: as any other, but by one call of its one model, for no more than was set aside for it.

    What it really cost takes the place of that. Where nothing can be set aside nobody is asked, and the record says so.
    A judge that shall compare the two answers is asked before the record is written, so that it stands there once.
    """
    room = _one_call_in(room)
    ending = await _within_budget(run, room)
    if isinstance(ending, Parked):
        return ending
    ending = await _with_verdict(run, ending, room)
    return await conclude(run, ending, room, partition)


async def _within_budget(run: Run, room: Room) -> Ending | Parked:
    """The end of one call, paid out of the day's budget."""
    budget, hold = _budget(room), f"{run.request_id}@{room.leases.holder}"
    most_usd_micros = _most_usd_micros(run, room)
    if (refused := await _refusal(budget, hold, most_usd_micros, room)) is not None:
        return failed(run, refused, room)
    ceiling = run.spent_before_usd_micros + most_usd_micros
    run.order = run.order._replace(plan=replace(run.order.plan, max_cost_usd_micros=ceiling))
    try:
        return await end_of(run, room)
    finally:
        await _settle(budget, hold, sum(attempt.cost_usd_micros for attempt in run.attempts), room)


async def _with_verdict(run: Run, ending: Ending, room: Room) -> Ending:
    """The ending with a judge's scores of both answers in its record, or with why there are none."""
    shadow, settings = run.order.shadow, room.settings.shadow.judge
    if settings is None or shadow is None or shadow.served_answer is None or ending.stored:
        return ending
    own = answer_text(orjson.loads(ending.reply)) if ending.state is State.ANSWERED else None
    if own is None:
        return ending
    order = judge_order(run.order, run.body, (shadow.served_answer, own), settings)
    judging = begin(order, orjson.loads(order.body), room.clock.unix_ms(), room.clock.mono_ms())
    result = await _within_budget(judging, room)
    if isinstance(result, Ending):
        result = await store(judging, result, room)
    room.leases.let_go(judging.request_id)
    told = {"model": settings.model, "order": _order_of(run), "cost_usd_micros": judging.cost_usd_micros}
    record = {**orjson.loads(ending.outcome), "judge": {**told, **_scores(result, run)}}
    return ending._replace(outcome=encode(record))


def _order_of(run: Run) -> str:
    return "served, shadow" if served_first(run.request_id) else "shadow, served"


def _scores(result: Ending | Parked, run: Run) -> dict[str, Any]:
    """Both scores, or null with the failure."""
    failure, verdict = None, None
    if isinstance(result, Parked):
        failure = result.reason
    elif result.failure is not None:
        failure = result.failure.code.value
    else:
        verdict = verdict_in(answer_text(orjson.loads(result.reply)), run.request_id)
        failure = None if verdict else UNREADABLE
    return {
        "score_served": verdict and verdict.served,
        "score_shadow": verdict and verdict.shadow,
        "failure": failure,
    }


def _one_call_in(room: Room) -> Room:
    """A shadow is one call of one model: no fallback leads to another, and what fails is not paid for again."""
    failover = replace(
        room.settings.failover,
        max_attempts=1,
        fallbacks=_NO_CHAIN,
        context_window_fallbacks=_NO_CHAIN,
        content_policy_fallbacks=_NO_CHAIN,
    )
    return replace(room, settings=replace(room.settings, failover=failover))


def _budget(room: Room) -> Budget:
    day = datetime.fromtimestamp(room.clock.unix_ms() / 1_000, UTC).date().isoformat()
    return Budget(f"shadow/{day}", room.settings.shadow.budget_usd_micros_per_day, _KEPT_MS)


def _most_usd_micros(run: Run, room: Room) -> int:
    """What the order's model can cost at most: the prompt, and the caller's limit on the output or the fleet's."""
    offer = next(iter(room.book.offers(run.order.plan.steps[0].model)), None)
    longest = None if offer is None else offer.target.max_output
    price = room.settings.unknown_price if offer is None or offer.price is None else offer.price
    output = run.output_tokens(min(longest or MOST_OUTPUT_TOKENS, MOST_OUTPUT_TOKENS))
    prompt = run.order.plan.token_count
    return needed_usd_micros(prompt, output, price.at(prompt))


async def _refusal(budget: Budget, hold: str, usd_micros: int, room: Room) -> Failure | None:
    try:
        if await room.state.hold_money(budget, hold, usd_micros):
            return None
    except StateUnavailable as error:
        return Failure(FailureCode.HEIMDALL_UNAVAILABLE, f"no money can be set aside for this shadow: {error}")
    return Failure(
        FailureCode.POLICY_BUDGET,
        f"{usd_micros} micro-dollars are more than is left of today's {budget.limit_usd_micros} for shadows; "
        "raise learning.shadow.budget_usd_per_day or lower learning.shadow.share",
    )


async def _settle(budget: Budget, hold: str, spent_usd_micros: int, room: Room) -> None:
    """With the state down what was set aside stays so until the day is over: the budget is never exceeded."""
    try:
        await room.state.settle_money(budget, hold, spent_usd_micros)
    except StateUnavailable as error:
        log.warning("money set aside for a shadow is not given back: %s", error, extra={"action": "shadow_not_settled"})
