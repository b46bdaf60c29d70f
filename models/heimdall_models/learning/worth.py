"""What a policy is worth: reward and cost of its choices, and both beside a blind mix of the two sides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from heimdall_models.learning.logged import Floats, Indices, Logged
from heimdall_models.learning.offpolicy import (
    Estimate,
    doubly_robust,
    function_of,
    matches,
    mean_of,
    possible,
    snips,
)
from heimdall_models.learning.outcome import effective_size
from heimdall_models.learning.pairs import shown
from heimdall_models.learning.predict import Predicted
from heimdall_models.learning.sides import STRONG, Sides


@dataclass(frozen=True, slots=True)
class Scores:
    """Doubly robust scores (n,) of a policy's rewards and costs, and where the log could have shown its choice."""

    choice: Indices
    reward: Floats
    cost: Floats
    effective: float
    possible: float


@dataclass(frozen=True, slots=True)
class Worth:
    """A policy's value. Rewards 0..1, costs in micro-dollars a request.

    `reward`, `cost`: doubly robust. `snips`: self-normalised reward, without any model's help. `lift`: reward above that of
    a blind mix of the two sides for the same money. `saving`: share of the cost of the blind mix that earns as much,
    which is saved. `strong_share`: of its choices. `possible`: share of rows in which the log could have shown its choice.
    """

    reward: Estimate
    snips: Estimate
    cost: Estimate
    lift: Estimate
    saving: Estimate
    strong_share: float
    effective: float
    possible: float


@dataclass(frozen=True, slots=True)
class Ground:
    """What all policies are judged on: the rows, predictions, expected costs (n, models), and the two sides alone."""

    logged: Logged
    sides: Sides
    predicted: Predicted
    cost: Floats
    cheap: Scores
    strong: Scores


def ground_of(logged: Logged, sides: Sides, predicted: Predicted, cost: Floats) -> Ground:
    """Rows with their predictions; each side stands by the model of it that answered most."""
    known = np.where(np.isfinite(cost), cost, 0.0)
    alone = [
        scores_of(np.full(len(logged), leader(logged, sides, side)), logged, predicted, known) for side in (0, STRONG)
    ]
    return Ground(logged, sides, predicted, known, *alone)


def leader(logged: Logged, sides: Sides, side: int) -> int:
    """Number of the model of a side that answered most."""
    answered = np.concatenate((logged.served, logged.shadows.model)) if logged.paired else logged.served
    count = np.bincount(answered[answered >= 0], minlength=len(logged.models))
    return int(np.argmax(np.where(sides.of_model == side, count, -1)))


def scores_of(choice: Indices, logged: Logged, predicted: Predicted, cost: Floats) -> Scores:
    """Scores of the policy that asks `choice` (n,) numbers of models."""
    second = logged.shadows
    paid = shown(choice, logged, logged.cost_usd_micros, second.cost_usd_micros)
    earned = shown(choice, logged, logged.reward, second.reward)
    rows = np.arange(len(logged))
    observed = np.where(np.isfinite(paid), paid, cost[rows, choice])
    return Scores(
        choice=choice,
        reward=doubly_robust(choice, predicted.models, logged, earned),
        cost=doubly_robust(choice, cost, logged, observed),
        effective=effective_size(matches(choice, logged)),
        possible=float(possible(choice, logged).mean()),
    )


def worth_of(scores: Scores, ground: Ground) -> Worth:
    """Everything about one policy."""
    question = ground.logged.question
    weight = matches(scores.choice, ground.logged)
    earned = shown(scores.choice, ground.logged, ground.logged.reward, ground.logged.shadows.reward)
    return Worth(
        reward=mean_of(scores.reward, question, scores.effective),
        snips=snips(weight, earned, question),
        cost=mean_of(scores.cost, question, scores.effective),
        lift=_beside_mix(scores, ground, _lift),
        saving=_beside_mix(scores, ground, _saving),
        strong_share=float((ground.sides.of(scores.choice) == STRONG).mean()),
        effective=scores.effective,
        possible=scores.possible,
    )


def lift_difference(one: Scores, other: Scores, ground: Ground) -> Estimate:
    """How much more `one` earns than `other` at equal spending: the difference of their lifts, on the same rows."""
    columns = [one.reward, one.cost, other.reward, other.cost, *_sides(ground)]

    def difference(m: Floats) -> float:
        return _lift(np.concatenate((m[:2], m[4:]))) - _lift(m[2:])

    return function_of(difference, columns, ground.logged.question, min(one.effective, other.effective))


def _beside_mix(scores: Scores, ground: Ground, measure: Callable[[Floats], float]) -> Estimate:
    return function_of(measure, [scores.reward, scores.cost, *_sides(ground)], ground.logged.question, scores.effective)


def _sides(ground: Ground) -> list[Floats]:
    return [ground.cheap.reward, ground.cheap.cost, ground.strong.reward, ground.strong.cost]


def _lift(m: Floats) -> float:
    """`m`: reward and cost of the policy, of the cheap side, of the strong side. More spending buys no more."""
    span = m[5] - m[3]
    share = float(np.clip((m[1] - m[3]) / span, 0.0, 1.0)) if span > 0 else 0.0
    return float(m[0] - (m[2] + share * (m[4] - m[2])))


def _saving(m: Floats) -> float:
    """NaN where the strong side earns no more than the cheap one: then there is no mix that earns as much."""
    if m[4] <= m[2]:
        return float("nan")
    mix = m[3] + (m[0] - m[2]) / (m[4] - m[2]) * (m[5] - m[3])
    return float(1.0 - m[1] / mix) if mix > 0 else float("nan")
