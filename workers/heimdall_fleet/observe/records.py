"""What workers hand to the metrics: one value for each thing that happened."""

from dataclasses import dataclass
from typing import Literal, Protocol

DecisionType = Literal["scored", "cached", "pinned", "guarded", "explored", "sticky", "default"]
BreakerState = Literal["closed", "half_open", "open"]
ReloadOutcome = Literal["swapped", "unchanged", "refused"]


class Tokens(Protocol):
    """Tokens of one provider call."""

    @property
    def prompt(self) -> int: ...
    @property
    def completion(self) -> int: ...


class Attempt(Protocol):
    """One provider call. `failure`: a code of the closed list, None when it was answered."""

    @property
    def provider(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def failure(self) -> str | None: ...
    @property
    def latency_ms(self) -> float: ...
    @property
    def tokens(self) -> Tokens: ...
    @property
    def cost_usd_micros(self) -> int: ...


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
