"""What to do after a failed attempt: decided here, done elsewhere.

    failure             first                           then
    same_key            the same key after a back-off    as other_provider
    other_key           another key of this route        the next route; this one stays good for later
    other_provider      the next route                   …
    other_model         a route of another model         …
    context overflow    its own chain                    routes with a larger window, else caller_context_too_long
    content policy      its own chain                    final
    final               final

Routes are asked in the order of their rank. Inside a rank those come first that nothing has failed at, then those at
providers nothing has failed at. A provider that is down (unreachable, overloaded, silent) comes last in *any* rank, so that
an outage of one aggregator moves the order a bucket up instead of through all of its models. A target that failed is asked
again only when nothing better is left, after a back-off, and never when it would say the same again: it has no such model,
or cannot be asked that. An order that everybody it asked has turned away keeps its last attempt for later, since an outage
ends sooner than most deadlines.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

from heimdall_fleet.dispatch.capacity.pool import Readiness, Status
from heimdall_fleet.dispatch.ending.no_answer import as_the_attempt, exhausted, nobody_to_ask, too_dear, too_late
from heimdall_fleet.dispatch.routes import Route
from heimdall_fleet.dispatch.settings import NetworkSettings
from heimdall_fleet.providers.dialect import Action, AttemptFailure
from heimdall_schemas.failure import Failure, FailureCode

_OUT_OF_ORDER = frozenset(
    {FailureCode.PROVIDER_UNREACHABLE, FailureCode.PROVIDER_OVERLOADED, FailureCode.PROVIDER_TIMEOUT}
)
_NOT_NOW = _OUT_OF_ORDER | {FailureCode.PROVIDER_RATE_LIMITED}
_OUTAGE_PAUSE_MS = 15_000.0
_OUTAGE_PROVIDERS = 3
_MOST_LIMITED = 50
NO_KEYS: frozenset[str] = frozenset()


class Retry(NamedTuple):
    """Ask the same key again after a pause."""

    after_ms: float


class OtherKey(NamedTuple):
    """Ask the same route with any key but these."""

    without: frozenset[str]


class Move(NamedTuple):
    """Ask this route."""

    target: Route


class Wait(NamedTuple):
    """Nothing can be asked now; something can at `until_ms` (monotonic) or when a place comes free at `providers`."""

    until_ms: float
    providers: frozenset[str] = frozenset()


class Stop(NamedTuple):
    """It ends here."""

    failure: Failure


NextMove: TypeAlias = Retry | OtherKey | Move | Wait | Stop


class Capacity(Protocol):
    """What failover must know of the keys: `pool.Pool`."""

    def status(self, route: Route, without: frozenset[str], now_ms: float) -> Status: ...


class Rules(NamedTuple):
    """What holds for the whole chain of one order. Moments are monotonic milliseconds."""

    deadline_ms: float
    max_attempts: int
    enabled: bool
    network: Callable[[str], NetworkSettings]
    affordable: Callable[[Route, int], bool] | None
    """Whether a route fits into the money left after what was spent; None when there is no ceiling."""
    overflow_chain: Callable[[Route], tuple[Route, ...]]
    content_chain: Callable[[Route], tuple[Route, ...]]
    jitter: Callable[[], float]
    spill_after_ms: float = 2_000.0


class Chain(NamedTuple):
    """How far the order has come along its routes. Never changed, only replaced."""

    routes: tuple[Route, ...]
    rules: Rules
    current: Route | None = None
    """The one that is asked; to begin with, the first."""
    attempts: int = 0
    """Those that count; being turned away by a rate limit costs nothing and closes the key, so it does not."""
    limited: int = 0
    """Those that do not count."""
    outage: bool = True
    """Every failure so far says that a provider is out of order or full, none that it will not do."""
    retries: int = 0
    spent_usd_micros: int = 0
    failed: frozenset[tuple[str, str]] = frozenset()
    """Places that failed and may be asked again when nothing better is left, from `again_ms` on."""
    again_ms: float = 0.0
    out: frozenset[tuple[str, str]] = frozenset()
    """Places that cannot answer this order."""
    down: frozenset[str] = frozenset()
    """Providers that seem to be out of order."""
    tried_keys: frozenset[tuple[str, str]] = frozenset()
    """(provider, key) that failed for a reason of their own."""
    last: AttemptFailure | None = None
    busy_since_ms: float | None = None


class Tried(NamedTuple):
    """The attempt that just failed."""

    key: str
    failure: AttemptFailure
    cost_usd_micros: int = 0


def first_move(chain: Chain, capacity: Capacity, now_ms: float) -> tuple[Chain, NextMove]:
    """Where to begin, or to go on after waiting."""
    return _choose(chain, capacity, now_ms)


def next_move(chain: Chain, tried: Tried, capacity: Capacity, now_ms: float) -> tuple[Chain, NextMove]:
    """What to do after `tried` failed. Pure: the chain is replaced, `capacity` only read."""
    assert chain.current is not None
    failure = tried.failure
    route = chain.current
    limited = failure.code is FailureCode.PROVIDER_RATE_LIMITED
    chain = chain._replace(
        attempts=chain.attempts + (not limited),
        limited=chain.limited + limited,
        outage=chain.outage and failure.code in _NOT_NOW,
        spent_usd_micros=chain.spent_usd_micros + tried.cost_usd_micros,
        last=failure,
    )
    if failure.content_policy:
        return _special(chain, chain.rules.content_chain(route), capacity, now_ms)
    if failure.context_overflow:
        return _larger_window(chain, capacity, now_ms)
    if failure.action is Action.FINAL:
        return chain, _stop_with_the_last(chain)
    if failure.action is Action.SAME_KEY and (retry := _retry(chain, failure, now_ms)):
        return chain._replace(retries=chain.retries + 1), retry
    return _fall_back(chain, tried, capacity, now_ms)


def hedge_move(chain: Chain, capacity: Capacity, now_ms: float) -> Route | None:
    """The route to ask beside the current one that is slow; None where none is free, or both could not be paid."""
    assert chain.current is not None
    if not chain.rules.enabled or chain.rules.affordable is not None or chain.attempts + 2 > chain.rules.max_attempts:
        return None
    _, move = _choose(chain._replace(out=chain.out | {chain.current.place}, busy_since_ms=None), capacity, now_ms)
    return move.target if isinstance(move, Move) else None


def _fall_back(chain: Chain, tried: Tried, capacity: Capacity, now_ms: float) -> tuple[Chain, NextMove]:
    """Another key or another route, where the fleet may look for one at all."""
    if not chain.rules.enabled:
        return chain, _stop_with_the_last(chain)
    if tried.failure.action is Action.OTHER_KEY:
        return _other_key(chain, tried, capacity, now_ms)
    if not tried.failure.disable_key:
        chain = chain._replace(again_ms=now_ms + _pause_ms(chain, chain.attempts - 1))
    chain = _mark_failed(chain, tried.failure)
    if _looks_like_an_outage(chain, capacity, now_ms):
        return chain, Wait(now_ms + min(_OUTAGE_PAUSE_MS, max(0.0, chain.rules.deadline_ms - now_ms) / 2))
    return _choose(chain, capacity, now_ms)


def _looks_like_an_outage(chain: Chain, capacity: Capacity, now_ms: float) -> bool:
    """Only the last attempt is left, and who was asked is out of order: it is kept for when they may be back.

    It is not kept from a provider that is free and was not asked yet, unless three others have failed.
    """
    if not chain.outage or chain.attempts != chain.rules.max_attempts - 1 or not chain.attempts:
        return False
    troubled = {provider for provider, _ in chain.failed}
    fresh = (route for route in chain.routes if route.provider not in troubled and route.place not in chain.out)
    return len(troubled) >= _OUTAGE_PROVIDERS or not any(
        capacity.status(route, keys_without(chain, route), now_ms).readiness is Readiness.READY for route in fresh
    )


def _retry(chain: Chain, failure: AttemptFailure, now_ms: float) -> Retry | None:
    """The same key again: within the provider's retries, the attempts and the deadline."""
    assert chain.current is not None
    network = chain.rules.network(chain.current.provider)
    fresh_connection = failure.connection_only and failure.retry_after_ms == 0
    most = 1 if failure.connection_only else network.max_retries
    if chain.attempts >= chain.rules.max_attempts or chain.retries >= most:
        return None
    pause_ms = 0.0 if fresh_connection else _pause_ms(chain, chain.retries)
    if failure.retry_after_ms is not None:
        pause_ms = max(pause_ms, float(failure.retry_after_ms))
    if now_ms + pause_ms >= chain.rules.deadline_ms or pause_ms > network.backoff_max_ms * 1.2:
        return None
    return Retry(pause_ms)


