"""Breakers of the models at one provider, so that one sick model of an aggregator does not close all the others.

A failure is the model's own when another model of the same provider has answered since the model began to fail. Until
then, and for a provider that cannot be reached at all, it counts against key and provider as well. Only models that
failed lately are kept, so a healthy provider costs nothing here.
"""

import math

from heimdall_fleet.dispatch.capacity.breaker import Breaker, BreakerState
from heimdall_fleet.dispatch.settings import BreakerSettings

_MAX_SICK = 1_000


class _Sick:
    """A model that failed lately. `others_answer`: another model has answered since."""

    __slots__ = ("breaker", "others_answer")

    def __init__(self, settings: BreakerSettings) -> None:
        self.breaker = Breaker(settings)
        self.others_answer = False


class ModelHealth:
    """The models of one provider, by their names there. Moments are monotonic milliseconds."""

    __slots__ = ("_settings", "_sick")

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._sick: dict[str, _Sick] = {}

    def __len__(self) -> int:
        return len(self._sick)

    def ready_at(self, model: str, now_ms: float) -> float:
        """When a call to `model` may start, as `Breaker.ready_at`."""
        sick = self._sick.get(model)
        return -math.inf if sick is None else sick.breaker.ready_at(now_ms)

    def start(self, model: str, now_ms: float) -> bool:
        """Count a call in; true when it is a probe."""
        sick = self._sick.get(model)
        return sick is not None and sick.breaker.start(now_ms)

    def end(self, model: str, probe: bool, healthy: bool | None, now_ms: float) -> bool | None:
        """Count a call out; returns what key and provider shall count: None for a failure that is the model's own."""
        if healthy is False:
            return self._failed(model, probe, now_ms)
        if not self._sick:
            return healthy
        sick = self._sick.get(model)
        if sick is not None:
            sick.breaker.end(probe, healthy, now_ms)
        if healthy:
            self._answered(model, now_ms)
        return healthy

    def open(self, now_ms: float) -> list[str]:
        """Models that get no traffic now."""
        return [name for name, sick in self._sick.items() if sick.breaker.state(now_ms) is not BreakerState.CLOSED]

    def _failed(self, model: str, probe: bool, now_ms: float) -> bool | None:
        sick = self._sick.get(model)
        if sick is None:
            if len(self._sick) >= _MAX_SICK:
                return False
            sick = self._sick[model] = _Sick(self._settings)
        sick.breaker.end(probe, False, now_ms)
        return None if sick.others_answer else False

    def _answered(self, model: str, now_ms: float) -> None:
        for name, sick in self._sick.items():
            sick.others_answer = sick.others_answer or name != model
        mine = self._sick.get(model)
        if mine is not None and mine.breaker.state(now_ms) is BreakerState.CLOSED and not mine.breaker.calls(now_ms)[1]:
            del self._sick[model]
