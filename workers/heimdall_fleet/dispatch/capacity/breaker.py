"""A circuit breaker as a state machine: the clock is passed in, nothing waits, nothing is called from here.

    closed     calls pass and are counted over a sliding window
       │  share of failures above `failure_ratio` with at least `min_calls` calls,
       │  or `failures_in_a_row` while there are fewer calls than that
       ▼
    open       no call passes for `open_for_ms`
       │  the time is over
       ▼
    half-open  at most `max_probes` calls at once; `successes_to_close` in a row close it, one failure opens it again

Weakness: it knows one worker's calls only, so each worker of a fleet finds out for itself.
"""

from enum import StrEnum

from heimdall_fleet.dispatch.settings import BreakerSettings

_SLOTS = 10
_PROBE_LOOK_MS = 250.0


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """One breaker. Every moment is monotonic milliseconds."""

    __slots__ = (
        "_calls",
        "_closing",
        "_failures",
        "_in_a_row",
        "_probes",
        "_settings",
        "_slot",
        "_turns_at",
        "open_until",
    )

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._calls = [0] * _SLOTS
        self._failures = [0] * _SLOTS
        self._slot = 0
        self._turns_at = 0.0
        self._in_a_row = 0
        self.open_until: float | None = None
        """None while closed; read by those who look at many."""
        self._probes = 0
        self._closing = 0

    def state(self, now_ms: float) -> BreakerState:
        if self.open_until is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now_ms < self.open_until else BreakerState.HALF_OPEN

    def ready_at(self, now_ms: float) -> float:
        """When a call may start: `now_ms` itself, or a later moment to look again."""
        if self.open_until is None:
            return now_ms
        if now_ms < self.open_until:
            return self.open_until
        return now_ms if self._probes < self._settings.max_probes else now_ms + _PROBE_LOOK_MS

    def start(self, now_ms: float) -> bool:
        """Count a call in; true when it is a probe. The answer goes back into `end`."""
        if self.open_until is None or now_ms < self.open_until:
            return False
        self._probes += 1
        return True

    def end(self, probe: bool, healthy: bool | None, now_ms: float) -> None:
        """Count a call out. `healthy` None says nothing about health: cancelled, or the caller's own fault."""
        if probe:
            self._probes = max(0, self._probes - 1)
            self._end_probe(healthy, now_ms)
        elif self.open_until is None and healthy is not None:
            self._count(healthy, now_ms)

    def calls(self, now_ms: float) -> tuple[int, int]:
        """(calls, failures) inside the window."""
        self._turn(now_ms)
        return sum(self._calls), sum(self._failures)

    def _end_probe(self, healthy: bool | None, now_ms: float) -> None:
        if self.open_until is None or healthy is None:
            return
        if not healthy:
            self._open(now_ms)
            return
        self._closing += 1
        if self._closing >= self._settings.successes_to_close:
            self._close()

    def _count(self, healthy: bool, now_ms: float) -> None:
        self._turn(now_ms)
        here = self._slot % _SLOTS
        self._calls[here] += 1
        if healthy:
            self._in_a_row = 0
            return
        self._failures[here] += 1
        self._in_a_row += 1
        calls, limits = sum(self._calls), self._settings
        if calls < limits.min_calls:
            tripped = self._in_a_row >= limits.failures_in_a_row
        else:
            tripped = sum(self._failures) > limits.failure_ratio * calls
        if tripped:
            self._open(now_ms)

    def _turn(self, now_ms: float) -> None:
        """Forget the slots that have left the window."""
        if now_ms < self._turns_at:
            return
        slot_ms = self._settings.window_ms / _SLOTS
        slot = int(now_ms // slot_ms)
        self._turns_at = (slot + 1) * slot_ms
        for gone in range(min(slot - self._slot, _SLOTS)):
            self._calls[(slot - gone) % _SLOTS] = 0
            self._failures[(slot - gone) % _SLOTS] = 0
        self._slot = max(slot, self._slot)

    def _open(self, now_ms: float) -> None:
        self.open_until = now_ms + self._settings.open_for_ms
        self._closing = 0

    def _close(self) -> None:
        self.open_until = None
        self._closing = self._in_a_row = 0
        self._calls = [0] * _SLOTS
        self._failures = [0] * _SLOTS
