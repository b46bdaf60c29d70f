"""The offline checker: from a history to what it breaks. Pure, and it reads nothing but the history.

Each rule is one function that gives a line for each violation; the numbers are those of docs/faults.md.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TypeVar

from tests.faults.commits import TWINS, commits_cover_only_what_is_published, covered_at, positions_never_go_back
from tests.faults.history import Call, Fault, History, Outcome

CLOCK_SLACK_S = 0.25
"""Workers, providers and broker share one machine's clock, but not one instant."""

RATE_LIMITED = 429
"""Turned away at the door: costs nothing, and is no attempt that counts."""

OfRequest = TypeVar("OfRequest", Call, Outcome)

TERMINAL = frozenset({"answered", "failed", "expired", "cancelled", "dead_lettered"})


def check(history: History) -> list[str]:
    """Every violation of every invariant, as lines that begin with its number; none is the good verdict."""
    return list(chain.from_iterable(rule(history) for rule in RULES))


def every_request_ends_once(history: History) -> Iterator[str]:
    """I1: each acknowledged request has exactly one terminal state, and its asker was told."""
    states = _states(history)
    told = {reply.request_id for reply in history.reply}
    deaf = {sent.request_id for sent in history.sent if sent.deaf}
    for sent in history.sent:
        if sent.acknowledged and not states[sent.request_id]:
            yield f"I1: {sent.request_id} was acknowledged and never ended"
        elif sent.acknowledged and sent.request_id not in told | deaf:
            yield f"I1: the asker of {sent.request_id} was never told how it ended"
        elif sent.deaf and sent.request_id in told:
            yield f"I1: {sent.request_id} was answered on an address that is not allowed"
    known = {sent.request_id for sent in history.sent}
    for request_id, ended in states.items():
        if strange := ended - TERMINAL:
            yield f"I1: {request_id} ended as {sorted(strange)}"
        if request_id not in known:
            yield f"I1: {request_id} ended, but nobody sent it"


def copies_agree(history: History) -> Iterator[str]:
    """I2: one logical reply for each correlation id; physical copies carry the same state, and so does the audit."""
    by_correlation: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for reply in history.reply:
        by_correlation[reply.correlation_id].add((reply.request_id, reply.state))
    for correlation_id, told in by_correlation.items():
        if len(told) > 1:
            yield f"I2: the replies under {correlation_id} contradict each other: {sorted(told)}"
    for request_id, states in _states(history).items():
        if len(states) > 1:
            yield f"I2: {request_id} ended in {len(states)} ways: {sorted(states)}"


def calls_are_bounded(history: History) -> Iterator[str]:
    """I5: no worker calls more often than attempts are allowed, and a second worker calls only what a fault left over.

    Left over is an order that no commit had covered yet, when a fault or a rebalance came between the two calls.
    """
    covered = covered_at(history)
    unheard = [fault for fault in history.fault if fault.kind == TWINS]
    rested = {rest.request_id for rest in history.rested}
    for request_id, calls in _by_request(history.call).items():
        first: dict[str, Call] = {}
        for call in sorted(calls, key=lambda each: each.at):
            first.setdefault(call.worker, call)
        for worker in first:
            mine = sum(call.worker == worker and call.status != RATE_LIMITED for call in calls)
            if mine > history.run.max_attempts:
                yield f"I5: {worker} called {mine} times for {request_id}, allowed are {history.run.max_attempts}"
        before, *others = first.values()
        for call in others:
            of_twins = any(fault.start <= call.at <= fault.end for fault in unheard)
            if not of_twins and call.at > covered.get(request_id, call.at):
                yield f"I5: {call.worker} called for {request_id} after a commit had covered its order"
            if request_id not in rested and not _fault_between(before, call, history.fault):
                yield f"I5: {call.worker} called for {request_id} after {before.worker}, and no fault lay between"


def calls_are_in_the_audit(history: History) -> Iterator[str]:
    """I5 and I6: each call is an attempt of an outcome record, and each attempt whose end is known was a call.

    Without a shared state those calls are excused that died with their worker: nobody else can know of them.
    """
    rested = {rest.request_id for rest in history.rested}
    killed = {exit_.worker: exit_.at for exit_ in history.exit if exit_.code != 0}
    outcomes = _by_request(distinct(history.outcome))
    told = {(outcome.request_id, outcome.worker) for outcome in history.outcome}
    for request_id, calls in _by_request(history.call).items():
        if request_id in rested:  # its record repeats the attempts from before the rest
            continue
        known, unknown = audited_calls(outcomes.get(request_id, []))
        died = sum(
            call.worker in killed
            and (request_id, call.worker) not in told
            and killed[call.worker] <= _end(call) + history.run.publish_bound_s
            for call in calls
        )
        excused = 0 if _state_held(history) else died
        if not known <= len(calls) <= known + unknown + excused:
            yield (
                f"I5: the providers saw {len(calls)} calls for {request_id}, {died} died with their worker, the audit "
                f"knows how {known} ended and that {unknown} more were begun"
            )


