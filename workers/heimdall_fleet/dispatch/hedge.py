"""Asking a place, and where `hedge_after` is set, the next model as well when the first is slow.

The first answer wins; the other call is given up, which stops most providers from generating, and is told as wasted. A
hedge needs a second attempt to be left, no ceiling on the cost (both calls are paid), and no stream to the caller.
"""

import asyncio
from typing import TypeAlias

from heimdall_fleet.dispatch.call import call
from heimdall_fleet.dispatch.capacity.pool import Ticket
from heimdall_fleet.dispatch.failover import Chain, Move, hedge_move, next_move
from heimdall_fleet.dispatch.pick_key import pick_key
from heimdall_fleet.dispatch.reserve import announce
from heimdall_fleet.dispatch.room import Room
from heimdall_fleet.dispatch.run import Result, Run
from heimdall_fleet.dispatch.settle import settle, tried

Asked: TypeAlias = tuple[Chain, Ticket, Result]
"""What came of it: the place that answered, or failed last; the chain knows of a hedge that failed before."""


async def ask(ticket: Ticket, chain: Chain, run: Run, room: Room) -> Asked:
    """Call the place of `ticket`, which is given back by who settles it; the loser of a hedge is settled here."""
    after_ms = room.settings.hedge_after_ms
    if after_ms is None or run.stream:
        return chain, ticket, await call(ticket, run, room)
    first = asyncio.create_task(call(ticket, run, room))
    try:
        await asyncio.wait({first}, timeout=after_ms / 1_000)
        second = None if first.done() else await _second(chain, run, room)
        if second is None:
            return chain, ticket, await first
        return await _race({first: ticket}, second, chain, run, room)
    finally:
        await _give_up(first, run)


async def _second(chain: Chain, run: Run, room: Room) -> Ticket | None:
    """A place at the next model that is free now; nobody waits for one."""
    route = hedge_move(chain, room.pool, room.clock.mono_ms())
    ticket = None if route is None else await pick_key(Move(route), chain._replace(current=route), run, room)
    return None if ticket is None or await announce(ticket, run, room) is not None else ticket


async def _race(
    calls: dict["asyncio.Task[Result]", Ticket], second: Ticket, chain: Chain, run: Run, room: Room
) -> Asked:
    """The first answer of the two, else the last failure."""
    hedge = asyncio.create_task(call(second, run, room))
    calls[hedge] = second
    try:
        while True:
            done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            # Where both are done, an answer goes before a failure.
            ended = min(done, key=lambda task: task.result().failure is not None)
            ticket = calls.pop(ended)
            chain = chain._replace(current=ticket.route)
            if ended.result().failure is None or not calls:
                return chain, ticket, ended.result()
            now_ms = room.clock.mono_ms()
            usd_micros = settle(ticket, ended.result(), run, room, now_ms)
            chain, _move = next_move(chain, tried(ticket, ended.result(), usd_micros), room.pool, now_ms)
    finally:
        for task, ticket in calls.items():
            if task.done() and not task.cancelled() and task.exception() is None:
                settle(ticket, task.result(), run, room, room.clock.mono_ms())
            await _give_up(task, run)


async def _give_up(task: "asyncio.Task[Result]", run: Run) -> None:
    """End a call that lost; `give_up` books it, and its record says that it was a hedge."""
    if task.done():
        return
    before = len(run.attempts)
    task.cancel()
    await asyncio.wait({task})
    run.attempts[before:] = [attempt._replace(hedged=True) for attempt in run.attempts[before:]]
