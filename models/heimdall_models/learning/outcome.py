"""What each side's answers are worth: two outcome models (a T-learner), and doubly robust scores of both sides.

T-learner: Künzel et al., "Metalearners for estimating heterogeneous treatment effects", PNAS 2019. Doubly robust scores:
Dudík, Langford, Li, "Doubly robust policy evaluation and learning", ICML 2011.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall_models.learning.logged import Floats, Indices, Logged
from heimdall_models.learning.pairs import side_probability
from heimdall_models.learning.sides import CHEAP, STRONG, Sides
from heimdall_models.training.fit import fit_reward, mean_reward

LARGEST_WEIGHT = 5.0
"""Of a row in fitting. 1 / p makes the rows of a side look like all traffic; beyond this it adds more noise than truth."""

_OWN_WEIGHT, _OWN_ROWS = 4.0, 350.0


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The fitted trees of the cheap and of the strong side."""

    cheap: Any
    strong: Any

    def predict(self, numeric: NDArray[np.float32]) -> Floats:
        """(n, 2) mean reward of the cheap and of the strong side."""
        return np.stack((mean_reward(self.cheap, numeric), mean_reward(self.strong, numeric)), axis=1)


def usable(logged: Logged, sides: Sides) -> Indices:
    """Rows with a reward, answered by a model of one of the sides."""
    return np.flatnonzero(np.isfinite(logged.reward) & (sides.of(logged.served) >= 0))


def fit_outcomes(logged: Logged, sides: Sides, seed: int = 0) -> Outcomes:
    """One outcome model a side, on rows that are all usable and of both sides."""
    side = sides.of(logged.served)
    weight = fit_weights(logged.p_served)
    cheap, strong = (_fit(logged, weight, np.flatnonzero(side == number), seed) for number in (CHEAP, STRONG))
    return Outcomes(cheap, strong)


def fit_weights(p_served: Floats) -> Floats:
    """(n,) 1 / p, at most `LARGEST_WEIGHT`; 1 where the probability is unknown."""
    known = np.isfinite(p_served) & (p_served > 0)
    return np.where(known, np.minimum(1.0 / np.where(known, p_served, 1.0), LARGEST_WEIGHT), 1.0)


def corrected(predicted: Floats, logged: Logged, sides: Sides) -> Floats:
    """(n, 2) predictions (n, 2), each side that answered corrected by its weighted error: soft labels to calibrate on.

    The weights are capped as in fitting, so these are less noisy than unbiased scores, and lean on the predictions.
    """
    scores = predicted.copy()
    side, rows = sides.of(logged.served), np.arange(len(logged))
    scores[rows, side] += fit_weights(logged.p_served) * (logged.reward - predicted[rows, side])
    return scores


def side_scores(predicted: Floats, logged: Logged, sides: Sides) -> Floats:
    """(n, 2) doubly robust scores: unbiased for what each side's answers are worth wherever it could have been asked.

    Every row needs its probability; rows of no side, or without a reward, keep their predictions (n, 2).
    """
    scores = predicted.copy()
    side = sides.of(logged.served)
    rows = np.flatnonzero((side >= 0) & np.isfinite(logged.reward))
    place = rows, side[rows]
    scores[place] += (logged.reward[rows] - predicted[place]) / logged.p_served[rows]
    if logged.paired:
        second = sides.of(logged.shadows.model)
        chance = side_probability(second, logged)
        rows = np.flatnonzero((second >= 0) & (second != side))
        place = rows, second[rows]
        scores[place] += (logged.shadows.reward[rows] - predicted[place]) / chance[rows]
    return scores


def effective_size(weight: Floats) -> float:
    """(Σw)² / Σw²: how many equally weighted rows say as much (Kish)."""
    squares = float((weight * weight).sum())
    return float(weight.sum()) ** 2 / squares if squares else 0.0


def effective_rows(logged: Logged) -> float:
    """How many rows of even exploration say as much as these: 5 % exploration of two models makes a tenth of them."""
    known = np.isfinite(logged.p_served) & (logged.p_served > 0)
    return effective_size(1.0 / logged.p_served[known])


def own_weight(effective: float) -> float:
    """What own trees count for beside the prior's 1.

    They are themselves the flatter the fewer rows they saw: with few labels the prior's order rules, with many the own one.
    """
    return _OWN_WEIGHT * (1.0 + effective / _OWN_ROWS)


def _fit(logged: Logged, weight: Floats, rows: Indices, seed: int) -> Any:
    return fit_reward(logged.features[rows], logged.reward[rows], weight[rows], seed)
