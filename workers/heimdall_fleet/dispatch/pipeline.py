"""The path of an order through dispatch: reserve → admit → pick key → call → (fail over) → settle → publish."""

from heimdall_fleet.dispatch.admit import admit
from heimdall_fleet.dispatch.chains import chain_for
from heimdall_fleet.dispatch.ending.claim_check import fitted
from heimdall_fleet.dispatch.ending.endings import answered, failed
from heimdall_fleet.dispatch.ending.publish import publish
from heimdall_fleet.dispatch.failover import Stop, first_move, next_move
from heimdall_fleet.dispatch.hedge import ask
from heimdall_fleet.dispatch.pick_key import pick_key
from heimdall_fleet.dispatch.reserve import Park, announce, release, reserve, store
from heimdall_fleet.dispatch.room import Room
from heimdall_fleet.dispatch.run import Ending, Parked, Run
from heimdall_fleet.dispatch.settle import settle, tried
from heimdall_fleet.dispatch.tenure import may_end
from heimdall_schemas.failure import Failure


async def dispatch(run: Run, room: Room, partition: int) -> Ending | Parked:
    """Answer one order. When this returns an Ending the broker has the reply and the audit record.

    A Parked order has no end yet and shall come back later. Cancelling the task stops the call in flight. An order that
    its caller cancels is reserved first all the same: only so are the calls of a lost worker known, and told.
    """
    result = await end_of(run, room)
    return result if isinstance(result, Parked) else await conclude(run, result, room, partition)


async def end_of(run: Run, room: Room) -> Ending | Parked:
    """The end that an order comes to, not yet stored nor published."""
    try:
        if (known := await reserve(run, room)) is not None:
            return known
        with room.cancels.watching(run.request_id):
            return await _ask(run, room)
    except Failure as failure:
        return failed(run, failure, room)
    except Park as park:
        await release(run, room)
        return park.parked


async def conclude(run: Run, ending: Ending, room: Room, partition: int) -> Ending:
    """Store the end and publish it, or the end that another worker has stored before. Raises KafkaFailure."""
    await may_end(run, ending, room, partition)
    run.ending = await store(run, ending, room)
    return await publish(run, run.ending, room, partition)


async def _ask(run: Run, room: Room) -> Ending:
    """Ask one model after the other until one has answered. Raises Failure when none may or can, Park to rest."""
    chain, now_ms = chain_for(run, room), room.clock.mono_ms()
    admit(run, chain, now_ms)
    chain, move = first_move(chain, room.pool, now_ms)
    while not isinstance(move, Stop):
        ticket = await pick_key(move, chain, run, room)
        if ticket is None:
            chain, move = first_move(chain, room.pool, room.clock.mono_ms())
            continue
        if (known := await announce(ticket, run, room)) is not None:
            return known
        chain, ticket, result = await ask(ticket, chain, run, room)
        now_ms = room.clock.mono_ms()
        usd_micros = settle(ticket, result, run, room, now_ms)
        if result.failure is None and result.answer is not None:
            return await fitted(answered(run, result.answer, ticket, room, now_ms), room)
        chain, move = next_move(chain, tried(ticket, result, usd_micros), room.pool, now_ms)
    raise move.failure
