"""A consumer for work that is cheapest in micro-batches.

1. `next_batch` gives up to `max_records` records, as many as possible of the partition that waited longest, so that
   what they lead to can be sent in batches too.
2. The caller processes them and waits until everything they led to is confirmed. It may have many batches open.
   *Dies before the commit*: the next owner reads the records again.
3. `commit(batch)` marks them finished; a commit of everything finished so far follows at once, without waiting.
   Batches may be committed in any order: an older open one holds the position, and the map covers the younger one.
4. A batch whose partitions leave meanwhile is finished like any other; its lost part is not committed.
"""

import asyncio
import logging
from dataclasses import dataclass

from heimdall_fleet.kafka.driver.consuming import RawConsumer
from heimdall_fleet.kafka.facts import GroupFacts
from heimdall_fleet.kafka.group import Chunk, Group, Want
from heimdall_fleet.kafka.records import Batch
from heimdall_fleet.kafka.settings import MIB, BatchSettings, KafkaSettings

log = logging.getLogger(__name__)

_WAIT_S = 0.5
_MAX_BATCH_BYTES = MIB
"""Batches of large records are smaller, so that none holds the event loop, and others up, for long."""


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """For health and metrics."""

    group: GroupFacts
    open_batches: int
    finished: int
    """Records committed or about to be, since the start."""


def open_batches(kafka: KafkaSettings, settings: BatchSettings) -> "Batches":
    """A source of batches on a real cluster."""
    group = Group(
        lambda listener: RawConsumer(kafka, settings.group_id, settings.topics, listener),
        settings.commit_interval_s,
    )
    return Batches(group, settings)


class Batches:
    """The fleet's `records.Consumer`; see the module. `start`, then `next_batch` and `commit`, then `stop`."""

    def __init__(self, group: Group, settings: BatchSettings) -> None:
        self._group = group
        self._settings = settings
        self._stopping = False
        self._taking: asyncio.Task[list[Chunk]] | None = None
        self._open: dict[int, list[Chunk]] = {}
        self._changed = asyncio.Event()
        self._number = 0
        self._finished = 0

    def start(self) -> None:
        """Begin to tend the membership; the joining itself happens in `next_batch`."""
        self._group.start()

    async def next_batch(self) -> Batch | None:
        """The next batch, or None once `stop` was called. May be cancelled without losing records."""
        want = Want(self._settings.max_records, _MAX_BATCH_BYTES, spread=False)
        while not self._stopping:
            if len(self._open) >= self._settings.max_open_batches:
                await self._change()
                continue
            if chunks := await self._take(want):
                return self._hand_out(chunks)
        return None

    def commit(self, batch: Batch) -> None:
        """See `records.Consumer.commit`."""
        chunks = self._open.pop(batch.number, None)
        if chunks is None:
            raise ValueError(f"batch {batch.number} is not open: it was committed before")
        for tracker, records in chunks:
            for record in records:
                tracker.finish(record.offset)
        self._finished += len(batch.records)
        self._changed.set()
        self._group.commit_soon()

    async def stop(self, grace_s: float) -> None:
        """End `next_batch`, wait up to `grace_s` for open batches to be committed, commit and leave."""
        self._stopping = True
        if self._taking is not None:
            self._taking.cancel()
        self._changed.set()
        try:
            async with asyncio.timeout(grace_s):
                while self._open:
                    await self._change()
        except TimeoutError:
            log.warning("%d batches left open", len(self._open), extra={"action": "kafka_grace_over"})
        await self._group.close()

    def facts(self) -> BatchFacts:
        return BatchFacts(group=self._group.facts(), open_batches=len(self._open), finished=self._finished)

    async def _take(self, want: Want) -> list[Chunk]:
        if self._taking is None:
            await asyncio.sleep(0)  # a caller that never waits would keep commits and heartbeats from running
            if self._stopping:
                return []
            if self._group.has_records():
                return await self._group.take(want, 0.0)  # does not wait, so neither `stop` nor a cancel comes between
            self._taking = asyncio.ensure_future(self._group.take(want, _WAIT_S))
        await asyncio.wait({self._taking})
        taking, self._taking = self._taking, None
        return [] if taking.cancelled() else taking.result()

    def _hand_out(self, chunks: list[Chunk]) -> Batch:
        self._number += 1
        self._open[self._number] = chunks
        return Batch(self._number, tuple(record for chunk in chunks for record in chunk.records))

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
