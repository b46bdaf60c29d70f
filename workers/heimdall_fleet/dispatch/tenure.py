"""Whose order it is, where no shared state can tell: the group's word counts, and it is waited for.

A worker that stood still wakes up with orders that the group has given to others meanwhile. With a reservation it finds that
out by itself. Without one it must not call for them, nor say that they failed or expired: the new owner may have an answer.
An answer within the deadline is published all the same; it is paid, and the new owner's can be no other ending.
"""

import asyncio

from heimdall_fleet.dispatch.ending.outcome import superseded_value
from heimdall_fleet.dispatch.room import Room
from heimdall_fleet.dispatch.run import Ending, Run
from heimdall_fleet.kafka.errors import NotOurs
from heimdall_fleet.outbound import audit_record
from heimdall_schemas.audit import State

_LOOK_AGAIN_S = 0.05


async def may_call(run: Run, room: Room) -> None:
    """Raises NotOurs when another member has the order."""
    if not await _ours(run, room):
        raise NotOurs(f"{run.request_id} is another worker's now: it is not called for here")


async def may_end(run: Run, ending: Ending, room: Room, partition: int) -> None:
    """Raises NotOurs when another member has the order and could end it otherwise; calls made here are audited first."""
    in_time = ending.state is State.ANSWERED and room.clock.mono_ms() < run.deadline_ms
    if in_time or await _ours(run, room):
        return
    if run.attempts:
        wasted = superseded_value(run, ending, room)
        place = partition % room.settings.audit_partitions
        await room.producer.send(audit_record(run.audit_id, wasted, place, room.topics))
    raise NotOurs(f"{run.request_id} is another worker's now: that it is {ending.state} is for the other to say")


async def _ours(run: Run, room: Room) -> bool:
    if run.record is None or (room.settings.shared_state and not run.state_down):
        return True
    while (held := room.holds(run.record)) is None:  # noqa: ASYNC110  # the group tells nobody when it has decided
        await asyncio.sleep(_LOOK_AGAIN_S)
    return held
