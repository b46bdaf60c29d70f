"""How many calls a key bears at once: additive increase, multiplicative decrease, as TCP finds its window.

Slow start doubles the limit each flight until the first cut, then it grows by one a flight (Jacobson 1988, and
Chiu and Jain 1989 for why this is fair). A cut halves it at most once per flight: calls that had started before the
last cut say nothing new. A Retry-After closes the key until then and slow start begins again.
"""

_MIN_LIMIT = 1.0


class Aimd:
    """The limit of one key. Every moment is monotonic milliseconds."""

    __slots__ = ("_ceiling", "_cut_at", "_limit", "_threshold", "closed_until", "in_flight")

    def __init__(self, start: int, ceiling: int) -> None:
        self._ceiling = float(ceiling)
        self._limit = min(float(start), self._ceiling)
        self._threshold = self._ceiling
        self._cut_at = float("-inf")
        self.closed_until = float("-inf")
        self.in_flight = 0

    @property
    def limit(self) -> int:
        return int(self._limit)

    @property
    def headroom(self) -> float:
        """Share of the limit that is free, 0 to 1."""
        return max(0.0, 1.0 - self.in_flight / self._limit)

    def has_room(self, promised: int = 0) -> bool:
        return self.in_flight + promised < int(self._limit)

    def start(self) -> None:
        self.in_flight += 1

    def finish(self) -> None:
        self.in_flight -= 1

    def succeeded(self) -> None:
        """Grow, but only when the limit is what holds calls back. To be told before `finish`."""
        if self.in_flight * 2 < self._limit:
            return
        step = 1.0 if self._limit < self._threshold else 1.0 / self._limit
        self._limit = min(self._ceiling, self._limit + step)

    def limited(self, started_ms: float, retry_after_ms: int | None, now_ms: float) -> None:
        """The provider said that it is too much."""
        if retry_after_ms is not None:
            self.closed_until = max(self.closed_until, now_ms + retry_after_ms)
        if started_ms <= self._cut_at:
            return
        self._cut_at = now_ms
        self._threshold = max(_MIN_LIMIT, self._limit / 2)
        self._limit = self._threshold if retry_after_ms is None else _MIN_LIMIT
