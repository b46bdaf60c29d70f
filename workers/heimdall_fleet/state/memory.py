"""The shared state of one process: for `memory://`, for tests, and as the model that the Redis one is held against."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil

from heimdall_fleet.state.base import Budget, Claim, ClaimKind, Want

MAX_CALLS = 100_000
MAX_STORED_BYTES = 4 * 1024 * 1024
_NEW = Claim(ClaimKind.OURS)


@dataclass(slots=True)
class _Call:
    holder: str
    until_ms: float
    fingerprint: str = ""
    stored: bytes | None = None
    begun: Callable[[], bytes] = bytes


@dataclass(slots=True)
class _Money:
    """`used`: spent and held together."""

    used: int
    until_ms: float
    holds: dict[str, int] = field(default_factory=dict)


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
        self._money: dict[str, _Money] = {}

    async def claim_call(self, call_id: str, holder: str, lease_ms: int, fingerprint: str = "") -> Claim:
        now_ms = self._now_ms()
        call = self._calls.get(call_id)
        if call is not None and call.stored is not None and now_ms >= call.until_ms:
            self._forget(call_id)
            call = None
        if call is None:
            self._calls[call_id] = _Call(holder, now_ms + lease_ms, fingerprint)
            self._shrink()
            return _NEW
        if call.fingerprint != fingerprint:
            return Claim(ClaimKind.OTHER_BODY)
        if call.stored is not None:
            return Claim(ClaimKind.DONE, stored=call.stored)
        if call.holder != holder and now_ms < call.until_ms:
            return Claim(ClaimKind.HELD, wait_ms=max(1, round(call.until_ms - now_ms)))
        kind = ClaimKind.OURS if call.holder == holder else ClaimKind.REPEATED
        call.holder, call.until_ms = holder, now_ms + lease_ms
        return Claim(kind, begun=call.begun())

    async def begin_call(self, call_id: str, holder: str, begun: Callable[[], bytes], lease_ms: int) -> bool:
        call = self._calls.get(call_id)
        if call is None:
            call = self._calls[call_id] = _Call(holder, 0.0)
            self._shrink()
        if call.stored is not None or call.holder != holder:
            return False
        call.begun, call.until_ms = begun, self._now_ms() + lease_ms
        return True

    async def renew_calls(self, holds: Sequence[tuple[str, str]], lease_ms: int) -> None:
        until_ms = self._now_ms() + lease_ms
        for call_id, holder in holds:
            call = self._calls.get(call_id)
            if call is not None and call.stored is None and call.holder == holder:
                call.until_ms = until_ms

    async def finish_call(self, call_id: str, stored: bytes, keep_ms: int) -> bytes:
        now_ms = self._now_ms()
        call = self._calls.get(call_id)
        if call is None or call.stored is not None:
            if call is not None and call.stored is not None and now_ms < call.until_ms:
                return call.stored
            self._forget(call_id)
            call = self._calls[call_id] = _Call("", 0.0, call.fingerprint if call else "")
        call.holder, call.until_ms, call.stored, call.begun = "", now_ms + keep_ms, stored, bytes
        self._calls.move_to_end(call_id)
        self._stored_bytes += len(stored)
        self._shrink()
        return stored

    async def release_call(self, call_id: str, holder: str) -> None:
        call = self._calls.get(call_id)
        if call is not None and call.stored is None and call.holder == holder:
            del self._calls[call_id]

    async def take_tokens(self, wants: Sequence[Want]) -> int:
        now_ms = self._now_ms()
        levels = [self._level(want, now_ms) for want in wants]
        waits = [wait_ms(want, level) for want, level in zip(wants, levels, strict=True)]
        if any(waits):
            return max(waits)
        for want, level in zip(wants, levels, strict=True):
            self._buckets[want.name] = (level - want.amount, now_ms)
        return 0

    async def hold_money(self, budget: Budget, hold: str, usd_micros: int) -> bool:
        now_ms = self._now_ms()
        self._money = {name: money for name, money in self._money.items() if now_ms < money.until_ms}
        money = self._money.get(budget.name) or _Money(0, 0.0)
        if hold not in money.holds:
            if money.used + usd_micros > budget.limit_usd_micros:
                return False
            money.used += usd_micros
            money.holds[hold] = usd_micros
        money.until_ms = now_ms + budget.keep_ms
        self._money[budget.name] = money
        return True

    async def settle_money(self, budget: Budget, hold: str, spent_usd_micros: int) -> None:
        money = self._money.get(budget.name)
        if money is not None and hold in money.holds:
            money.used += spent_usd_micros - money.holds.pop(hold)

    async def ping(self) -> None:
        return

    async def close(self) -> None:
        return

    def _level(self, want: Want, now_ms: float) -> float:
        level, at_ms = self._buckets.get(want.name, (want.burst, now_ms))
        return min(want.burst, level + (now_ms - at_ms) * want.per_minute / 60_000)

    def _forget(self, call_id: str) -> None:
        call = self._calls.pop(call_id, None)
        if call is not None and call.stored is not None:
            self._stored_bytes -= len(call.stored)

    def _shrink(self) -> None:
        while len(self._calls) > self._max_calls or self._stored_bytes > self._max_stored_bytes:
            self._forget(next(iter(self._calls)))


def wait_ms(want: Want, level: float) -> int:
    """Milliseconds until the bucket holds enough; an amount above the burst needs a full bucket only."""
    missing = min(want.amount, want.burst) - level
    return 0 if missing <= 1e-9 else max(1, ceil(missing * 60_000 / want.per_minute))
