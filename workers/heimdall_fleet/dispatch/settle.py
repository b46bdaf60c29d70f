"""After an attempt: what it cost, what it taught about its key, and the place given back."""

from collections.abc import Callable, Iterable
from typing import Any

from heimdall_fleet.dispatch.capacity.pool import Ticket
from heimdall_fleet.dispatch.cost import Bill, Tokens, bill_answer, bill_guessed
from heimdall_fleet.dispatch.failover import Tried
from heimdall_fleet.dispatch.room import Room
from heimdall_fleet.dispatch.run import Attempt, Result, Run
from heimdall_fleet.providers.dialect import Action, AttemptFailure
from heimdall_schemas.codec import encode
from heimdall_schemas.failure import FailureCode

_FREE = Bill(0, Tokens())
_MAYBE_BILLED = frozenset(
    {
        FailureCode.PROVIDER_TIMEOUT,
        FailureCode.PROVIDER_TRUNCATED,
        FailureCode.PROVIDER_TOO_LARGE,
        FailureCode.POLICY_CANCELLED,
    }
)
_GIVEN_UP = AttemptFailure(FailureCode.POLICY_CANCELLED, Action.FINAL, "the call was given up")


def settle(ticket: Ticket, result: Result, run: Run, room: Room, now_ms: float) -> int:
    """Book the attempt; what it cost, in micro-dollars, comes back."""
    bill = _bill(ticket, result, run, room)
    _book(ticket, result, bill, run, room, now_ms)
    alarm = room.pool.learn(ticket, result.failure, now_ms)
    if alarm is not None:
        room.telemetry.alarm(alarm)
    room.turnstile.wake(ticket.route.provider)
    run.dropped = result.dropped
    return bill.usd_micros


def tried(ticket: Ticket, result: Result, usd_micros: int) -> Tried:
    """What failover must know of an attempt that failed."""
    return Tried(ticket.key.name, result.failure or _GIVEN_UP, usd_micros)


def give_up(ticket: Ticket, run: Run, room: Room) -> None:
    """Book a call that is cancelled from our side: it taught nothing, but it was probably paid for."""
    now_ms, result = room.clock.mono_ms(), Result(None, _GIVEN_UP, None)
    _book(ticket, result, _bill(ticket, result, run, room), run, room, now_ms)
    room.pool.put_back(ticket, now_ms)
    room.turnstile.wake(ticket.route.provider)


def named_records(run: Run, room: Room) -> list[dict[str, Any]]:
    """This worker's own calls, ended or under way, each with a name that no other call has."""
    return _named(_calls(run), run.order.plan.token_count, room)


def begun_by(run: Run, room: Room) -> Callable[[], bytes]:
    """Words what whoever takes the order over shall know: every call of it, as things stand now."""
    earlier, calls, prompt_tokens = (*run.earlier,), _calls(run), run.order.plan.token_count
    return lambda: encode([*earlier, *_named(calls, prompt_tokens, room)])


def _calls(run: Run) -> tuple[Attempt | Ticket, ...]:
    return (*run.attempts, *run.under_way.values())


def _named(calls: Iterable[Attempt | Ticket], prompt_tokens: int, room: Room) -> list[dict[str, Any]]:
    told = [_interrupted(call, prompt_tokens, room) if isinstance(call, Ticket) else call for call in calls]
    return [{**call.as_record(), "call": f"{room.leases.holder}/{call.number}"} for call in told]


def _interrupted(ticket: Ticket, prompt_tokens: int, room: Room) -> Attempt:
    """The call of `ticket` as it stands in the audit when this worker is lost before it ends."""
    target = ticket.route.target
    bill = bill_guessed(Tokens(prompt_tokens), ticket.route.offer.price, room.settings.unknown_price)
    return Attempt(
        provider=target.provider,
        model=target.model_id,
        key=ticket.key.name,
        status=None,
        failure=FailureCode.HEIMDALL_INTERRUPTED,
        latency_ms=0.0,
        cost_usd_micros=bill.usd_micros,
        tokens=bill.tokens,
        estimated=True,
        number=ticket.number,
    )


def _bill(ticket: Ticket, result: Result, run: Run, room: Room) -> Bill:
    price, unknown = ticket.route.offer.price, room.settings.unknown_price
    prompt_tokens = run.order.plan.token_count
    if result.answer is not None:
        if usage := result.answer.get("usage"):
            return bill_answer(usage, price, unknown)
        return bill_guessed(Tokens(prompt_tokens, room.settings.expected_output_tokens), price, unknown)
    if result.failure is not None and result.failure.code in _MAYBE_BILLED and not result.failure.connection_only:
        return bill_guessed(Tokens(prompt_tokens), price, unknown)
    return _FREE


def _book(ticket: Ticket, result: Result, bill: Bill, run: Run, room: Room, now_ms: float) -> None:
    target = ticket.route.target
    attempt = Attempt(
        target.provider,
        target.model_id,
        ticket.key.name,
        result.status,
        None if result.failure is None else result.failure.code,
        now_ms - ticket.started_ms,
        bill.usd_micros,
        bill.tokens,
        ticket.number,
        bill.estimated,
    )
    run.under_way.pop(ticket.number, None)
    run.attempts.append(attempt)
    room.telemetry.attempted(run, attempt, result.failure)
