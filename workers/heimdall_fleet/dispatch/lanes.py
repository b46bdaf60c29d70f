"""Who goes first when places are scarce: interactive, standard, batch, and inside a lane the earliest deadline.

Lanes share by weight (stride scheduling, Waldspurger and Weihl 1995) instead of strict rank, so that the batch lane
gets its small share even while the others never run dry.
"""

import heapq
from collections.abc import Mapping
from itertools import count
from typing import Generic, TypeVar

SHARES: Mapping[str, int] = {"interactive": 16, "standard": 4, "batch": 1}
_STRIDE = 1_000_000

Item = TypeVar("Item")


class Lanes(Generic[Item]):
    """A queue of what waits."""

    def __init__(self, shares: Mapping[str, int] = SHARES) -> None:
        self._strides = {lane: _STRIDE // share for lane, share in shares.items()}
        self._passes = dict.fromkeys(shares, 0)
        self._heaps: dict[str, list[tuple[float, int, Item]]] = {lane: [] for lane in shares}
        self._count = count()
        self._now = 0

    def __len__(self) -> int:
        return sum(map(len, self._heaps.values()))

    def push(self, lane: str, deadline_ms: float, item: Item) -> None:
        """Queue `item`; an unknown lane is the standard one. A lane that was empty does not claim the past."""
        name = lane if lane in self._heaps else "standard"
        if not self._heaps[name]:
            self._passes[name] = max(self._passes[name], self._now)
        heapq.heappush(self._heaps[name], (deadline_ms, next(self._count), item))

    def pop(self) -> Item | None:
        """The next one, or None when nothing waits."""
        waiting = [lane for lane, heap in self._heaps.items() if heap]
        if not waiting:
            return None
        lane = min(waiting, key=lambda each: self._passes[each])
        self._now = self._passes[lane]
        self._passes[lane] += self._strides[lane]
        return heapq.heappop(self._heaps[lane])[2]
