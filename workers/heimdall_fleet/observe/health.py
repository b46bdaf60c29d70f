"""Whether a worker can do its work: healthy, degraded or unhealthy, and why. Pure; the checks bring the facts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

HealthState = Literal["healthy", "degraded", "unhealthy"]
_ORDER: tuple[HealthState, ...] = ("healthy", "degraded", "unhealthy")


@dataclass(frozen=True, slots=True)
class Check:
    """What one part says of itself. `details` are plain JSON values: never a credential, never text of a request."""

    state: HealthState
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """All parts at one moment. Degraded still serves, so it stays ready; only unhealthy is not."""

    status: HealthState
    last_updated: datetime
    details: Mapping[str, Mapping[str, Any]]
    version: str

    @property
    def ready(self) -> bool:
        return self.status != "unhealthy"

    def as_json(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "last_updated": self.last_updated.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "details": self.details,
            "version": self.version,
        }


class Health:
    """The checks of one worker. Each is asked anew for every report, so a change shows at the next probe."""

    def __init__(self, version: str, clock: Callable[[], datetime]) -> None:
        self._version = version
        self._clock = clock
        self._checks: dict[str, Callable[[], Check]] = {}

    def add(self, name: str, check: Callable[[], Check]) -> None:
        """Add a part. The check reads values that are at hand; it never waits and never raises."""
        self._checks[name] = check

    def report(self) -> Report:
        return assess({name: check() for name, check in self._checks.items()}, self._clock(), self._version)


def assess(checks: Mapping[str, Check], now: datetime, version: str) -> Report:
    """The worst state of all parts, with each part's own. Without any part the worker has not started: unhealthy."""
    states: list[HealthState] = [check.state for check in checks.values()]
    status: HealthState = max(states, key=_ORDER.index) if states else "unhealthy"
    details = {name: {"status": check.state, **check.details} for name, check in checks.items()}
    return Report(status, now, details, version)