def _pause_ms(chain: Chain, retries: int) -> float:
    assert chain.current is not None
    return back_off(max(0, retries), chain.rules.network(chain.current.provider), chain.rules.jitter())


def back_off(retries: int, network: NetworkSettings, jitter: float) -> float:
    """min(initial · 2ⁿ, max), times 0.8 to 1.2; `jitter` is 0 to 1."""
    pause = min(network.backoff_initial_ms * 2.0**retries, network.backoff_max_ms)
    return pause * (0.8 + 0.4 * jitter)


def _other_key(chain: Chain, tried: Tried, capacity: Capacity, now_ms: float) -> tuple[Chain, NextMove]:
    """Another key of this route when one is ready, else the next route; a limited key may be asked again later."""
    assert chain.current is not None
    route = chain.current
    without = keys_without(chain, route) | {tried.key}
    if tried.failure.disable_key:
        chain = chain._replace(tried_keys=chain.tried_keys | {(route.provider, tried.key)})
    chain = chain._replace(retries=0)
    may = chain.attempts < chain.rules.max_attempts and _affords(chain, route) and now_ms < chain.rules.deadline_ms
    if may and capacity.status(route, without, now_ms).readiness is Readiness.READY:
        return chain, OtherKey(without)
    return _choose(chain._replace(failed=chain.failed | {route.place}), capacity, now_ms)


