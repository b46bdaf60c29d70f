"""Every provider and key of one worker, with what is known of its health: who may be called now, and what calls taught.

Plain synchronous bookkeeping on the monotonic clock; nothing here waits.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from heimdall_fleet.dispatch.capacity.breaker import Breaker
from heimdall_fleet.dispatch.capacity.keys import NO_KEY, Group, KeyState
from heimdall_fleet.dispatch.capacity.model_health import ModelHealth
from heimdall_fleet.dispatch.capacity.probe import Verdict
from heimdall_fleet.dispatch.capacity.strategies import pick
from heimdall_fleet.dispatch.routes import Route
from heimdall_fleet.dispatch.settings import KeySettings, NetworkSettings, ProviderSettings
from heimdall_fleet.providers.dialect import AttemptFailure, Target
from heimdall_fleet.providers.http import CallLimits
from heimdall_schemas.failure import FailureCode

_LIMITED = frozenset({FailureCode.PROVIDER_RATE_LIMITED, FailureCode.PROVIDER_QUOTA})
_TOO_MUCH = frozenset({FailureCode.PROVIDER_RATE_LIMITED, FailureCode.PROVIDER_OVERLOADED})
_FIRST_COOLDOWN_MS = 1_000.0
_LAST_COOLDOWN_MS = 60_000.0
_MISSING_MODEL_MS = 60_000.0
_PROBED_LOOK_MS = 1_000.0
_QUOTA_PAUSE_MS = 3_600_000


class Readiness(StrEnum):
    READY = "ready"
    BUSY = "busy"
    """Healthy, but every place is taken; one may come free at any moment."""
    FULL = "full"
    """Busy, and as many orders as may wait for a place there do so already."""
    CLOSED = "closed"
    """Not before `at_ms`: rate limit, open breaker."""
    NEVER = "never"
    """No key that works, or none left for this order."""


class Status(NamedTuple):
    """`at_ms` is the earliest moment worth looking again (monotonic)."""

    readiness: Readiness
    at_ms: float


_READY = Status(Readiness.READY, -math.inf)
_NEVER = Status(Readiness.NEVER, math.inf)


class Ticket(NamedTuple):
    """A place with one key, taken until it is given back. `number`: of all that this worker has taken."""

    route: Route
    key: KeyState
    provider: "ProviderState"
    started_ms: float
    key_probe: bool
    provider_probe: bool
    model_probe: bool
    number: int


class ProviderState:
    """One provider at work."""

    __slots__ = (
        "_serving",
        "breaker",
        "closed_until",
        "in_flight",
        "keys",
        "limits",
        "models",
        "probed",
        "settings",
        "turn",
    )

    def __init__(self, settings: ProviderSettings, keys: tuple[KeyState, ...]) -> None:
        self.settings = settings
        self.keys = keys
        self.breaker = Breaker(settings.circuit)
        self.models = ModelHealth(settings.circuit)
        self.probed = Verdict(settings.circuit.failures_in_a_row, settings.circuit.successes_to_close)
        self.closed_until = -math.inf
        self.in_flight = 0
        self.turn = 0
        self.limits = _limits(settings.network)
        self._serving: dict[tuple[str, str], tuple[KeyState, ...]] = {}

    def configure(self, settings: ProviderSettings) -> None:
        """Everything else that a changed configuration says. Another rule for the circuit begins with a closed one."""
        if settings.circuit != self.settings.circuit:
            self.breaker = Breaker(settings.circuit)
            self.models = ModelHealth(settings.circuit)
            self.probed = Verdict(settings.circuit.failures_in_a_row, settings.circuit.successes_to_close)
        self.settings = settings
        self.limits = _limits(settings.network)

    def take_up(self, keys: tuple[KeyState, ...]) -> None:
        self.keys = keys
        self._serving.clear()

    def serving(self, target: Target) -> tuple[KeyState, ...]:
        """The keys that list the model, worked out once for each."""
        model = target.model, target.model_id
        found = self._serving.get(model)
        if found is None:
            found = self._serving[model] = tuple(key for key in self.keys if key.serves(*model))
        return found

    def ready_at(self, model: str, now_ms: float) -> float:
        """When a call to `model` may start here."""
        if self.probed.down:
            return now_ms + _PROBED_LOOK_MS
        if self.breaker.open_until is None and not self.models:
            return self.closed_until
        return max(self.closed_until, self.breaker.ready_at(now_ms), self.models.ready_at(model, now_ms))

    def has_room(self, promised: int) -> bool:
        limit = self.settings.concurrency
        return limit is None or self.in_flight + promised < limit


@dataclass(frozen=True, slots=True)
class Alarm:
    """A key that went out of use: something an operator must act on. Names only.

    `last`: its provider has no other key that is in use.
    """

    provider: str
    key: str
    reason: str
    last: bool


class KeysOut(NamedTuple):
    """Keys that are out of use, with the failure code, by provider and key; and the providers that have no other."""

    reasons: Mapping[tuple[str, str], str]
    bare: tuple[str, ...]


def _nobody(provider: str) -> int:
    return 0


class Pool:
    """The providers of one worker."""

    def __init__(
        self,
        providers: Iterable[ProviderSettings],
        promised: Callable[[str], int] = _nobody,
        waiting: Callable[[str], int] = _nobody,
    ) -> None:
        """`waiting`: orders in line at a provider; `promised`: free places there that are kept for the next of them."""
        self._promised = promised
        self._waiting = waiting
        self._providers = {settings.name: ProviderState(settings, _make_keys(settings)) for settings in providers}
        self._gone: frozenset[str] = frozenset()
        self._missing: dict[tuple[str, str], float] = {}
        self._taken = 0

    def status(self, route: Route, without: frozenset[str], now_ms: float) -> Status:
        """Whether `route` can be asked now by any key but those named in `without`."""
        provider = self._providers[route.provider]
        opens = provider.ready_at(route.target.model, now_ms)
        if self._missing:
            opens = max(opens, self._missing.get(route.place, -math.inf))
        earliest, busy = math.inf, False
        promised = self._promised(route.provider)
        for key in provider.serving(route.target):
            if key.name in without:
                continue
            at_ms = max(opens, key.ready_at(now_ms))
            if at_ms > now_ms:
                earliest = min(earliest, at_ms)
            elif key.aimd.has_room(promised) and provider.has_room(promised):
                return _READY
            else:
                busy = True
        if busy:
            full = self._waiting(route.provider) >= provider.settings.buffer
            return Status(Readiness.FULL if full else Readiness.BUSY, now_ms)
        return _NEVER if earliest == math.inf else Status(Readiness.CLOSED, earliest)

    def take(self, route: Route, without: frozenset[str], now_ms: float, key_name: str | None = None) -> Ticket | None:
        """A place with the key that the provider's strategy picks (or with `key_name`); None when there is none now."""
        provider = self._providers[route.provider]
        promised = self._promised(route.provider)
        target = route.target
        if not provider.has_room(promised) or provider.ready_at(target.model, now_ms) > now_ms:
            return None
        open_keys = [
            key
            for key in provider.serving(target)
            if key.name not in without
            and (key_name is None or key.name == key_name)
            and key.aimd.has_room(promised)
            and key.ready_at(now_ms) <= now_ms
        ]
        if not open_keys:
            return None
        provider.turn += 1
        self._taken += 1
        key = pick(open_keys, provider.settings.strategy, provider.turn, provider.settings.floor_share)
        key.aimd.start()
        if key.disabled is not None:
            key.looked(now_ms)
        provider.in_flight += 1
        key_probe, provider_probe = key.breaker.start(now_ms), provider.breaker.start(now_ms)
        model_probe = provider.models.start(target.model, now_ms)
        return Ticket(route, key, provider, now_ms, key_probe, provider_probe, model_probe, self._taken)

    def put_back(self, ticket: Ticket, now_ms: float) -> None:
        """Give a place back that taught nothing: cancelled, or not used after all."""
        self._end(ticket, None, None, now_ms)

    def learn(self, ticket: Ticket, failure: AttemptFailure | None, now_ms: float) -> Alarm | None:
        """Give a place back with how its call went; an Alarm when the key just went out of service."""
        key = ticket.key
        if failure is None:
            key.aimd.succeeded()
            key.group.cooldown_ms = 0.0
            key.disabled = None
        elif failure.code is FailureCode.PROVIDER_NOT_FOUND:
            self._missing[ticket.route.place] = now_ms + _MISSING_MODEL_MS
        healthy = failure is None or not failure.counts_for_breaker
        key.learn(now_ms - ticket.started_ms, healthy)
        counted = healthy if failure is None or failure.counts_for_breaker else None
        self._end(ticket, counted, failure, now_ms)
        return None if failure is None else _note(ticket, failure, now_ms)

    def close_group(self, ticket: Ticket, until_ms: float) -> None:
        """The fleet's own count says that the quota of this key's group is used up until then."""
        group = ticket.key.group
        group.closed_until = max(group.closed_until, until_ms)

    def configure(self, providers: Iterable[ProviderSettings]) -> None:
        """Take up a changed configuration; the keys of a known provider are `replace_keys`' business.

        A provider that is gone is shown no more, and stays for the orders that are on their way to it.
        """
        listed = {settings.name: settings for settings in providers}
        for name, settings in listed.items():
            if name in self._providers:
                self._providers[name].configure(settings)
            else:
                self._providers[name] = ProviderState(settings, _make_keys(settings))
        self._gone = frozenset(self._providers.keys() - listed.keys())

    def replace_keys(self, provider: str, keys: Sequence[KeySettings]) -> None:
        """Take up a new list of keys. The same name and secret keeps its history; a new secret is trusted anew."""
        state = self._providers[provider]
        before = {key.name: key for key in state.keys}
        fresh = _make_keys(state.settings, tuple(keys))
        for key in fresh:
            old = before.get(key.name)
            if old is not None and old.settings.secret == key.settings.secret:
                key.inherit(old)
        state.take_up(fresh)

    def __contains__(self, provider: str) -> bool:
        return provider in self._providers

    def provider(self, name: str) -> ProviderState:
        return self._providers[name]

    def network(self, name: str) -> NetworkSettings:
        return self._providers[name].settings.network

    def health(self, now_ms: float) -> Mapping[str, dict[str, Any]]:
        """State of every provider and key, names only: for /readyz and the gauges."""
        return {
            name: {
                "breaker": state.breaker.state(now_ms).value,
                "probed_down": state.probed.down,
                "models_out": state.models.open(now_ms),
                "in_flight": state.in_flight,
                "keys": {key.name: _key_health(key, now_ms) for key in state.keys},
            }
            for name, state in self._listed()
        }

    def keys_out(self, now_ms: float) -> KeysOut:
        out = {
            (name, key.name): reason
            for name, state in self._listed()
            for key in state.keys
            if (reason := key.out(now_ms)) is not None
        }
        bare = (name for name, state in self._listed() if all((name, key.name) in out for key in state.keys))
        return KeysOut(out, tuple(bare))

    def _listed(self) -> list[tuple[str, ProviderState]]:
        return [(name, state) for name, state in self._providers.items() if name not in self._gone]

    def probe(self, provider: str, good: bool) -> bool:
        """What the free probe of a provider found; true when it takes the provider out, or brings it back."""
        return self._providers[provider].probed.told(good)

    def _end(self, ticket: Ticket, healthy: bool | None, failure: AttemptFailure | None, now_ms: float) -> None:
        ticket.key.aimd.finish()
        ticket.provider.in_flight -= 1
        if failure is None or failure.code is not FailureCode.PROVIDER_UNREACHABLE:
            models, model = ticket.provider.models, ticket.route.target.model
            healthy = models.end(model, ticket.model_probe, healthy, now_ms)
        elif ticket.model_probe:
            ticket.provider.models.end(ticket.route.target.model, True, None, now_ms)
        ticket.key.breaker.end(ticket.key_probe, healthy, now_ms)
        ticket.provider.breaker.end(ticket.provider_probe, healthy, now_ms)


