"""What a worker knows of each credential while it runs. Only names leave this package."""

import math

from heimdall_fleet.dispatch.capacity.aimd import Aimd
from heimdall_fleet.dispatch.capacity.breaker import Breaker
from heimdall_fleet.dispatch.routes import serves
from heimdall_fleet.dispatch.settings import KeySettings, ProviderSettings


class Group:
    """Keys that share one quota at the provider: they are limited, and closed, together."""

    __slots__ = ("closed_until", "cooldown_ms", "name", "rpm", "tpm")

    def __init__(self, name: str) -> None:
        self.name = name
        self.closed_until = -math.inf
        self.cooldown_ms = 0.0
        self.rpm: int | None = None
        self.tpm: int | None = None


_SMOOTHING = 0.2
_REFUSED_LOOK_MS = 300_000.0
_UNMEASURED = 0.0


class KeyState:
    """One key at work: its group, breaker, concurrency and what its calls looked like lately."""

    __slots__ = (
        "aimd",
        "breaker",
        "credit",
        "disabled",
        "disabled_until",
        "error_share",
        "group",
        "latency_ms",
        "look_at",
        "name",
        "picked",
        "rules",
        "settings",
    )

    def __init__(self, settings: KeySettings, provider: ProviderSettings, group: Group) -> None:
        self.settings = settings
        self.name = settings.name
        self.group = group
        ceiling = provider.concurrency or provider.max_concurrency
        self.rules = (provider.circuit, provider.start_concurrency, ceiling)
        self.breaker = Breaker(provider.circuit)
        self.aimd = Aimd(provider.start_concurrency, ceiling)
        self.disabled: str | None = None
        self.disabled_until = math.inf
        self.look_at = math.inf
        self.latency_ms = _UNMEASURED
        self.error_share = 0.0
        self.credit = 0.0
        self.picked = 0

    def ready_at(self, now_ms: float) -> float:
        """When a call may start with this key; never for one that was refused, but for its look now and then."""
        opens = max(self.group.closed_until, self.aimd.closed_until)
        if self.breaker.open_until is not None:
            opens = max(opens, self.breaker.ready_at(now_ms))
        if self.disabled is None or now_ms >= self.look_at:
            return opens
        return max(opens, self.disabled_until)

    def disable(self, reason: str, until_ms: float, now_ms: float) -> None:
        """Out of use until the provider's own quota opens again; without a date, until it is replaced or a look finds
        that it works."""
        self.disabled, self.disabled_until = reason, until_ms
        self.look_at = now_ms + _REFUSED_LOOK_MS if until_ms == math.inf else until_ms

    def looked(self, now_ms: float) -> None:
        """One call tries a refused key; the others wait for what it finds, or for the next look."""
        self.look_at = now_ms + _REFUSED_LOOK_MS

    def out(self, now_ms: float) -> str | None:
        """Why the key is out of use now, as a failure code."""
        return self.disabled if now_ms < self.disabled_until else None

    def inherit(self, old: "KeyState") -> None:
        """The same credential under a new list of keys: what is known of it goes on, by the same rules."""
        if self.rules == old.rules:
            self.breaker, self.aimd = old.breaker, old.aimd
        self.disabled, self.disabled_until, self.look_at = old.disabled, old.disabled_until, old.look_at
        self.latency_ms, self.error_share = old.latency_ms, old.error_share
        self.group.closed_until = max(self.group.closed_until, old.group.closed_until)

    def serves(self, model_there: str, model_id: str) -> bool:
        return serves(self.settings.models, model_there, model_id)

    def learn(self, latency_ms: float, healthy: bool) -> None:
        """Fold one finished call into the moving averages. The latency of a failed call says nothing about speed."""
        self.error_share += _SMOOTHING * ((0.0 if healthy else 1.0) - self.error_share)
        if healthy:
            before = self.latency_ms or latency_ms
            self.latency_ms = before + _SMOOTHING * (latency_ms - before)


NO_KEY = KeySettings(name="none", secret="")
"""Stands in where a provider needs no credential: Ollama, a server of one's own, the machine's own identity."""
