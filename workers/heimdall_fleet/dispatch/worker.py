"""The handler of the dispatch topics: record → order → join → pipeline → published, or rested, or buried.

Its contract with the intake: it returns when everything the record led to is confirmed by the broker, and raises to
keep the record, which is then handed to it again after a pause. It raises when Kafka does not confirm, and when the
fleet itself fails; in the latter case, when a record fails time after time while others succeed, it is dead-lettered.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson
from pydantic import ValidationError

from heimdall_fleet.dispatch.cancel import Cancellations
from heimdall_fleet.dispatch.ending.endings import dead_lettered, failed
from heimdall_fleet.dispatch.ending.no_answer import too_late
from heimdall_fleet.dispatch.ending.publish import publish_reply
from heimdall_fleet.dispatch.ending.unreadable import nameless_order
from heimdall_fleet.dispatch.inflight import InFlight
from heimdall_fleet.dispatch.letters import times_redriven
from heimdall_fleet.dispatch.outage import Outage
from heimdall_fleet.dispatch.pipeline import conclude, dispatch
from heimdall_fleet.dispatch.retry import earlier_attempts, resting, step_for
from heimdall_fleet.dispatch.room import Room
from heimdall_fleet.dispatch.run import Ending, Parked, Run, begin
from heimdall_fleet.dispatch.shadow.draw import unstreamed
from heimdall_fleet.dispatch.shadow.work import answer_shadow, send_shadow
from heimdall_fleet.dlq import Undertaker, refuse_damaged
from heimdall_fleet.kafka.errors import KafkaFailure
from heimdall_fleet.kafka.records import Record
from heimdall_fleet.timelimit import TimeLimits
from heimdall_schemas import headers as h
from heimdall_schemas.audit import State
from heimdall_schemas.codec import DEFAULT_LIMITS, Limits, decode
from heimdall_schemas.control import Cancel
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.faults import faults_of
from heimdall_schemas.order import read_order

log = logging.getLogger(__name__)

_NOT_THEIR_FAULT = ("caller_", "policy_")


@dataclass(slots=True)
class DispatchWorker:
    """Answers orders. `handle` is given to the intake of the dispatch topics, `cancel` to the reader of cancel."""

    room: Room
    undertaker: Undertaker
    limits: Limits = DEFAULT_LIMITS
    outage: Outage = field(default_factory=Outage)
    inflight: InFlight = field(default_factory=InFlight)
    _hard_deadlines: TimeLimits = field(default_factory=TimeLimits)

    def accepts(self) -> bool:
        """False while nearly everything fails: the intake shall pause until this is true again."""
        return self.outage.accepts(self.room.clock.mono_ms())

    async def handle(self, record: Record) -> None:
        """Bring one order to its end. Raises to have it kept."""
        try:
            run = self._read(record)
        except Failure as failure:
            await self.refuse(record, failure)
            return
        try:
            await self._answer(record, run)
        except KafkaFailure:
            raise
        except Exception as error:  # a bug of ours must not take the order's asker or its neighbours with it
            self.room.telemetry.bug(run.request_id, error)
            if run.order.shadow is not None:
                await self._give_up(record, run, error)
                return
            if not self.outage.failed(run.request_id, self.room.clock.mono_ms()):
                raise
            await self._bury(record, run, _internal(error))
        else:
            self.outage.forget(run.request_id)

    async def refuse(self, record: Record, failure: Failure) -> None:
        """The end of a record that is no order: its asker, if the headers name one, is told, and it is dead-lettered."""
        order = nameless_order(record, self.room.topics.replies)
        await self._bury(record, begin(order, {}, self.room.clock.unix_ms(), self.room.clock.mono_ms()), failure)

    def cancel(self, value: bytes | None) -> bool:
        """A record of the cancel topic; true when it stopped an order that was running here."""
        return read_cancel(value, self.room.cancels, self.room.clock.mono_ms())

    def _read(self, record: Record) -> Run:
        refuse_damaged(record)
        clock, headers = self.room.clock, h.last(record.headers)
        order = read_order(record.value, headers)
        body: Mapping[str, Any] = decode(order.body, self.limits)
        if order.shadow is not None:
            body = unstreamed(body)
        run = begin(order, body, clock.unix_ms(), clock.mono_ms(), times_redriven(headers))
        run.earlier = earlier_attempts(headers)
        run.record = record
        return run

    async def _answer(self, record: Record, run: Run) -> None:
        address = run.order.address
        result = await self.inflight.once(run.call_id, address, partial(self._dispatch, record, run))
        if isinstance(result, Parked):
            return
        if result.address != address:
            run.chunks = _chunks_of(result.ending)
            await publish_reply(run, result.ending, self.room)
        elif run.ending is not None and self.room.settings.shadow.share:
            await send_shadow(run, result.ending, self.room, record.partition)

    async def _dispatch(self, record: Record, run: Run) -> Ending | Parked:
        left_ms = max(0.0, run.deadline_ms - self.room.clock.mono_ms())
        try:
            with self._hard_deadlines.within((left_ms + self.room.settings.grace_ms) / 1_000) as limit:
                work = dispatch if run.order.shadow is None else answer_shadow
                result = await work(run, self.room, record.partition)
        except TimeoutError:
            if not limit.over:
                raise
            ending = run.ending or failed(run, too_late(), self.room)
            result = await conclude(run, ending, self.room, record.partition)
        finally:
            self.room.leases.let_go(run.request_id)
        if isinstance(result, Parked):
            await self._rest(record, run, result)
        else:
            self._note(run, result)
        return result

    async def _rest(self, record: Record, run: Run, parked: Parked) -> None:
        now_ms = self.room.clock.mono_ms()
        delay = step_for(parked.delay_ms, run.deadline_ms - now_ms)
        await self.room.producer.send(resting(record, run, delay, self.room.topics, self.room.clock.unix_ms()))
        self.room.telemetry.parked(run, parked, delay.value)
        if parked.reason == "no_capacity" and run.order.shadow is None:
            self.outage.ended(False, now_ms)

    def _note(self, run: Run, ending: Ending) -> None:
        if run.order.shadow is not None:
            short = ending.failure is not None and ending.failure.code is FailureCode.POLICY_BUDGET
            self.room.telemetry.shadowed(run.order.plan.steps[0].model, "over_budget" if short else ending.state.value)
            return
        now_ms = self.room.clock.mono_ms()
        ours = ending.failure is None or ending.failure.code.value.startswith(_NOT_THEIR_FAULT)
        self.outage.ended(ours, now_ms)
        self.room.telemetry.ended(run, ending, self.room.clock.unix_ms() - run.order.plan.received_ms)

    async def _give_up(self, record: Record, run: Run, error: Exception) -> None:
        """A shadow that the fleet fails on is not tried again and is no dead letter: nobody waits for it."""
        ending = failed(run, _internal(error), self.room)
        self._note(run, await conclude(run, ending, self.room, record.partition))

    async def _bury(self, record: Record, run: Run, failure: Failure) -> None:
        """Reply, outcome, dead letter: each acknowledged, then the record is done."""
        room = self.room
        ending = await conclude(run, dead_lettered(run, failure, room), room, record.partition)
        if ending.state is State.DEAD_LETTERED:
            now_ms = room.clock.unix_ms()
            await room.producer.send(self.undertaker.letter(record, failure, run.request_id, now_ms=now_ms))
            room.telemetry.dead_lettered(run.request_id, failure)


def read_cancel(value: bytes | None, cancels: Cancellations, now_ms: float) -> bool:
    """Note the cancellation in a record; a tombstone or what cannot be read cancels nothing."""
    if not value:
        return False
    try:
        request_id = Cancel.model_validate_json(value).request_id
    except ValidationError as error:
        log.warning(
            'a cancellation is passed over: %s; send {"request_id": "..."}',
            faults_of(error).text,
            extra={"action": "cancel_unreadable"},
        )
        return False
    return cancels.add(request_id, now_ms)


def _internal(error: Exception) -> Failure:
    if isinstance(error, Failure):
        return error
    failure = Failure(
        FailureCode.HEIMDALL_INTERNAL, f"a bug of the fleet: {type(error).__name__}; see its log for the request id"
    )
    failure.__cause__ = error
    return failure


def _chunks_of(ending: Ending) -> int:
    sequence = orjson.loads(ending.reply).get("heimdall", {}).get("sequence", 0)
    return sequence if isinstance(sequence, int) else 0
