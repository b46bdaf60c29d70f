"""The reservation of the paid call: of all workers that hold a copy of an order, one calls the provider."""

import asyncio

from heimdall_fleet.dispatch.failover import too_late
from heimdall_fleet.dispatch.room import Room
from heimdall_fleet.dispatch.run import Ending, Parked, Run
from heimdall_fleet.dispatch.stored import pack, unpack
from heimdall_fleet.state.base import Claim, ClaimKind, StateUnavailable

_STRICT = "strict"
_LOOK_AGAIN_MS = 10_000.0


class Park(Exception):
    """Nothing can be asked for longer than a handler may wait; the order shall rest on a retry topic."""

    def __init__(self, parked: Parked) -> None:
        super().__init__(parked.reason)
        self.parked = parked


async def reserve(run: Run, room: Room) -> Ending | None:
    """None: the call is ours. Else the end that another worker, or an earlier life of this one, has stored.

    Raises Park while another worker is at it for longer than a handler may wait. With the state down an order goes on
    unreserved and flagged, unless it said `dedup: strict`: then it rests.
    """
    claim = await _claim(run, room)
    while claim is not None and claim.kind is ClaimKind.HELD:
        await _wait(run, claim, room)
        claim = await _claim(run, room)
    if claim is None:
        if run.order.plan.dedup == _STRICT:
            raise Park(Parked(_LOOK_AGAIN_MS, "state_unavailable"))
        return None
    if claim.kind is ClaimKind.DONE:
        return unpack(claim.stored)
    run.repeated = run.repeated or claim.kind is ClaimKind.REPEATED
    return None


async def _wait(run: Run, claim: Claim, room: Room) -> None:
    """Look again soon, since the other worker may be done any moment. Raises Park, or Failure after the deadline."""
    left_ms = run.deadline_ms - room.clock.mono_ms()
    if left_ms <= 0:
        raise too_late()
    if run.waited_ms >= room.settings.wait_in_process_ms and left_ms > _LOOK_AGAIN_MS:
        raise Park(Parked(_LOOK_AGAIN_MS, "held_by_another_worker"))
    pause_ms = min(claim.wait_ms, room.settings.look_again_ms, left_ms)
    await asyncio.sleep(pause_ms / 1_000)
    run.waited_ms += pause_ms


async def extend(run: Run, room: Room) -> None:
    """Keep the reservation for one more attempt. Losing it is survived: of two ends the first one stored is the one."""
    if not run.state_down:
        await _claim(run, room)


async def store(run: Run, ending: Ending, room: Room) -> Ending:
    """Keep the end for other copies of the order. What an earlier worker stored stays, and is returned instead."""
    packed = pack(ending)
    try:
        kept = await room.state.finish_call(run.request_id, packed, room.settings.keep_reply_ms)
    except StateUnavailable:
        run.state_down = True
        return ending
    return ending if kept == packed else unpack(kept)


async def release(run: Run, room: Room) -> None:
    """Let another worker take the order, which rests now. Without the state the lease runs out by itself."""
    try:
        await room.state.release_call(run.request_id, room.settings.worker)
    except StateUnavailable:
        run.state_down = True


async def _claim(run: Run, room: Room) -> Claim | None:
    left_ms = max(0.0, run.deadline_ms - room.clock.mono_ms())
    lease_ms = int(min(left_ms, room.settings.longest_call_ms)) + room.settings.lease_margin_ms
    try:
        return await room.state.claim_call(run.request_id, room.settings.worker, lease_ms)
    except StateUnavailable:
        run.state_down = True
        return None
