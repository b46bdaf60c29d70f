"""Which offsets of one partition are finished, when they finish out of order.

State: the next offset to hand out, the offsets handed out and not finished, and ranges that a former owner of the
partition finished ahead of us. Everything below `next` that is not unfinished is finished, or a hole in the log, so
nothing has to be stored for it. The position to commit is the lowest unfinished offset, else `next`; never "the
contiguous acknowledged ones", because logs have holes.

The finished offsets above the position travel in the commit's metadata as run lengths that start at the position and
alternate unfinished, finished: position 10 with ``h1:1,3,2,1`` says 10 unfinished, 11–13 finished, 14–15
unfinished, 16 finished, everything above unfinished.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

MAP_LIMIT_UTF16 = 3500
"""Longest map we write. The broker refuses a commit whose metadata is above 4096 UTF-16 units; the map is ASCII, so
its length is its units."""

_VERSION = "h1:"

Range: TypeAlias = tuple[int, int]
"""Half-open: first offset, first offset after it."""


class Checkpoint(NamedTuple):
    """What is committed for a partition."""

    position: int
    metadata: str


class OffsetTracker:
    """The offsets of one partition; knows nothing about Kafka and does no I/O."""

    __slots__ = ("_ahead", "_floor", "_read_up_to_ms", "_released", "_running", "dirty", "next", "overflowing")

    def __init__(self) -> None:
        self.next: int | None = None
        """First offset never handed out; None until the partition's position is known."""
        self.overflowing = False
        """The last checkpoint could not hold the whole map: hand out nothing more until it shrinks."""
        self.dirty = False
        """Something finished since the last checkpoint was confirmed."""
        self._running: dict[int, None] = {}
        self._released: set[int] = set()
        self._ahead: list[Range] = []
        self._floor = 0
        self._read_up_to_ms = 0

    @property
    def running(self) -> int:
        """How many offsets are handed out and not finished."""
        return len(self._running)

    @property
    def position(self) -> int | None:
        """The offset to commit, or None while nothing is known about the partition."""
        if not self._running and not self._released:
            return self.next
        lowest = next(iter(self._running)) if self._running else min(self._released)
        return min(lowest, *self._released) if self._released else lowest

    def is_running(self, offset: int) -> bool:
        """Whether `offset` is handed out and not finished, by us or by another member."""
        return offset in self._running

    def take(self, offset: int) -> bool:
        """Hand out `offset`; False if it is running or finished and must be skipped."""
        if self.next is not None and offset < self.next:
            return self._take_again(offset)
        finished = self._step_over(offset)
        if not finished:
            self._running[offset] = None
        return not finished

    def take_run(self, offsets: Sequence[int]) -> bool:
        """Hand out ascending offsets all at once if nothing is known about any; False if they must be taken singly."""
        if self._ahead or (self.next is not None and offsets[0] < self.next):
            return False
        self._running.update(dict.fromkeys(offsets))
        self.next = offsets[-1] + 1
        return True

    def pass_holes(self, position: int) -> None:
        """Reading has come to `position`: below it, what was not handed out is no record but a transaction's marker."""
        if self.next is not None and position > self.next:
            self.next = position
            self._skip_ahead()
            self.dirty = True

    def finish(self, offset: int) -> None:
        """`offset` reached its end; unknown offsets are ignored (another member may have finished it meanwhile)."""
        if offset in self._running:
            del self._running[offset]
            self.dirty = True

    def release(self, offset: int) -> None:
        """Nobody works on `offset` any more, yet it is not finished: it will be handed out again when re-read."""
        if offset in self._running:
            del self._running[offset]
            self._released.add(offset)

    def went_back(self, offset: int, timestamp_ms: int) -> bool:
        """Whether the record to be handed out next belongs to another log: the topic was recreated under us.

        It lies below a confirmed commit, and it is newer than what was read before. An old record below is the same log,
        read again because the broker lost the group's position for a while: what is known of it still holds.
        """
        if offset < self._floor and timestamp_ms > self._read_up_to_ms:
            return True
        self._read_up_to_ms = max(self._read_up_to_ms, timestamp_ms)
        return False

    def checkpoint(self) -> Checkpoint | None:
        """What to commit now, or None if nothing is known or it would move the group backwards."""
        position = self.position
        if position is None or position < self._floor:
            return None
        text, self.overflowing = _encode(self._finished_above(position), position)
        return Checkpoint(position, text)

    def confirm(self, position: int) -> None:
        """The broker has `position`: never commit below it during this assignment."""
        self._floor = max(self._floor, position)

    def adopt(self, position: int, finished: Sequence[Range]) -> None:
        """Take over what the group has committed: `position` and the ranges finished above it.

        Merges with what this tracker knows, for a partition that comes back: what we finished stays finished, what
        another member finished in the meantime is dropped from our running offsets.
        """
        self._floor = position
        self.dirty = True
        self.next = position if self.next is None else max(self.next, position)
        self._running = {o: None for o in self._running if o >= position and not _contains(finished, o)}
        self._released = {o for o in self._released if o >= position and not _contains(finished, o)}
        self._ahead = _merge([*self._ahead, *finished])
        self._skip_ahead()

    def _take_again(self, offset: int) -> bool:
        if offset not in self._released:
            return False
        self._released.remove(offset)
        self._running = dict.fromkeys(sorted([*self._running, offset]))
        return True

    def _step_over(self, offset: int) -> bool:
        """Move `next` past `offset`; True if a former owner finished it."""
        finished = bool(self._ahead) and _contains(self._ahead, offset)
        self.next = offset + 1
        if self._ahead:
            self._skip_ahead()
        if finished:
            self.dirty = True
        return finished

    def _skip_ahead(self) -> None:
        """Restore the invariant that every range in `_ahead` starts above `next`."""
        assert self.next is not None
        while self._ahead and self._ahead[0][0] <= self.next:
            self.next = max(self.next, self._ahead.pop(0)[1])

    def _finished_above(self, position: int) -> list[Range]:
        ranges = []
        start = position
        for offset in sorted([*self._running, *self._released]):
            if offset > start:
                ranges.append((start, offset))
            start = offset + 1
        if self.next is not None and self.next > start:
            ranges.append((start, self.next))
        return [*ranges, *self._ahead]


