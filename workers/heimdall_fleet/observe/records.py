"""What workers hand to the metrics: one value for each thing that happened."""

from dataclasses import dataclass
from typing import Literal

DecisionType = Literal["scored", "cached", "pinned", "guarded", "explored", "sticky", "default"]
BreakerState = Literal["closed", "half_open", "open"]
ReloadOutcome = Literal["swapped", "unchanged", "refused"]


@dataclass(frozen=True, slots=True)
class Request:
    """One request that reached its terminal state, `status`. `cache_hit`: the decision or the answer was in a cache."""

    bucket: str
    model: str
    status: str
    cache_hit: bool
    duration_s: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """One provider call. `status` is `ok` or a failure code of the closed list."""

    provider: str
    model: str
    status: str
    duration_s: float
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd_micros: int = 0


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """What one micro-batch of triage took, in seconds for the whole batch; None for a step that did not run."""

    size: int
    total_s: float
    features_s: float
    embedding_s: float | None = None
    classifier_s: float | None = None
    scores_s: float | None = None
