"""What happens to one call: a plain function of the plan, a draw and the time."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from heimdall_fleet.providers.scripted.calls import Outcome
from heimdall_fleet.providers.scripted.plan import Behaviour

_RATE_WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class Fate:
    outcome: Outcome
    status: int
    latency_s: float
    retry_after_s: float | None = None


class Odds:
    """One behaviour, prepared for drawing."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self._steps = _steps(behaviour, streaming=False)
        self._stream_steps = _steps(behaviour, streaming=True)
        self._certain = Fate("ok", 200, behaviour.latency_ms.median / 1000)
        self.needs_draw = bool(self._steps or self._stream_steps or behaviour.latency_ms.sigma)

    def fate(self, draw: tuple[float, float], elapsed_s: float, *, streaming: bool) -> Fate:
        """The fate at `elapsed_s` after the plan was set; `draw` is two uniform numbers in (0, 1)."""
        behaviour = self.behaviour
        for outage in behaviour.outages:
            if outage.start_s <= elapsed_s < outage.end_s:
                return self._refusal(outage.status, 0.0)
        if not self.needs_draw:
            return self._certain
        latency_s = behaviour.latency_ms.at(draw[1]) / 1000
        for limit, outcome, status in self._stream_steps if streaming else self._steps:
            if draw[0] < limit:
                return self._refusal(status, latency_s) if outcome == "error" else Fate(outcome, status, latency_s)
        return Fate("ok", 200, latency_s)

    def _refusal(self, status: int, latency_s: float) -> Fate:
        return Fate("error", status, latency_s, self.behaviour.retry_after_s if status in (429, 503) else None)


def _steps(behaviour: Behaviour, *, streaming: bool) -> list[tuple[float, Outcome, int]]:
    """Shares added up, in a fixed order, so that one uniform number picks the outcome."""
    shares: list[tuple[float, Outcome, int]] = [(share, "error", status) for status, share in behaviour.errors.items()]
    shares += [(behaviour.hang, "hang", 200), (behaviour.error_in_200, "error_in_200", 200)]
    shares.append((behaviour.cut_stream, "cut", 200) if streaming else (behaviour.truncated_body, "truncated", 200))
    steps, reached = [], 0.0
    for share, outcome, status in shares:
        if share > 0:
            reached += share
            steps.append((reached, outcome, status))
    return steps


def draw_for(seed: int, *identity: str | int) -> tuple[float, float]:
    """Two uniform numbers in (0, 1), always the same for the same words."""
    text = "\0".join(map(str, (seed, *identity)))
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return _uniform(digest[:8]), _uniform(digest[8:])


def _uniform(digest: bytes) -> float:
    return ((int.from_bytes(digest, "big") >> 11) + 0.5) / 2**53


class RateWindows:
    """Calls per key in the current minute."""

    def __init__(self) -> None:
        self._windows: dict[str, tuple[float, int]] = {}

    def wait_s(self, key: str, limit: int, now_s: float) -> float:
        """0 when the call fits, else the seconds until the window ends."""
        start, calls = self._windows.get(key, (now_s, 0))
        if now_s - start >= _RATE_WINDOW_S:
            start, calls = now_s, 0
        if calls >= limit:
            return start + _RATE_WINDOW_S - now_s
        self._windows[key] = start, calls + 1
        return 0.0


ERROR_WORDS: Mapping[int, str] = {
    400: "The request is invalid.",
    401: "Incorrect API key provided.",
    402: "Insufficient balance.",
    403: "The key may not use this.",
    404: "The model does not exist.",
    429: "Rate limit reached.",
    500: "The server had an error.",
    503: "The server is overloaded.",
    529: "Overloaded.",
}
