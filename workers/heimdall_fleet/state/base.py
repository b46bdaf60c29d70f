"""The shared state as dispatch sees it.

Every operation is idempotent for the worker that asks: asking again after an ambiguous time-out changes nothing.
Everything raises `StateUnavailable` when the state gives no answer within its time limit.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol


class StateUnavailable(Exception):
    """The shared state gave no usable answer in time; what was asked may or may not have happened."""


class ClaimKind(StrEnum):
    OURS = "ours"
    """Nobody has called for this request; the call is reserved for us now."""
    REPEATED = "repeated"
    """Another worker had reserved it and fell silent; it is ours now, and a second paid call is likely."""
    HELD = "held"
    """Another worker is at it; look again in `wait_ms`."""
    DONE = "done"
    """It is answered; `stored` is what was stored with it."""
    OTHER_BODY = "other_body"
    """It was reserved, or answered, with another fingerprint."""


class Claim(NamedTuple):
    """`begun`: of a call that is ours now, what `begin_call` was told last; empty when nothing was begun before."""

    kind: ClaimKind
    wait_ms: int = 0
    stored: bytes = b""
    begun: bytes = b""


class Want(NamedTuple):
    """`amount` tokens out of the bucket `name`, which refills by `per_minute` and holds `burst` at most."""

    name: str
    per_minute: float
    burst: float
    amount: float


class Budget(NamedTuple):
    """`limit_usd_micros` may be held and spent under `name` altogether, which is forgotten `keep_ms` after its last use."""

    name: str
    limit_usd_micros: int
    keep_ms: int


class SharedState(Protocol):
    """One fleet's shared state."""

    async def claim_call(self, call_id: str, holder: str, lease_ms: int, fingerprint: str = "") -> Claim:
        """Reserve a paid call for `lease_ms`; asked again by the same holder it extends the lease.

        `fingerprint` says what is asked: a claim with another one than the first gets OTHER_BODY.
        """
        ...

    async def begin_call(self, call_id: str, holder: str, begun: Callable[[], bytes], lease_ms: int) -> bool:
        """Say, right before a provider is called, what is being called: whoever takes over reads it in its claim.

        `begun` words it. A state that outlives the process asks it at once, one that does not when it is read.

        False, and nothing is noted, when another holder has it or it is finished: the call must not be made. A
        reservation that the state has lost is made anew.
        """
        ...

    async def renew_calls(self, holds: Sequence[tuple[str, str]], lease_ms: int) -> None:
        """Extend the leases of (call id, holder) pairs; what is finished, or held by another, is left alone."""
        ...

    async def finish_call(self, call_id: str, stored: bytes, keep_ms: int) -> bytes:
        """Mark the call answered. Returns what is stored for it: of two answers the first one stays."""
        ...

    async def release_call(self, call_id: str, holder: str) -> None:
        """Give a reservation back that led to no answer; one of another holder, or a finished one, is left alone."""
        ...

    async def take_tokens(self, wants: Sequence[Want]) -> int:
        """Take from all buckets, or from none. 0 when taken, else milliseconds until it is worth asking again.

        An amount above a bucket's burst is granted from a full bucket and leaves it in debt.
        """
        ...

    async def hold_money(self, budget: Budget, hold: str, usd_micros: int) -> bool:
        """Set money aside out of a budget before it is spent. False, and nothing is held, when too little is left.

        What a hold's owner never settles stays held, so that a budget is never exceeded, whoever is lost.
        """
        ...

    async def settle_money(self, budget: Budget, hold: str, spent_usd_micros: int) -> None:
        """Put what was really spent in the place of a hold. Of a hold that is not there nothing is booked."""
        ...

    async def ping(self) -> None:
        """Prove that the state answers."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
