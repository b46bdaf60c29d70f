"""A consumer for handlers that take seconds, hundreds of them at once.

The contract with the handler:

1. The intake hands it a record and goes on reading; handlers never wait for each other.
2. It returns when the record has reached its end, which means: everything it published is confirmed. Only then may the
   record's offset be committed.
   *Dies before it returns*: another worker gets the record; what was published already is there twice.
3. If it raises, the record is kept: not committed, and handed to it again after a growing pause. Raising is for
   outages and bugs; a record that cannot be processed is finished by publishing that fact.
4. If it runs longer than the deadline it is cancelled, which counts as raising. A handler that ignores the
   cancellation goes on and holds its slot; nothing else waits for it, and commits go on around it.
5. If the record's partition leaves this worker, the handler runs on and publishes, but the offset is not committed
   and the record is not handed out again here; its new owner has it.
6. On stop no record is handed out any more, running handlers get the grace to return, the others are cancelled, the
   finished offsets are committed. What was cancelled is read again by the next owner.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from heimdall_fleet.kafka.driver.consuming import RawConsumer
from heimdall_fleet.kafka.facts import IntakeFacts
from heimdall_fleet.kafka.group import Group, Want
from heimdall_fleet.kafka.offsets import OffsetTracker
from heimdall_fleet.kafka.records import Handler, Record
from heimdall_fleet.kafka.settings import IntakeSettings, KafkaSettings
from heimdall_fleet.timelimit import TimeLimits

log = logging.getLogger(__name__)

_WAIT_S = 0.5
_GATHER_S = 0.005
_MAX_PAUSE_S = 60.0
_CANCEL_GRACE_S = 2.0


def open_intake(kafka: KafkaSettings, settings: IntakeSettings, handler: Handler) -> "Intake":
    """An intake on a real cluster."""
    group = Group(
        lambda listener: RawConsumer(kafka, settings.group_id, settings.topics, listener),
        settings.commit_interval_s,
    )
    return Intake(group, settings, handler)


class Intake:
    """`await intake.run()` until `intake.stop()`; see the module for what the handler must know."""

    def __init__(
        self,
        group: Group,
        settings: IntakeSettings,
        handler: Handler,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._group = group
        self._settings = settings
        self._handler = handler
        self._clock = clock
        self._stopping = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self._room = asyncio.Event()
        self._tasks: dict[asyncio.Task[None], float] = {}
        self._deadlines = TimeLimits()
        self._in_flight_bytes = 0
        self._failing = 0
        self._finished = 0
        self._failures = 0

    async def run(self) -> None:
        """Read and handle until `stop`; returns after at most the grace and a few seconds."""
        self._group.start()
        reading = asyncio.ensure_future(self._read())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reading, stopping):
                task.cancel()
            await asyncio.wait({reading, stopping})
            self._stopping.set()
            await self._drain()
            await self._group.close()
        if not reading.cancelled():
            reading.result()

    def stop(self) -> None:
        self._stopping.set()

    def pause(self) -> None:
        """Hand out nothing more until `resume`; membership, commits and running handlers go on."""
        self._open.clear()

    def resume(self) -> None:
        self._open.set()

    def holds(self, record: Record) -> bool | None:
        """Whether a record that a handler has is still ours to finish; None while nobody can say."""
        return self._group.holds((record.topic, record.partition), record.offset)

    def facts(self) -> IntakeFacts:
        now = self._clock()
        return IntakeFacts(
            group=self._group.facts(),
            in_flight=len(self._tasks),
            in_flight_bytes=self._in_flight_bytes,
            oldest_in_flight_s=now - min(self._tasks.values(), default=now),
            failing=self._failing,
            finished=self._finished,
            failures=self._failures,
            paused=not self._open.is_set(),
        )

    async def _read(self) -> None:
        while True:
            await self._open.wait()
            want = Want(
                self._settings.max_in_flight - len(self._tasks),
                self._settings.max_in_flight_bytes - self._in_flight_bytes,
                spread=True,
            )
            if want.records <= 0 or want.size_bytes <= 0:
                self._room.clear()
                await self._room.wait()
                # Several handlers end within a few milliseconds; looking for one record costs as much as for ten.
                await asyncio.sleep(_GATHER_S)
                continue
            for chunk in await self._group.take(want, _WAIT_S):
                for record in chunk.records:
                    self._begin(record, chunk.tracker)

    def _begin(self, record: Record, tracker: OffsetTracker) -> None:
        size_bytes = record.size_bytes()
        self._in_flight_bytes += size_bytes
        task = self._deadlines.loop.create_task(self._handle(record, tracker, size_bytes))
        self._tasks[task] = self._clock()

    async def _handle(self, record: Record, tracker: OffsetTracker, size_bytes: int) -> None:
        try:
            if await self._try(record) or await self._try_again(record, tracker):
                tracker.finish(record.offset)
                self._finished += 1
        finally:
            task = asyncio.current_task(self._deadlines.loop)
            assert task is not None
            del self._tasks[task]
            self._in_flight_bytes -= size_bytes
            tracker.release(record.offset)
            self._room.set()

    async def _try_again(self, record: Record, tracker: OffsetTracker) -> bool:
        """Until it is done; False when it is given up, because the record is somebody else's or we stop."""
        pause_s = self._settings.retry_backoff_s
        self._failing += 1
        try:
            while self._worth_retrying(record, tracker):
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _MAX_PAUSE_S)
                if self._worth_retrying(record, tracker) and await self._try(record):
                    return True
            return False
        finally:
            self._failing -= 1

    def _worth_retrying(self, record: Record, tracker: OffsetTracker) -> bool:
        return not self._stopping.is_set() and self._group.owns((record.topic, record.partition), tracker)

    async def _try(self, record: Record) -> bool:
        deadline_s = self._settings.handler_deadline_s
        limit = self._deadlines.within(deadline_s)
        try:
            with limit:
                await self._handler(record)
        except Exception:  # the outermost loop: it logs, counts and keeps the record
            self._failures += 1
            log.exception(
                "handler failed on %s-%d at %d%s",
                record.topic,
                record.partition,
                record.offset,
                f": no end after {deadline_s:.0f} s" if limit.over else "",
                extra={"action": "kafka_handler_failed"},
            )
            return False
        return True

    async def _drain(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._settings.grace_s)
        if self._tasks:
            log.warning(
                "%d handlers did not end within the grace", len(self._tasks), extra={"action": "kafka_grace_over"}
            )
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=_CANCEL_GRACE_S)
