"""The reservation of the paid call: of all workers that hold a copy of an order, one calls the provider.

An idempotency key is a second reservation, shared by all requests of a tenant that carry it. The request's own one
comes first: a copy of the same request is told apart from another request with the same key.
"""

import asyncio
import hashlib

import orjson

from heimdall_fleet.dispatch.capacity.pool import Ticket
from heimdall_fleet.dispatch.ending.endings import copied
from heimdall_fleet.dispatch.ending.no_answer import too_late
from heimdall_fleet.dispatch.ending.stored import pack, unpack
from heimdall_fleet.dispatch.leases import Hold
from heimdall_fleet.dispatch.room import Room
from heimdall_fleet.dispatch.run import Ending, Parked, Run
from heimdall_fleet.dispatch.settle import begun_by, named_records
from heimdall_fleet.dispatch.tenure import may_call
from heimdall_fleet.state.base import Claim, ClaimKind, StateUnavailable
from heimdall_schemas.audit import State
from heimdall_schemas.failure import Failure, FailureCode

_STRICT = "strict"
_LOOK_AGAIN_MS = 10_000.0
_OURS = (ClaimKind.OURS, ClaimKind.REPEATED)


class Park(Exception):
    """Nothing can be asked for longer than a handler may wait; the order shall rest on a retry topic."""

    def __init__(self, parked: Parked) -> None:
        super().__init__(parked.reason)
        self.parked = parked


async def reserve(run: Run, room: Room) -> Ending | None:
    """None: the call is ours. Else the end that is stored: by another worker, an earlier life, or for the same key.

    Raises Park while another worker is at it for longer than a handler may wait, and Failure `caller_bad_request` for
    an idempotency key that came with another body. With the state down an order goes on unreserved and flagged, unless
    it said `dedup: strict`: then it rests.
    """
    claim = await _claim(run, (run.call_id, room.leases.holder), "", room)
    if claim is None:
        return None
    if claim.kind is ClaimKind.DONE:
        return unpack(claim.stored)
    return None if run.order.plan.idempotency_key is None else await _reserve_key(run, room)


async def _reserve_key(run: Run, room: Room) -> Ending | None:
    claim = await _claim(run, (key_id(run), run.request_id), fingerprint(run), room)
    if claim is None:
        return None
    if claim.kind is ClaimKind.OTHER_BODY:
        key = (run.order.plan.idempotency_key or "")[:100]
        raise Failure(
            FailureCode.CALLER_BAD_REQUEST,
            f"heimdall.idempotency_key {key!r} came with another body before; one key stands for one request, "
            "take a new key for a new one",
            param="heimdall.idempotency_key",
        )
    if claim.kind is ClaimKind.DONE:
        return copied(run, unpack(claim.stored), room)
    return None


async def _claim(run: Run, hold: Hold, body: str, room: Room) -> Claim | None:
    """The claim once nobody else holds it; None with the state down. What is ours is renewed from here on."""
    call_id, holder = hold
    while True:
        try:
            claim = await room.state.claim_call(call_id, holder, room.settings.lease_ms, body)
        except StateUnavailable:
            _go_on_unreserved(run, room)
            return None
        if claim.kind is not ClaimKind.HELD:
            break
        await _wait(run, claim, room)
    if claim.kind in _OURS:
        room.leases.keep(run.request_id, hold)
        if claim.begun:
            _take_up(run, claim.begun, room)
    return claim


def _take_up(run: Run, begun: bytes, room: Room) -> None:
    """Go on where a lost worker, or a lost life of this one, was: its calls count as attempts, and are told."""
    run.repeated = True
    own = {record["call"] for record in named_records(run, room)}
    run.earlier = [record for record in orjson.loads(begun) if record.get("call") not in own]


def _go_on_unreserved(run: Run, room: Room) -> None:
    """The state is down. Raises Park for an order that would rather wait than risk a second call."""
    run.state_down = True
    if run.order.plan.dedup == _STRICT and room.clock.mono_ms() < run.deadline_ms:
        raise Park(Parked(_LOOK_AGAIN_MS, "state_unavailable"))


async def announce(ticket: Ticket, run: Run, room: Room) -> Ending | None:
    """Right before a call: write it into the reservation, so that the audit has it whatever becomes of this worker.

    None: call now. Else the end that another worker brought the order to, which had taken it over; the place is given
    back. So it is when this raises: Park, NotOurs, or Failure `policy_expired` since the deadline passed on the way here.
    """
    run.under_way[ticket.number] = ticket
    known, going = None, False
    try:
        await may_call(run, room)
        while known is None and not await _still_ours(run, room):
            known = await reserve(run, room)
        if known is None and room.clock.mono_ms() >= run.deadline_ms:
            raise too_late()
        going = known is None
    finally:
        if not going:
            del run.under_way[ticket.number]
            room.pool.put_back(ticket, room.clock.mono_ms())
            room.turnstile.wake(ticket.route.provider)
    return known


async def _still_ours(run: Run, room: Room) -> bool:
    try:
        return await room.state.begin_call(run.call_id, room.leases.holder, begun_by(run, room), room.settings.lease_ms)
    except StateUnavailable:
        _go_on_unreserved(run, room)
        return True


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


async def store(run: Run, ending: Ending, room: Room) -> Ending:
    """Keep the end for other copies of the order. What an earlier worker stored stays, and is returned instead.

    Under an idempotency key only an answer is kept: after a failure the next request with the key tries anew. The key
    comes first, so that a crash in between leaves the answer to whoever has either.
    """
    packed = pack(ending)
    try:
        for call_id, holder in room.leases.of(run.request_id):
            if call_id == run.call_id:
                continue
            if ending.state is State.ANSWERED:
                await room.state.finish_call(call_id, packed, room.settings.keep_key_ms)
            else:
                await room.state.release_call(call_id, holder)
        kept = await room.state.finish_call(run.call_id, packed, room.settings.keep_reply_ms)
    except StateUnavailable:
        run.state_down = True
        return ending
    return ending if kept == packed else unpack(kept)


async def release(run: Run, room: Room) -> None:
    """Let another worker take the order, which rests now. Without the state the lease runs out by itself."""
    try:
        for call_id, holder in room.leases.let_go(run.request_id):
            await room.state.release_call(call_id, holder)
    except StateUnavailable:
        run.state_down = True


def key_id(run: Run) -> str:
    """The name of an idempotency key in the shared state: of fixed length, and a tenant's own."""
    plan = run.order.plan
    return "key/" + hashlib.sha256(orjson.dumps([plan.tenant, plan.idempotency_key])).hexdigest()


def fingerprint(run: Run) -> str:
    """What is asked, whatever the order of the members and the options of the fleet."""
    asked = {name: value for name, value in run.body.items() if name != "heimdall"}
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()
