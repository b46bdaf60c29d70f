"""Telling an outage from a poison record: one is waited out with the intake closed, the other goes to the DLQ.

Pure, with the clock passed in. A record that fails is tried again; after `max_tries` it is given up, but only while
most others succeed. When nearly everything fails, the fault is not in the records.
"""

from collections import OrderedDict, deque

from heimdall_fleet.dispatch.capacity.breaker import Breaker, BreakerState
from heimdall_fleet.dispatch.settings import BreakerSettings

GATE = BreakerSettings(min_calls=1, failure_ratio=0.5, open_for_ms=10_000, successes_to_close=1, max_probes=1_000_000)
LOOK_BACK = 20
"""So many endings are looked at: a count and not a time, so that good answers before an outage cannot hide it."""
_LOOK_BACK_MS = 30_000.0
_MOST = 0.9
_MAX_SUSPECTS = 10_000
_FEW_CALLS = 10


class Outage:
    """The verdict on one worker's failures. Moments are monotonic milliseconds."""

    def __init__(self, settings: BreakerSettings = GATE, max_tries: int = 3) -> None:
        self._gate = Breaker(settings)
        self._max_tries = max_tries
        self._tries: OrderedDict[str, int] = OrderedDict()
        self._recent: deque[tuple[float, bool]] = deque(maxlen=LOOK_BACK)

    def accepts(self, now_ms: float) -> bool:
        """False while nearly everything fails: take no more orders in."""
        return self._gate.state(now_ms) is not BreakerState.OPEN

    def ended(self, healthy: bool, now_ms: float) -> None:
        """An order reached its end. `healthy` is false when providers or the fleet were to blame."""
        self._recent.append((now_ms, healthy))
        if self._gate.state(now_ms) is BreakerState.CLOSED:
            if healthy:
                return
            ended, failed = self._lately(now_ms)
            if ended == LOOK_BACK and failed >= _MOST * ended:
                self._gate.end(self._gate.start(now_ms), False, now_ms)
            return
        self._gate.end(self._gate.start(now_ms), healthy, now_ms)
        if self._gate.state(now_ms) is BreakerState.CLOSED:
            self._recent.clear()

    def failed(self, record: str, now_ms: float) -> bool:
        """The handling of `record` failed by itself; true when it is to be given up."""
        self.ended(False, now_ms)
        tries = self._tries.pop(record, 0) + 1
        self._tries[record] = tries
        while len(self._tries) > _MAX_SUSPECTS:
            self._tries.popitem(last=False)
        if tries < self._max_tries or self._all_fail(now_ms):
            return False
        del self._tries[record]
        return True

    def forget(self, record: str) -> None:
        """The record was handled after all."""
        self._tries.pop(record, None)

    def _all_fail(self, now_ms: float) -> bool:
        if self._gate.state(now_ms) is not BreakerState.CLOSED:
            return True
        ended, failed = self._lately(now_ms)
        return ended >= _FEW_CALLS and failed * 2 > ended

    def _lately(self, now_ms: float) -> tuple[int, int]:
        """Endings, and how many of them were failures."""
        recent = [healthy for at_ms, healthy in self._recent if now_ms - at_ms <= _LOOK_BACK_MS]
        return len(recent), recent.count(False)