def _special(chain: Chain, routes: tuple[Route, ...], capacity: Capacity, now_ms: float) -> tuple[Chain, NextMove]:
    """Go over to a chain of its own; without one the failure is final."""
    assert chain.current is not None
    if not chain.rules.enabled or not routes:
        return chain, _stop_with_the_last(chain)
    out = chain.out | {chain.current.place}
    return _choose(chain._replace(routes=routes, out=out, retries=0), capacity, now_ms)


def _larger_window(chain: Chain, capacity: Capacity, now_ms: float) -> tuple[Chain, NextMove]:
    """Only a model with a larger window can help; where none is known to be larger, unknown ones may be asked."""
    assert chain.current is not None
    if not chain.rules.enabled:
        return chain, _stop_with_the_last(chain)
    here = chain.current.offer.context_window or 0
    special = tuple(route for route in chain.rules.overflow_chain(chain.current) if route.place not in chain.out)
    if special:
        return _special(chain, special, capacity, now_ms)
    smaller = {
        route.place
        for route in chain.routes
        if route.target.model_id == chain.current.target.model_id or 0 < (route.offer.context_window or 0) <= here
    }
    return _choose(chain._replace(out=chain.out | smaller, retries=0), capacity, now_ms)


def _mark_failed(chain: Chain, failure: AttemptFailure) -> Chain:
    assert chain.current is not None
    route = chain.current
    chain = chain._replace(retries=0, failed=chain.failed | {route.place})
    if failure.action is Action.OTHER_MODEL:
        same = {each.place for each in chain.routes if each.target.model_id == route.target.model_id}
        return chain._replace(out=chain.out | same)
    if not (failure.code.facts.retryable or failure.disable_key):
        return chain._replace(out=chain.out | {route.place})  # it would say the same again
    if failure.code in _OUT_OF_ORDER:
        return chain._replace(down=chain.down | {route.provider})
    return chain


