"""What waits for one partition: a queue whose front may be under way. No I/O and no clock.

An entry leaves the queue only when its records are confirmed, refused or given up, so a batch that was lost with its
producer needs no bookkeeping: the next batch is simply made from the front again.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from heimdall_fleet.kafka.driver.producing import RawBatch
from heimdall_fleet.kafka.errors import DeliveryRefused, DeliveryUnknown
from heimdall_fleet.kafka.records import Outgoing

MAX_ATTEMPTS = 8
"""Batches an entry may be part of. A fresh producer nearly always succeeds; the bound ends what we do not foresee."""


@dataclass(eq=False, slots=True)
class Entry:
    """Records sent by one call, for one partition."""

    records: Sequence[Outgoing]
    partition: int | None
    size_bytes: int
    sent_at: float
    done: "asyncio.Future[int]"
    cursor: int = 0
    """The first record neither confirmed nor refused."""
    attempts: int = 0
    refused: tuple[Outgoing, ...] = ()

    def settle(self, offset: int) -> None:
        """Everything was sent; `offset` is the last record's."""
        if self.done.done():
            return
        if self.refused:
            self.done.set_exception(
                DeliveryRefused(f"{len(self.refused)} of {len(self.records)} records were refused", self.refused)
            )
        else:
            self.done.set_result(offset)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


Flight: TypeAlias = tuple[tuple[Entry, int], ...]
"""One batch under way: each entry in it, with the index after its last record in it."""


@dataclass(slots=True)
class Tally:
    """What all lanes of a producer hold together. Whoever takes an entry in adds to it; the lane takes off."""

    size_bytes: int = 0


@dataclass(eq=False, slots=True)
class Lane:
    """The queue of one partition."""

    topic: str
    partition: int
    tally: Tally
    linger_s: float = 0.0
    queue: deque[Entry] = field(default_factory=deque)
    queued_bytes: int = 0
    """Of all that is in the queue."""
    flight: Flight | None = None
    alone: int = 0
    """Make that many batches of one record, to find the one that the broker refuses."""

    @property
    def idle(self) -> bool:
        return self.flight is None and bool(self.queue)

    def add(self, entry: Entry) -> None:
        """Put an entry, which the tally knows of, at the end of the queue."""
        self.queue.append(entry)
        self.queued_bytes += entry.size_bytes

    def load(self, batch: RawBatch) -> Flight | None:
        """Fill `batch` from the front of the queue and count it as under way; None if there is nothing to send."""
        parts: list[tuple[Entry, int]] = []
        for entry in self.queue:
            if entry.done.done():
                continue
            count = len(entry.records)
            stop = batch.extend(entry.records, entry.cursor, entry.cursor + 1 if self.alone else count)
            if stop > entry.cursor:
                parts.append((entry, stop))
            if stop < count or self.alone:
                break
        self.flight = tuple(parts) or None
        return self.flight

    def confirm(self, flight: Flight, base_offset: int) -> None:
        """The broker has the batch; its first record got `base_offset` (-1: it no longer knows)."""
        offset = base_offset - 1
        for entry, stop in flight:
            offset = -1 if base_offset < 0 else offset + stop - entry.cursor
            entry.cursor = stop
            if stop == len(entry.records):
                entry.settle(offset)
        if self.alone:
            self.alone -= 1
        self._land()

    def refuse(self, flight: Flight) -> int:
        """The broker refused something in the batch: that record if it was alone, else find out which.

        Returns how many records were given up.
        """
        records = sum(stop - entry.cursor for entry, stop in flight)
        if records > 1:
            self.alone = records
            self._land()
            return 0
        entry, stop = flight[0]
        entry.refused = (*entry.refused, entry.records[entry.cursor])
        entry.cursor = stop
        if stop == len(entry.records):
            entry.settle(-1)
        self.alone = max(0, self.alone - 1)
        self._land()
        return 1

    def lose(self, flight: Flight, cause: BaseException) -> None:
        """The producer was lost with the batch: send it again, unless that was tried too often."""
        for entry, _ in flight:
            entry.attempts += 1
            if entry.attempts >= MAX_ATTEMPTS:
                entry.fail(DeliveryUnknown(f"gave up after {entry.attempts} attempts on {self.topic}: {cause!r}"))
        self._land()

    def expire(self, sent_before: float) -> int:
        """Give up what was sent before that time; returns how many entries."""
        expired = 0
        for entry in self.queue:
            if entry.sent_at >= sent_before:
                break
            if not entry.done.done():
                expired += 1
                entry.fail(DeliveryUnknown(f"{self.topic}-{self.partition} did not confirm the record in time"))
        self._drop_settled()
        return expired

    def _land(self) -> None:
        self.flight = None
        self._drop_settled()

    def _drop_settled(self) -> None:
        queue = self.queue
        while queue and queue[0].done.done():
            size_bytes = queue.popleft().size_bytes
            self.queued_bytes -= size_bytes
            self.tally.size_bytes -= size_bytes
