"""What the steps of a batch took, for the metrics."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(slots=True)
class StepTimes:
    """Seconds for all `rows` that were judged (those that came from the cache are none).

    `features_s` holds the embedding too; `decision_s` is from the classifier to the choice.
    """

    rows: int = 0
    features_s: float = 0.0
    embedding_s: float = 0.0
    classifier_s: float = 0.0
    scores_s: float = 0.0
    decision_s: float = 0.0


class Timing(NamedTuple):
    """The clock of a batch, when it began, and where its steps are written down."""

    clock: Callable[[], float]
    started_s: float
    times: StepTimes
