"""What workers hand to the metrics: one value for each thing that happened."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

DecisionType = Literal["scored", "cached", "pinned", "guarded", "explored", "sticky", "default"]
BreakerState = Literal["closed", "half_open", "open"]
ReloadOutcome = Literal["swapped", "unchanged", "refused"]


class Request(NamedTuple):
    """One request that reached its terminal state, `status`. `cache_hit`: the decision or the answer was in a cache."""

    bucket: str
    model: str
    status: str
    cache_hit: bool
    duration_s: float


class Attempt(NamedTuple):
    """One provider call. `status` is `ok` or a failure code of the closed list."""

    provider: str
    model: str
    status: str
    duration_s: float
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd_micros: int = 0


class Steps(Protocol):
    """Seconds of the steps that decide, for all `rows` that were judged; the others came from the cache."""

    rows: int
    features_s: float
    embedding_s: float
    classifier_s: float
    scores_s: float
    decision_s: float


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """What one micro-batch of triage took: all of its `size` requests together, and the steps of those judged."""

    size: int
    total_s: float
    steps: Steps