def _choose(chain: Chain, capacity: Capacity, now_ms: float) -> tuple[Chain, NextMove]:
    """The best route that can be asked now, else how long to wait, else the end."""
    rules = chain.rules
    if now_ms >= rules.deadline_ms:
        return chain, Stop(too_late())
    if chain.attempts >= rules.max_attempts or chain.limited >= _MOST_LIMITED:
        return chain, Stop(_given_up(chain))
    left = [route for route in chain.routes if route.place not in chain.out] if chain.out else chain.routes
    if not left:
        return chain, Stop(_given_up(chain, for_good=True))
    paid = left if rules.affordable is None else [route for route in left if _affords(chain, route)]
    if not paid:
        return chain, Stop(too_dear(chain.spent_usd_micros))
    earliest = math.inf
    busy: list[tuple[Route, Readiness]] = []
    for route in sorted(paid, key=_preference(chain)) if chain.failed else paid:
        readiness, at_ms = capacity.status(route, keys_without(chain, route), now_ms)
        if readiness is Readiness.READY and now_ms < chain.again_ms and route.place in chain.failed:
            readiness, at_ms = Readiness.CLOSED, chain.again_ms
        if readiness is Readiness.READY and not (busy and _patient(chain, *busy[0], route, now_ms)):
            settled = route is chain.current and chain.busy_since_ms is None
            return chain if settled else chain._replace(current=route, busy_since_ms=None), Move(route)
        if readiness in (Readiness.BUSY, Readiness.FULL):
            busy.append((route, readiness))
        elif readiness is Readiness.CLOSED:
            earliest = min(earliest, at_ms)
    return _wait(chain, earliest, frozenset(route.provider for route, _ in busy), now_ms)


def _patient(chain: Chain, busy: Route, how: Readiness, ready: Route, now_ms: float) -> bool:
    """A busy model is waited for before its runner-up is asked, and half of the time left before another bucket is.

    Where the line is full already the runner-up is asked at once, and so is another of the model's weighted places.
    """
    if ready.offer.weight is not None and ready.target.model_id == busy.target.model_id:
        return False
    since = now_ms if chain.busy_since_ms is None else chain.busy_since_ms
    if ready.bucket == busy.bucket:
        return how is Readiness.BUSY and now_ms - since < chain.rules.spill_after_ms
    return now_ms - since < (chain.rules.deadline_ms - since) / 2


def _wait(chain: Chain, earliest: float, busy: frozenset[str], now_ms: float) -> tuple[Chain, NextMove]:
    rules = chain.rules
    if busy:
        since = now_ms if chain.busy_since_ms is None else chain.busy_since_ms
        look_again = now_ms + rules.spill_after_ms
        return chain._replace(busy_since_ms=since), Wait(min(earliest, look_again, rules.deadline_ms), busy)
    chain = chain._replace(busy_since_ms=None)
    if earliest >= rules.deadline_ms:
        return chain, Stop(_given_up(chain, closed=earliest < math.inf))
    return chain, Wait(earliest)


def _preference(chain: Chain) -> Callable[[Route], tuple[bool, bool, int, bool]]:
    troubled = {provider for provider, _ in chain.failed}

    def order(route: Route) -> tuple[bool, bool, int, bool]:
        return (
            route.place in chain.failed,
            route.provider in chain.down,
            route.rank,
            route.provider in troubled,
        )

    return order


def _affords(chain: Chain, route: Route) -> bool:
    affordable = chain.rules.affordable
    return affordable is None or affordable(route, chain.spent_usd_micros)


def keys_without(chain: Chain, route: Route) -> frozenset[str]:
    """Keys of the route's provider that have failed this order for a reason of their own."""
    if not chain.tried_keys:
        return NO_KEYS
    return frozenset(key for provider, key in chain.tried_keys if provider == route.provider)


def _stop_with_the_last(chain: Chain) -> Stop:
    """The failure of the attempt that was just made is that of the order."""
    assert chain.last is not None
    assert chain.current is not None
    return Stop(as_the_attempt(chain.last, _where(chain.current)))


def _given_up(chain: Chain, *, closed: bool = False, for_good: bool = False) -> Failure:
    if chain.last is None or chain.current is None:
        return nobody_to_ask(closed=closed)
    alone, attempts = len(chain.routes) == 1, chain.attempts + chain.limited
    return exhausted(chain.last, _where(chain.current), attempts, alone=alone, for_good=for_good)


def _where(route: Route) -> str:
    """For people: which model failed, and at which provider."""
    return f"{route.target.model_id} at {route.provider}"
