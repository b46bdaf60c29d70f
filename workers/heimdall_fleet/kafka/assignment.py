"""What a member of a group was assigned: a tracker for each partition, what is committed, and the only place that commits.

A commit is tried once, under the generation it was made for. One that fails is followed by the next, which covers it.
Before the first commit of a partition under an assignment its position is read once more: a broker that stood still was
seen to tell an older one than it had acknowledged, and committing from there would move the group back.
"""

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping

from heimdall_fleet.kafka.driver.consuming import RawConsuming
from heimdall_fleet.kafka.errors import KafkaFailure
from heimdall_fleet.kafka.offsets import Checkpoint, OffsetTracker, decode_finished
from heimdall_fleet.kafka.records import Partition
from heimdall_fleet.kafka.settings import COMMIT_TIMEOUT_S

log = logging.getLogger(__name__)


class Assignment:
    """The partitions of one member. Trackers outlive the assignment for as long as something of theirs is running."""

    def __init__(self) -> None:
        self.partitions: frozenset[Partition] = frozenset()
        self.loaded: set[Partition] = set()
        """Those whose committed position is known: only these are read and committed."""
        self.trackers: dict[Partition, OffsetTracker] = {}
        self.commits = 0
        self.commits_failed = 0
        self._committed: dict[Partition, Checkpoint] = {}
        self._believed: set[Partition] = set()

    def owns(self, partition: Partition, tracker: OffsetTracker) -> bool:
        """Whether the partition is still ours, and still the log that `tracker` knows."""
        return partition in self.partitions and self.trackers.get(partition) is tracker

    def may_read(self, partition: Partition) -> bool:
        """Whether records of it may be handed out now."""
        return partition in self.loaded and not self.trackers[partition].overflowing

    def replace(self, partitions: frozenset[Partition]) -> None:
        """The group has assigned these; what is committed for them is not known yet."""
        self.partitions = partitions
        self.loaded.clear()
        self._committed.clear()
        self._believed.clear()
        for partition in [p for p, t in self.trackers.items() if p not in partitions and not t.running]:
            del self.trackers[partition]
        for partition in partitions:
            self.trackers.setdefault(partition, OffsetTracker())

    def lose(self) -> None:
        """Not a member any more."""
        self.partitions = frozenset()
        self.loaded.clear()

    def adopt(self, committed: Mapping[Partition, Checkpoint], partitions: Iterable[Partition]) -> None:
        """Take over what the group has committed for these; one without a commit begins where the log does."""
        for partition in partitions:
            checkpoint = committed.get(partition)
            if checkpoint is not None and checkpoint.position >= 0:
                self.trackers[partition].adopt(checkpoint.position, decode_finished(*checkpoint))
                self._committed[partition] = checkpoint
            self.loaded.add(partition)

    def begin_anew(self, partition: Partition) -> OffsetTracker:
        """The log of the partition was replaced: what was finished or committed was another log's."""
        tracker = self.trackers[partition] = OffsetTracker()
        self._committed.pop(partition, None)
        self._believed.add(partition)
        return tracker

    async def commit(self, consumer: RawConsuming) -> None:
        """Commit every partition whose checkpoint changed; one that fails is covered by the next."""
        changed = self._changed(self.loaded)
        if not changed:
            return
        trackers = {partition: self.trackers[partition] for partition in changed}
        try:
            if doubtful := changed.keys() - self._believed:
                adopted = await self._read_again(consumer, doubtful)
                changed = {p: changed[p] for p in changed.keys() - adopted} | self._changed(adopted)
            await consumer.commit(changed, COMMIT_TIMEOUT_S)
        except (KafkaFailure, asyncio.CancelledError) as error:
            for tracker in trackers.values():
                tracker.dirty = True
            self.commits_failed += 1
            log.warning("commit failed: %r", error, extra={"action": "kafka_commit_failed"})
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        for partition, checkpoint in changed.items():  # without those that another member had committed meanwhile
            trackers[partition].confirm(checkpoint.position)
        self._committed.update(changed)
        self.commits += 1

    def _changed(self, partitions: Iterable[Partition]) -> dict[Partition, Checkpoint]:
        """What there is to commit of these partitions."""
        changed: dict[Partition, Checkpoint] = {}
        for partition in partitions:
            tracker = self.trackers[partition]
            if tracker.dirty:
                checkpoint = tracker.checkpoint()
                tracker.dirty = False
                if checkpoint is not None and checkpoint != self._committed.get(partition):
                    changed[partition] = checkpoint
        return changed

    async def _read_again(self, consumer: RawConsuming, doubtful: Collection[Partition]) -> set[Partition]:
        """Adopt what the group has committed where that is not what we were told when the partitions became ours."""
        told = await consumer.committed(doubtful, COMMIT_TIMEOUT_S)
        adopted = {p for p in doubtful if told.get(p) != self._committed.get(p)}
        for partition in adopted:
            log.warning("%s-%d has another position than was told", *partition, extra={"action": "kafka_told_late"})
        self.adopt(told, adopted)
        self._believed.update(doubtful)
        return adopted
