"""What another policy would have earned, estimated from logs of the one that ran, with intervals.

SNIPS: Swaminathan and Joachims, "The self-normalized estimator for counterfactual learning", NIPS 2015. Doubly robust:
Dudík, Langford, Li, ICML 2011. Intervals: the influence of each question on the estimate, its spread by Student's t with
as many degrees of freedom as effective rows, since a few heavily weighted rows tell little of their own spread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from heimdall_models.learning.logged import Flags, Floats, Indices, Logged
from heimdall_models.learning.outcome import effective_size
from heimdall_models.learning.pairs import could_be_drawn, second_weights

LEVEL = 0.95
_STEP = 1e-5


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval; `effective`: how many equally weighted rows it rests on."""

    value: float
    low: float
    high: float
    effective: float

    @property
    def interval(self) -> tuple[float, float]:
        return self.low, self.high


def matches(choice: Indices, logged: Logged) -> Floats:
    """(n,) importance weights: 1 / p where the policy would have asked a model that answered, else 0."""
    same = (choice == logged.served) & (choice >= 0)
    weight = np.where(same, 1.0 / np.where(same, logged.p_served, 1.0), 0.0)
    return weight + second_weights(choice, logged) if logged.paired else weight


def possible(choice: Indices, logged: Logged) -> Flags:
    """(n,) rows in which the log could have shown what the policy would do: it did, or that model was drawn from."""
    if logged.paired:
        return np.asarray((choice == logged.served) | could_be_drawn(choice, logged))
    drawn = (logged.p_served < 1.0) & (choice >= 0)
    was = logged.drawable[np.arange(len(logged)), choice] & drawn
    return np.asarray((choice == logged.served) | was)


def snips(weight: Floats, reward: Floats, question: NDArray[np.str_]) -> Estimate:
    """Self-normalised mean reward: Σ w r / Σ w."""
    total = weight.sum()
    if not total:
        return Estimate(float("nan"), float("-inf"), float("inf"), 0.0)
    value = float(weight @ reward / total)
    influence = weight * (reward - value) * (len(weight) / total)
    return _estimate(value, influence, question, effective_size(weight))


def doubly_robust(choice: Indices, predicted: Floats, logged: Logged, observed: Floats) -> Floats:
    """(n,) scores whose mean is the policy's value: predictions (n, models) for its choices, corrected where it matches."""
    rows = np.arange(len(logged))
    of_choice = predicted[rows, choice]
    return np.asarray(of_choice + matches(choice, logged) * (observed - of_choice))


def mean_of(scores: Floats, question: NDArray[np.str_], effective: float) -> Estimate:
    """The mean of scores (n,)."""
    value = float(scores.mean())
    return _estimate(value, scores - value, question, effective)


def function_of(
    means: Callable[[Floats], float], scores: Sequence[Floats], question: NDArray[np.str_], effective: float
) -> Estimate:
    """A smooth function of the means of several scores (n,) each; its interval by the delta method."""
    columns = np.stack(scores)
    centre = columns.mean(axis=1)
    value = means(centre)
    slopes = np.array([_slope(means, centre, at) for at in range(len(centre))])
    return _estimate(value, slopes @ (columns - centre[:, None]), question, effective)


def _slope(means: Callable[[Floats], float], centre: Floats, at: int) -> float:
    step = _STEP * max(1.0, abs(float(centre[at])))
    up, down = centre.copy(), centre.copy()
    up[at] += step
    down[at] -= step
    return (means(up) - means(down)) / (2 * step)


def _estimate(value: float, influence: Floats, question: NDArray[np.str_], effective: float) -> Estimate:
    """`influence` (n,) has mean 0; rows of one question are one draw."""
    rows = len(influence)
    _, group = np.unique(question, return_inverse=True)
    per_question = np.bincount(group, influence)
    questions = len(per_question)
    if questions < 2 or effective <= 2.0 or not np.isfinite(value):
        return Estimate(value, float("-inf"), float("inf"), effective)
    spread = float(np.sqrt((per_question**2).sum() * questions / (questions - 1))) / rows
    reach = float(student.ppf((1 + LEVEL) / 2, min(effective, questions) - 1)) * spread
    return Estimate(value, value - reach, value + reach, effective)
