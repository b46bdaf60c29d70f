"""APGR and the frontier from doubly robust scores: what a table with both sides' outcomes would show, in expectation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall_models.learning.logged import Floats
from heimdall_models.training.metrics import apgr, cpt, interval

ROUNDS = 300
FRONTIER_POINTS = 101


def areas(difficulties: Mapping[str, Floats], scores: Floats, question: NDArray[np.str_]) -> dict[str, Any]:
    """APGR by name with `NAME_ci95`, from scores (n, 2) of the cheap and strong side; None where the sides are alike.

    The interval is a bootstrap over questions. Where the strong side's lead is not clear, it is wide: that is the truth.
    """
    cheap, strong = scores[:, 0], scores[:, 1]
    samples = _resampled(list(difficulties.values()), strong - cheap, question)
    found: dict[str, Any] = {}
    for column, (name, difficulty) in enumerate(difficulties.items()):
        area = apgr(difficulty, cheap, strong)
        finite = samples[np.isfinite(samples[:, column]), column]
        found[name] = area if np.isfinite(area) else None
        found[f"{name}_ci95"] = interval(finite) if len(finite) else None
    return found


def frontier_of(difficulty: Floats, scores: Floats, costs: Floats) -> dict[str, Any]:
    """Share of strong calls, mean reward and mean cost (micro-dollars) with the hardest first; `cpt50`, `cpt80`.

    `costs`: (n, 2) what each side's answer costs.
    """
    order = np.argsort(-difficulty, kind="stable")
    reward, cost = (np.concatenate(([0.0], np.cumsum((v[:, 1] - v[:, 0])[order]))) for v in (scores, costs))
    count = len(difficulty)
    place = np.linspace(0, count, min(count + 1, FRONTIER_POINTS)).round().astype(np.int64)
    points = zip(
        (place / count).tolist(),
        (scores[:, 0].mean() + reward[place] / count).tolist(),
        (costs[:, 0].mean() + cost[place] / count).tolist(),
        strict=True,
    )
    cpts = {f"cpt{share}": cpt(difficulty, scores[:, 0], scores[:, 1], share / 100) for share in (50, 80)}
    return {"frontier": list(points), **{name: value if np.isfinite(value) else None for name, value in cpts.items()}}


def _resampled(difficulties: list[Floats], gain: Floats, question: NDArray[np.str_]) -> Floats:
    """(rounds, difficulties) areas on the same resampled questions."""
    rng = np.random.default_rng(ROUNDS)
    _, group = np.unique(question, return_inverse=True)
    count = int(group.max(initial=-1)) + 1
    orders = [np.argsort(-difficulty, kind="stable") for difficulty in difficulties]
    found = np.empty((ROUNDS, len(orders)))
    for number in range(ROUNDS):
        weight = np.bincount(rng.integers(count, size=count), minlength=count)[group].astype(np.float64)
        found[number] = [_area(gain[order], weight[order]) for order in orders]
    return found


def _area(gain: Floats, weight: Floats) -> float:
    weighted = gain * weight
    total = weighted.sum()
    if total == 0:
        return float("nan")
    return float(((np.cumsum(weighted) - weighted / 2) * weight).sum() / (total * weight.sum()))
