"""Telling an outage from a poison record: one is waited out with the intake closed, the other goes to the DLQ.

Pure, with the clock passed in. A record that fails is tried again; after `max_tries` it is given up, but only while
most others succeed. When nearly everything fails, the fault is not in the records.
"""

from collections import OrderedDict

from heimdall_fleet.dispatch.breaker import Breaker, BreakerState
from heimdall_fleet.dispatch.settings import BreakerSettings

GATE = BreakerSettings(
    failure_ratio=0.9,
    min_calls=20,
    window_ms=30_000,
    open_for_ms=10_000,
    failures_in_a_row=1_000_000,
    successes_to_close=1,
    max_probes=1_000_000,
)
_MAX_SUSPECTS = 10_000
_FEW_CALLS = 10


class Outage:
    """The verdict on one worker's failures. Moments are monotonic milliseconds."""

    def __init__(self, settings: BreakerSettings = GATE, max_tries: int = 3) -> None:
        self._gate = Breaker(settings)
        self._max_tries = max_tries
        self._tries: OrderedDict[str, int] = OrderedDict()

    def accepts(self, now_ms: float) -> bool:
        """False while nearly everything fails: take no more orders in."""
        return self._gate.state(now_ms) is not BreakerState.OPEN

    def ended(self, healthy: bool, now_ms: float) -> None:
        """An order reached its end. `healthy` is false when providers or the fleet were to blame."""
        self._gate.end(self._gate.start(now_ms), healthy, now_ms)

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
        calls, failures = self._gate.calls(now_ms)
        return calls >= _FEW_CALLS and failures * 2 > calls
