"""Which of the keys that may serve a call gets it: one plain function per strategy.

Each takes keys that are healthy, open and have room, and changes nothing but their turn-keeping fields.
"""

from collections.abc import Callable, Mapping, Sequence

from heimdall_fleet.dispatch.capacity.keys import KeyState
from heimdall_fleet.dispatch.settings import KeyStrategy


def pick(keys: Sequence[KeyState], strategy: KeyStrategy, turn: int, floor_share: float) -> KeyState:
    """One of `keys` (not empty). `turn` grows by one with each pick at the provider."""
    chosen = keys[0] if len(keys) == 1 else _STRATEGIES[strategy](keys, floor_share)
    chosen.picked = turn
    return chosen


def weighted(keys: Sequence[KeyState], floor_share: float = 0.0) -> KeyState:
    """Shares as the weights say, evenly interleaved (smooth weighted round-robin, as nginx does it)."""
    return _smooth([(key, key.settings.weight) for key in keys])


def round_robin(keys: Sequence[KeyState], floor_share: float = 0.0) -> KeyState:
    """The one whose last turn is longest ago."""
    return min(keys, key=lambda key: key.picked)


def least_latency(keys: Sequence[KeyState], floor_share: float = 0.0) -> KeyState:
    """The fastest by its moving average; one that was never measured goes first."""
    return min(keys, key=lambda key: (key.latency_ms, key.picked))


def adaptive(keys: Sequence[KeyState], floor_share: float) -> KeyState:
    """By errors, latency and headroom together; every key keeps at least `floor_share`, so that recovery is seen."""
    fastest = min((key.latency_ms for key in keys if key.latency_ms), default=1.0)
    scores = [_score(key, fastest) for key in keys]
    floor = floor_share * sum(scores)
    return _smooth([(key, max(score, floor)) for key, score in zip(keys, scores, strict=True)])


def _score(key: KeyState, fastest_ms: float) -> float:
    speed = fastest_ms / key.latency_ms if key.latency_ms else 1.0
    return key.settings.weight * (1.0 - key.error_share) ** 2 * speed * (0.5 + 0.5 * key.aimd.headroom)


def _smooth(weights: Sequence[tuple[KeyState, float]]) -> KeyState:
    chosen, total = weights[0][0], 0.0
    for key, weight in weights:
        total += weight
        key.credit += weight
        if key.credit > chosen.credit:
            chosen = key
    chosen.credit -= total
    return chosen


_STRATEGIES: Mapping[KeyStrategy, Callable[[Sequence[KeyState], float], KeyState]] = {
    KeyStrategy.WEIGHTED: weighted,
    KeyStrategy.ROUND_ROBIN: round_robin,
    KeyStrategy.LEAST_LATENCY: least_latency,
    KeyStrategy.ADAPTIVE: adaptive,
}
