"""Calibration beyond a line: steps over the text score, as one more tree of the classifier.

Tables of different levels make a curve of which no line through the log-odds is a fair picture. The steps only rise, and the
line keeps most of its slope under them: of two prompts that the trees correct alike, the order stays, and no two tie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from heimdall_models.classify import Platt
from heimdall_models.features import FEATURE_NAMES

Floats = NDArray[np.float64]

KEPT_SLOPE = 0.8
"""Of Platt's slope; less would let what the trees add outweigh the score wherever there is no step."""

LEAST_SLOPE = 0.01
"""Of any line. One that falls would turn the order round on the word of a few rows: the order stays, nearly flat."""

STEPS = 32
_SCORE = FEATURE_NAMES.index("text_score")


@dataclass(frozen=True, slots=True)
class Bend:
    """Log-odds `values` (k,), ascending, of text scores up to `edges` (k − 1,), ascending, and of those beyond the last."""

    edges: NDArray[np.float32]
    values: Floats

    def of(self, score: NDArray[np.float32]) -> Floats:
        """(n,) what is added to the log-odds of prompts with these text scores."""
        return np.asarray(self.values[np.searchsorted(self.edges, score, side="left")])

    def trees(self) -> list[dict[str, Any]]:
        """The same as a tree in LightGBM's nested JSON; none when there is no step."""
        return [{"tree_structure": self._node(0, len(self.values) - 1)}] if len(self.edges) else []

    def _node(self, low: int, high: int) -> dict[str, Any]:
        if low == high:
            return {"leaf_value": float(self.values[low])}
        middle = (low + high) // 2
        return {
            "split_feature": _SCORE,
            "decision_type": "<=",
            "threshold": float(self.edges[middle]),
            "left_child": self._node(low, middle),
            "right_child": self._node(middle + 1, high),
        }


STRAIGHT = Bend(np.zeros(0, np.float32), np.zeros(1))
"""No bend: the line alone."""


def fit_bend(score: NDArray[np.float32], log_odds: Floats, label: Floats, line: Platt) -> tuple[Bend, Platt]:
    """The bend, and the line to use with it, that minimise the cross-entropy to soft labels; all of them (n,).

    `line`: Platt's for the same `log_odds`. A line that hardly rises is left alone.
    """
    if line.slope <= LEAST_SLOPE:
        return STRAIGHT, line
    edges = np.unique(np.quantile(score, np.linspace(0, 1, STEPS + 1)[1:-1]).astype(np.float32))
    place = np.searchsorted(edges, score, side="left")
    slope = KEPT_SLOPE * line.slope

    def loss(theta: Floats) -> tuple[float, Floats]:
        """`theta`: the intercept, and how much each step rises."""
        z = slope * log_odds + np.cumsum(theta)[place]
        residual = 1 / (1 + np.exp(-z)) - label
        at_step = np.bincount(place, residual, len(theta))
        return float((np.logaddexp(0, z) - label * z).mean()), np.cumsum(at_step[::-1])[::-1] / len(label)

    start = np.zeros(len(edges) + 1)
    bounds = [(None, None)] + [(0.0, None)] * len(edges)
    found = np.cumsum(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x)
    return Bend(edges, (found - found[0]) / slope), Platt(slope, float(found[0]))