def audited_calls(outcomes: Iterable[Outcome]) -> tuple[int, int]:
    """Calls in distinct outcome records of one request: those whose end is known, and those that were only begun."""
    reached = 0
    named: dict[str, bool] = {}
    for outcome in outcomes:
        reached += outcome.reached
        for name, ended in outcome.named.items():
            named[name] = ended or named.get(name, False)
    known = sum(named.values())
    return reached + known, len(named) - known


def _state_held(history: History) -> bool:
    """Workers shared a state, and nothing happened to it."""
    return history.run.shared_state and not any(fault.kind.startswith("redis") for fault in history.fault)


def endings_are_in_the_audit(history: History) -> Iterator[str]:
    """I6: an outcome record for every ending, a decision record for every order, a letter for every dead letter."""
    outcomes = {outcome.request_id for outcome in history.outcome if not outcome.superseded}
    decisions = {decision.request_id for decision in history.decision}
    letters = {letter.request_id for letter in history.letter}
    for reply in history.reply:
        if reply.request_id not in outcomes:
            yield f"I6: {reply.request_id} was answered with {reply.state} and has no outcome record"
    for request_id in sorted({order.request_id for order in history.order if order.decided} - decisions):
        yield f"I6: {request_id} was routed and has no decision record"
    for outcome in history.outcome:
        if outcome.state == "dead_lettered" and outcome.request_id not in letters:
            yield f"I6: {outcome.request_id} is dead-lettered, but there is no letter"
        if outcome.state != "dead_lettered" and outcome.request_id in letters:
            yield f"I6: {outcome.request_id} ended as {outcome.state}, and there is a dead letter of it"


def money_is_what_the_providers_took(history: History) -> Iterator[str]:
    """I6: tokens and cost of the outcome records are those of the calls, wherever every call was answered whole."""
    outcomes = _by_request(distinct(history.outcome))
    rested = {rest.request_id for rest in history.rested}
    for request_id, calls in _by_request(history.call).items():
        records = outcomes.get(request_id, [])
        whole = all(call.outcome in ("ok", "error") for call in calls)
        guessed = any(each.estimated for each in records)
        if not whole or guessed or request_id in rested or audited_calls(records) != (len(calls), 0):
            continue
        paid = [call for call in calls if call.outcome == "ok"]
        tokens = sum(call.prompt_tokens + call.completion_tokens for call in paid)
        if tokens != (audited := sum(each.prompt_tokens + each.completion_tokens for each in records)):
            yield f"I6: the providers counted {tokens} tokens for {request_id}, the audit has {audited}"
        if all(_price_key(call) in history.run.prices for call in paid):
            cost = sum(_cost(call, history) for call in paid)
            if cost != (booked := sum(each.cost_usd_micros for each in records)):
                yield f"I6: {request_id} cost {cost} micro-dollars at the providers, the audit has {booked}"


def ceilings_hold(history: History) -> Iterator[str]:
    """I8: the calls of a request cost no more at the providers than the request allows, whoever made them.

    A model may answer more than was asked of it; scripted ones do not.
    """
    ceilings = {sent.request_id: sent.ceiling_usd_micros for sent in history.sent}
    for request_id, calls in _by_request(history.call).items():
        ceiling = ceilings.get(request_id)
        paid = [call for call in calls if call.outcome == "ok" and _price_key(call) in history.run.prices]
        if ceiling is not None and (cost := sum(_cost(call, history) for call in paid)) > ceiling:
            yield f"I8: {request_id} cost {cost} micro-dollars, {ceiling} were allowed"


def canaries_are_silent(history: History) -> Iterator[str]:
    """I7."""
    for leak in history.leak:
        yield f"I7: the canary {leak.canary} is in {leak.where}"


