"""From a decided move to a place with a key: back-off, waiting for capacity, the shared count of a key's quota."""

import asyncio

from heimdall_fleet.dispatch.capacity.pool import Ticket
from heimdall_fleet.dispatch.failover import NO_KEYS, Chain, Move, NextMove, OtherKey, Retry, Wait, keys_without
from heimdall_fleet.dispatch.reserve import Park
from heimdall_fleet.dispatch.room import Room
from heimdall_fleet.dispatch.run import Parked, Run
from heimdall_fleet.state.base import StateUnavailable, Want

_BURST_MINUTES = 1 / 6


async def pick_key(move: NextMove, chain: Chain, run: Run, room: Room) -> Ticket | None:
    """The place that `move` asks for; None when it is gone, or when it has to be decided anew after a wait.

    Raises Park.
    """
    key: str | None = None
    without = NO_KEYS
    match move:
        case Move():
            if run.attempts:
                _tell_hop(move, run, room)
            without = keys_without(chain, move.target)
        case Wait():
            await _wait(move, run, room)
            return None
        case Retry():
            await asyncio.sleep(move.after_ms / 1_000)
            key = run.attempts[-1].key
        case OtherKey():
            without = move.without
    assert chain.current is not None
    now_ms = room.clock.mono_ms()
    ticket = room.pool.take(chain.current, without, now_ms, key) if now_ms < run.deadline_ms else None
    if ticket is None or (ticket.key.group.rpm is None and ticket.key.group.tpm is None):
        return ticket
    return await _within_quota(ticket, run, room)


def _tell_hop(move: Move, run: Run, room: Room) -> None:
    last, target = run.attempts[-1], move.target.target
    if last.failure is not None and (last.provider, last.model) != (target.provider, target.model_id):
        room.telemetry.fell_back(run.order.plan.steps[0].model, last.model, target.model_id, last.failure)


async def _wait(move: Wait, run: Run, room: Room) -> None:
    """In process for `wait_in_process_ms` in all, then on a retry topic; at busy providers orders stand in line."""
    now_ms = room.clock.mono_ms()
    patience_ms = room.settings.wait_in_process_ms - run.waited_ms
    pause_ms = move.until_ms - now_ms
    room_to_park = run.deadline_ms - now_ms > 2 * room.settings.wait_in_process_ms
    if room_to_park and pause_ms > patience_ms:
        raise Park(Parked(pause_ms, "no_capacity"))
    lane = run.order.plan.lane
    await room.turnstile.wait(move.providers, lane, run.deadline_ms, pause_ms)
    run.waited_ms += room.clock.mono_ms() - now_ms


async def _within_quota(ticket: Ticket, run: Run, room: Room) -> Ticket | None:
    """The ticket, if the fleet's own count of the key's quota has room; else the key is closed until it has."""
    group = ticket.key.group
    wants = []
    if group.rpm is not None:
        wants.append(_want(f"rpm/{group.name}", group.rpm, 1))
    if group.tpm is not None:
        wants.append(_want(f"tpm/{group.name}", group.tpm, _tokens(run, room)))
    try:
        wait_ms = await room.state.take_tokens(wants)
    except StateUnavailable:
        run.state_down = True
        return ticket
    except asyncio.CancelledError:
        room.pool.put_back(ticket, room.clock.mono_ms())
        raise
    if not wait_ms:
        return ticket
    now_ms = room.clock.mono_ms()
    room.pool.put_back(ticket, now_ms)
    room.pool.close_group(ticket, now_ms + wait_ms)
    room.turnstile.wake(ticket.route.provider)
    return None


def _want(name: str, per_minute: int, amount: float) -> Want:
    return Want(name, per_minute, max(1.0, per_minute * _BURST_MINUTES), amount)


def _tokens(run: Run, room: Room) -> int:
    """What a call will count against a quota of tokens: the prompt, and the output that may or is likely to come."""
    return run.order.plan.token_count + run.output_tokens(room.settings.expected_output_tokens)
