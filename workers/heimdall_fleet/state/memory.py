"""The shared state of one process: for `memory://`, for tests, and as the model that the Redis one is held against."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from heimdall_fleet.state.base import Claim, ClaimKind, Want

MAX_CALLS = 100_000
MAX_STORED_BYTES = 8 * 1024 * 1024


@dataclass(slots=True)
class _Call:
    worker: str
    until_ms: float
    stored: bytes | None = None


class MemoryState:
    """Bounded in entries and bytes: the oldest answers are forgotten first. `now_ms` is a monotonic clock."""

    def __init__(
        self, now_ms: Callable[[], float], max_calls: int = MAX_CALLS, max_stored_bytes: int = MAX_STORED_BYTES
    ) -> None:
        self._now_ms = now_ms
        self._max_calls = max_calls
        self._max_stored_bytes = max_stored_bytes
        self._calls: OrderedDict[str, _Call] = OrderedDict()
        self._stored_bytes = 0
        self._buckets: dict[str, tuple[float, float]] = {}

    async def claim_call(self, request_id: str, worker: str, lease_ms: int) -> Claim:
        now_ms = self._now_ms()
        call = self._calls.get(request_id)
        if call is not None and call.stored is not None:
            if now_ms < call.until_ms:
                return Claim(ClaimKind.DONE, stored=call.stored)
            self._forget(request_id)
            call = None
        if call is None:
            self._calls[request_id] = _Call(worker, now_ms + lease_ms)
            self._shrink()
            return Claim(ClaimKind.OURS)
        if call.worker != worker and now_ms < call.until_ms:
            return Claim(ClaimKind.HELD, wait_ms=max(1, round(call.until_ms - now_ms)))
        kind = ClaimKind.OURS if call.worker == worker else ClaimKind.REPEATED
        call.worker, call.until_ms = worker, now_ms + lease_ms
        return Claim(kind)

    async def finish_call(self, request_id: str, stored: bytes, keep_ms: int) -> bytes:
        now_ms = self._now_ms()
        call = self._calls.get(request_id)
        if call is not None and call.stored is not None and now_ms < call.until_ms:
            return call.stored
        self._forget(request_id)
        self._calls[request_id] = _Call("", now_ms + keep_ms, stored)
        self._stored_bytes += len(stored)
        self._shrink()
        return stored

    async def release_call(self, request_id: str, worker: str) -> None:
        call = self._calls.get(request_id)
        if call is not None and call.stored is None and call.worker == worker:
            del self._calls[request_id]

    async def take_tokens(self, wants: Sequence[Want]) -> int:
        now_ms = self._now_ms()
        levels = [self._level(want, now_ms) for want in wants]
        waits = [wait_ms(want, level) for want, level in zip(wants, levels, strict=True)]
        if any(waits):
            return max(waits)
        for want, level in zip(wants, levels, strict=True):
            self._buckets[want.name] = (level - want.amount, now_ms)
        return 0

    async def ping(self) -> None:
        return

    async def close(self) -> None:
        return

    def _level(self, want: Want, now_ms: float) -> float:
        level, at_ms = self._buckets.get(want.name, (want.burst, now_ms))
        return min(want.burst, level + (now_ms - at_ms) * want.per_minute / 60_000)

    def _forget(self, request_id: str) -> None:
        call = self._calls.pop(request_id, None)
        if call is not None and call.stored is not None:
            self._stored_bytes -= len(call.stored)

    def _shrink(self) -> None:
        while len(self._calls) > self._max_calls or self._stored_bytes > self._max_stored_bytes:
            self._forget(next(iter(self._calls)))


def wait_ms(want: Want, level: float) -> int:
    """Milliseconds until the bucket holds enough; an amount above the burst needs a full bucket only."""
    missing = min(want.amount, want.burst) - level
    return 0 if missing <= 1e-9 else max(1, ceil(missing * 60_000 / want.per_minute))