def _note(ticket: Ticket, failure: AttemptFailure, now_ms: float) -> Alarm | None:
    """What a failure closes: the key for good, its group for a while, or the whole provider until it says."""
    key = ticket.key
    if failure.code in _TOO_MUCH:
        key.aimd.limited(ticket.started_ms, failure.retry_after_ms, now_ms)
    if failure.code in _LIMITED and not failure.disable_key:
        key.group.cooldown_ms = min(_LAST_COOLDOWN_MS, key.group.cooldown_ms * 2 or _FIRST_COOLDOWN_MS)
        # "At once" after being turned away would be asked fifty times over; official clients take 0 for no word as well.
        wait_ms = failure.retry_after_ms or key.group.cooldown_ms
        key.group.closed_until = max(key.group.closed_until, now_ms + wait_ms)
    if failure.code is FailureCode.PROVIDER_OVERLOADED and failure.retry_after_ms:
        ticket.provider.closed_until = max(ticket.provider.closed_until, now_ms + failure.retry_after_ms)
    if failure.disable_key and (key.disabled is None or now_ms >= key.disabled_until):
        key.disable(failure.code.value, _reopens_at(failure, now_ms), now_ms)
        last = all(each.out(now_ms) for each in ticket.provider.keys)
        return Alarm(ticket.route.provider, key.name, failure.message, last)
    return None


