"""What makes a prompt harder in every benchmark: how much of it there is, and little else.

A non-negative mix of logarithms of amounts. It is fitted to do well in the benchmark where it does *worst* (group
distributionally robust optimisation, arXiv 1911.08731) and pulled towards plain length, half in words and half in
characters: measured on benchmarks left out, whatever else a text says about difficulty held in some and misled in others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from heimdall_models.features import FEATURE_NAMES

Floats = NDArray[np.float64]

AMOUNTS = (
    "ask_chars_log",
    "stem_words_log",
    "distinct_words_log",
    "function_words_words_log",
    "letters_log",
    "sentence_ends_log",
    "commas_log",
    "words_per_sentence_log",
)
"""Logarithms of amounts of language; counts of digits or of notation mean opposite things in two formats."""

_PLAIN_LENGTH = {"stem_words_log": 0.5, "ask_chars_log": 0.5}
_PULL = 0.3
"""Of the squared distance to plain length, in units of correlation."""

_SHARPNESS = 30.0
"""How strongly the worst benchmark outweighs the others: correlations 0.1 apart count as e to the 3rd to 1."""

FEWEST_ROWS = 200
_FLOOR = 1e-3


def fit_workload(
    numeric: NDArray[np.float32], label: Floats, table: NDArray[np.int64], domain: NDArray[np.str_]
) -> Floats:
    """(features,) shares ≥ 0 that sum to 1: `numeric @ shares` ranks prompts by work within a domain.

    `label` (n,) 0..1: how well a cheap model answers; `table` (n,) and `domain` (n,): what is compared with what. Means of
    domains are taken out, since a new benchmark's own is unknown. Tables of fewer than `FEWEST_ROWS` rows do not vote.
    """
    columns = [FEATURE_NAMES.index(name) for name in AMOUNTS]
    groups = [np.flatnonzero(table == number) for number in np.unique(table)]
    large = [rows for rows in groups if len(rows) >= FEWEST_ROWS]
    moments = [
        _moments(numeric[rows][:, columns].astype(np.float64), 1.0 - label[rows], domain[rows]) for rows in large
    ]
    shares = np.zeros(len(FEATURE_NAMES))
    shares[columns] = _shares(moments)
    return shares


def slopes_of(shares: Floats, slope: float) -> tuple[tuple[int, float], ...]:
    """(column, log-odds per unit) of every column with a share."""
    return tuple((int(column), float(slope * shares[column])) for column in np.flatnonzero(shares))


def _moments(amounts: Floats, difficulty: Floats, domain: NDArray[np.str_]) -> tuple[Floats, Floats]:
    """Covariance (a, a) of the amounts within domains, and theirs (a,) with the standardised difficulty."""
    _, group = np.unique(domain, return_inverse=True)
    count = np.bincount(group)
    centred = difficulty - (np.bincount(group, difficulty) / count)[group]
    means = np.stack([np.bincount(group, column) / count for column in amounts.T], axis=1)
    inside = amounts - means[group]
    return inside.T @ inside / len(inside), inside.T @ centred / len(inside) / (centred.std() + _FLOOR)


def _shares(moments: Iterable[tuple[Floats, Floats]]) -> Floats:
    """(a,) the mix that correlates best with difficulty where it correlates worst; plain length without moments."""
    listed = list(moments)
    plain = np.array([_PLAIN_LENGTH.get(name, 0.0) for name in AMOUNTS])
    if not listed:
        return plain
    scale = np.sqrt(np.mean([np.diag(covariance) for covariance, _ in listed], axis=0)) + _FLOOR
    scaled = [(covariance / np.outer(scale, scale), shared / scale) for covariance, shared in listed]
    bounds = [(0.0, None)] * len(plain)
    found: Any = minimize(_loss, plain + _FLOOR, (scaled, plain), jac=True, method="L-BFGS-B", bounds=bounds)
    mix = np.where(found.x > _FLOOR, found.x, 0.0) / scale
    return np.asarray(mix / mix.sum())


def _loss(mix: Floats, moments: list[tuple[Floats, Floats]], plain: Floats) -> tuple[float, Floats]:
    """Minus the smooth minimum of the correlations, plus the pull; with its gradient."""
    found = [_correlation(mix, covariance, shared) for covariance, shared in moments]
    values = np.array([value for value, _ in found])
    weight = np.exp(-_SHARPNESS * (values - values.min()))
    worst = values.min() - np.log(weight.mean()) / _SHARPNESS
    away = mix - plain
    gradient = -np.stack([slope for _, slope in found], axis=1) @ (weight / weight.sum()) + _PULL * away
    return float(-worst + _PULL * (away @ away) / 2), gradient


def _correlation(mix: Floats, covariance: Floats, shared: Floats) -> tuple[float, Floats]:
    spread = float(np.sqrt(mix @ covariance @ mix + _FLOOR**2))
    value = float(shared @ mix) / spread
    return value, shared / spread - value * (covariance @ mix) / spread**2