def decode_finished(position: int, metadata: str) -> list[Range]:
    """The finished ranges above `position` from a commit's metadata.

    Text that we did not write, or cannot read, is an empty map: it costs calls made twice, never a lost record.
    """
    if not metadata.startswith(_VERSION) or len(metadata) > MAP_LIMIT_UTF16:
        return []
    words = metadata[len(_VERSION) :].split(",")
    if len(words) % 2 or not all(_is_count(word) for word in words):
        return []
    ranges = []
    at = position
    for unfinished, finished in zip(words[::2], words[1::2], strict=True):
        start = at + int(unfinished)
        at = start + int(finished)
        ranges.append((start, at))
    return ranges


def _is_count(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) < 20


def _encode(finished: Iterable[Range], position: int) -> tuple[str, bool]:
    """The map as text, and whether ranges at its far end had to be left out to stay within the limit."""
    words: list[str] = []
    length = len(_VERSION)
    at = position
    for start, end in finished:
        pair = f"{start - at},{end - start}"
        length += len(pair) + 1
        if length > MAP_LIMIT_UTF16:
            return _VERSION + ",".join(words), True
        words.append(pair)
        at = end
    return (_VERSION + ",".join(words) if words else ""), False


def _contains(ranges: Iterable[Range], offset: int) -> bool:
    return any(start <= offset < end for start, end in ranges)


def _merge(ranges: list[Range]) -> list[Range]:
    merged: list[Range] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif end > start:
            merged.append((start, end))
    return merged