def _reopens_at(failure: AttemptFailure, now_ms: float) -> float:
    """A used-up quota opens again at the date that came with it; a short pause beside it speaks of the rate alone."""
    dated = failure.code is FailureCode.PROVIDER_QUOTA and (failure.retry_after_ms or 0) >= _QUOTA_PAUSE_MS
    return now_ms + (failure.retry_after_ms or 0) if dated else math.inf


def _key_health(key: KeyState, now_ms: float) -> dict[str, Any]:
    return {
        "breaker": key.breaker.state(now_ms).value,
        "disabled": key.out(now_ms),
        "closed_for_ms": int(min(max(0.0, key.group.closed_until - now_ms), 1e12)),
        "in_flight": key.aimd.in_flight,
        "limit": key.aimd.limit,
    }


def _make_keys(settings: ProviderSettings, keys: tuple[KeySettings, ...] | None = None) -> tuple[KeyState, ...]:
    """Key states, grouped by quota. Without a group of its own a key shares its provider's, as most limits do."""
    groups: dict[str, Group] = {}
    made: list[KeyState] = []
    for key in (settings.keys if keys is None else keys) or (NO_KEY,):
        if key.weight <= 0:
            continue
        name = f"{settings.name}/{key.quota_group or ''}"
        group = groups.setdefault(name, Group(name))
        group.rpm = _larger(group.rpm, key.rpm)
        group.tpm = _larger(group.tpm, key.tpm)
        made.append(KeyState(key, settings, group))
    return tuple(made)


def _limits(network: NetworkSettings) -> CallLimits:
    return CallLimits(
        total_timeout_ms=network.timeout_ms,
        connect_timeout_ms=min(network.connect_timeout_ms, network.timeout_ms),
        idle_timeout_ms=network.idle_timeout_ms,
        max_bytes=network.max_bytes,
        max_decompressed_bytes=network.max_decompressed_bytes,
    )


def _larger(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else max(one, other)