def progress_returns(history: History) -> Iterator[str]:
    """I9: after the last fault everything ends within the bound, and at the end every group has read everything."""
    if history.fault and history.reply:
        healed = max(fault.end for fault in history.fault)
        asked = max((sent.at for sent in history.sent), default=healed)
        took_s = max(reply.at for reply in history.reply) - max(healed, asked)
        if took_s > history.run.progress_bound_s:
            bound_s = history.run.progress_bound_s
            yield f"I9: the last reply came {took_s:.1f} s after the last fault, {bound_s:g} allowed"
    reached: dict[tuple[str, str, int], int] = {}
    for commit in history.commit:
        reached[commit.group, commit.topic, commit.partition] = commit.position
    for end in history.logend:
        if (at := reached.get((end.group, end.topic, end.partition), 0)) < end.offset:
            yield f"I9: {end.group} stands at {at} of {end.offset} in {end.topic}-{end.partition}"


def resources_are_bounded(history: History) -> Iterator[str]:
    """I10: memory, tasks and calls in flight of every worker, and nothing left behind when it stopped."""
    run = history.run
    for sample in history.sample:
        for what, value, limit in (
            ("bytes resident", sample.rss_bytes, run.max_rss_bytes),
            ("tasks", sample.tasks, run.max_tasks),
            ("in flight", sample.in_flight, run.max_in_flight),
        ):
            if value > limit:
                yield f"I10: {sample.worker} has {value:.0f} {what}, allowed are {limit}"
    for complaint in history.complaint:
        yield f"I10: {complaint.worker} left something behind: {complaint.line}"


def deadlines_hold(history: History) -> Iterator[str]:
    """I12: no call begins after the deadline of its request, and nobody is told `expired` before it."""
    deadlines = {sent.request_id: sent.deadline for sent in history.sent}
    for call in history.call:
        late_s = call.at - deadlines.get(call.request_id, call.at)
        if late_s > CLOCK_SLACK_S:
            yield f"I12: {call.request_id} was called {late_s:.2f} s after its deadline"
    for reply in history.reply:
        early_s = deadlines.get(reply.request_id, reply.at) - reply.at
        if reply.state == "expired" and early_s > CLOCK_SLACK_S:
            yield f"I12: {reply.request_id} was told expired {early_s:.2f} s before its deadline"


def workers_stop_in_time(history: History) -> Iterator[str]:
    """I13: a worker that is told to stop waits for nobody longer than it may, and leaves with code 0."""
    for exit_ in history.exit:
        took_s = exit_.at - exit_.asked_at
        if took_s > history.run.stop_bound_s:
            yield f"I13: {exit_.worker} took {took_s:.1f} s to stop, {history.run.stop_bound_s:g} allowed"
        if exit_.signal == "SIGTERM" and exit_.code != 0:
            yield f"I13: {exit_.worker} was stopped gracefully and left with code {exit_.code}"
        if exit_.signal is None:
            yield f"I13: {exit_.worker} ended by itself with code {exit_.code}"


RULES: tuple[Callable[[History], Iterable[str]], ...] = (
    every_request_ends_once,
    copies_agree,
    commits_cover_only_what_is_published,
    positions_never_go_back,
    calls_are_bounded,
    calls_are_in_the_audit,
    endings_are_in_the_audit,
    money_is_what_the_providers_took,
    ceilings_hold,
    canaries_are_silent,
    progress_returns,
    resources_are_bounded,
    deadlines_hold,
    workers_stop_in_time,
)


def distinct(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """One of each record; copies of the same bytes tell of the same calls."""
    return list({outcome.body: outcome for outcome in outcomes}.values())


def _by_request(events: Iterable[OfRequest]) -> dict[str, list[OfRequest]]:
    found: dict[str, list[OfRequest]] = defaultdict(list)
    for event in events:
        found[event.request_id].append(event)
    return found


def _states(history: History) -> dict[str, set[str]]:
    states: dict[str, set[str]] = defaultdict(set)
    for reply in history.reply:
        states[reply.request_id].add(reply.state)
    for outcome in history.outcome:
        if outcome.superseded:
            continue
        states[outcome.request_id].add(outcome.state)
    return states


def _fault_between(first: Call, second: Call, faults: Iterable[Fault]) -> bool:
    return any(
        first.at <= fault.end and fault.start <= second.at
        for fault in faults
        if not fault.workers or {first.worker, second.worker} & set(fault.workers)
    )


def _end(call: Call) -> float:
    return float("inf") if call.end is None else call.end


def _price_key(call: Call) -> str:
    return f"{call.provider}/{call.model}"


def _cost(call: Call, history: History) -> int:
    """Rounded up to the micro-dollar, a call at a time."""
    price_in, price_out = history.run.prices[_price_key(call)]
    return -(-(call.prompt_tokens * price_in + call.completion_tokens * price_out) // 1_000_000)
