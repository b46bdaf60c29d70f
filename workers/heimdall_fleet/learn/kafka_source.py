"""Audit and feedback from Kafka: any range by time or offset, and what the topics no longer have."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from heimdall_fleet.kafka.driver.reading import PartitionReader
from heimdall_fleet.kafka.records import Partition, Record
from heimdall_fleet.kafka.settings import KafkaSettings
from heimdall_fleet.learn.sources import Chunk

PATIENCE_S = 15.0


@dataclass(frozen=True, slots=True)
class Range:
    """Where to begin and to end: offsets go before times. Nothing given: everything that is there now."""

    since_ms: int | None = None
    until_ms: int | None = None
    offsets: Mapping[Partition, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Part:
    """One partition's way through its range."""

    start: int
    end: int
    next: int
    records: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)

    def move(self, offset: int) -> None:
        if offset > self.next:
            self.gaps.append((self.next, offset - 1))
        self.next = offset + 1
        self.records += 1


@dataclass(slots=True)
class KafkaSource:
    """The topics of one fleet, read without a group: it disturbs nobody, and nobody disturbs it.

    Raises UnknownTopic, BrokerUnavailable.
    """

    kafka: KafkaSettings
    topics: Sequence[str]
    span: Range
    _parts: dict[Partition, _Part] = field(default_factory=dict)

    async def chunks(self) -> AsyncIterator[Chunk]:
        reader = PartitionReader(self.kafka, PATIENCE_S)
        try:
            await reader.start()
            await self._aim(reader)
            wanted = sum(part.end - part.start for part in self._parts.values()) or 1
            while any(part.next < part.end for part in self._parts.values()):
                records = self._ours(await reader.read())
                left = sum(max(0, part.end - part.next) for part in self._parts.values())
                yield Chunk([record.value for record in records], _places(records), 1 - left / wanted)
                if not records:
                    await self._pass_over(reader)
        finally:
            await reader.stop()

    def position(self) -> dict[str, Any]:
        return {f"{topic}:{number}": part.next for (topic, number), part in self._parts.items()}

    def ranges(self) -> list[dict[str, Any]]:
        return [_range(partition, part) for partition, part in sorted(self._parts.items())]

    async def _aim(self, reader: PartitionReader) -> None:
        """Find both ends of every partition. A beginning that the topic no longer has is a gap."""
        partitions = [each for topic in self.topics for each in await reader.partitions(topic)]
        ends = await reader.ends(partitions)
        oldest = await reader.beginnings(partitions)
        since = {} if self.span.since_ms is None else await reader.at_time(self.span.since_ms)
        until = {} if self.span.until_ms is None else await reader.at_time(self.span.until_ms)
        for each in partitions:
            stop = until.get(each)
            end = ends[each] if stop is None else stop
            start = oldest[each]
            if each in since:
                hit = since[each]
                start = end if hit is None else hit
            start = self.span.offsets.get(each, start)
            part = _Part(start, end, start)
            if start < oldest[each]:
                part.gaps.append((start, oldest[each] - 1))
                part.start = part.next = oldest[each]
            self._parts[each] = part
        await reader.seek({each: part.start for each, part in self._parts.items()})

    def _ours(self, records: Sequence[Record]) -> list[Record]:
        kept = []
        for record in records:
            part = self._parts[record.topic, record.partition]
            if part.next <= record.offset < part.end:
                part.move(record.offset)
                kept.append(record)
            elif record.offset >= part.end:
                part.next = part.end
        return kept

    async def _pass_over(self, reader: PartitionReader) -> None:
        """Offsets that hold no record (compacted away, or marks of a transaction) end a range too."""
        for partition, part in self._parts.items():
            if part.next < part.end:
                part.next = max(part.next, min(part.end, await reader.position(partition)))


def _places(records: Sequence[Record]) -> Any:
    def place(number: int) -> str:
        record = records[number]
        return f"{record.topic} partition {record.partition} offset {record.offset}"

    return place


def _range(partition: Partition, part: _Part) -> dict[str, Any]:
    told: dict[str, Any] = {
        "source": f"{partition[0]}:{partition[1]}",
        "from": part.start,
        "to": part.next,
        "records": part.records,
    }
    if part.gaps:
        told["missing"] = [list(gap) for gap in part.gaps]
    return told
