"""How good a ranking of prompts is for routing between a cheap and a strong model.

APGR and CPT are those of RouteLLM (arXiv 2406.18665, section 2.3): PGR is the share of the quality gap between the two
models that a router recovers, APGR its mean over the share of calls sent to the strong model, CPT(x) the smallest share
of strong calls at which PGR reaches x. Ties in a score are broken at random, in expectation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall_models.classify import BUCKETS, Thresholds, bucket_of

Floats = NDArray[np.float64]

ECE_BINS = 15
BOOTSTRAP_ROUNDS = 500


@dataclass(frozen=True, slots=True)
class Frontier:
    """PGR (n + 1,) at each share (n + 1,) of calls to the strong model, hardest prompts first."""

    share: Floats
    pgr: Floats


def frontier(difficulty: Floats, cheap: Floats, strong: Floats) -> Frontier:
    """The curve of a router that sends the most difficult prompts to the strong model; all arguments (n,)."""
    order, gain = _ordered_gain(difficulty, cheap, strong)
    total = gain.sum()
    recovered = np.concatenate(([0.0], np.cumsum(gain[order]))) / (total if total else np.nan)
    return Frontier(np.linspace(0.0, 1.0, len(recovered)), recovered)


def apgr(difficulty: Floats, cheap: Floats, strong: Floats) -> float:
    """Area under the frontier; 0.5 for any constant score. NaN when both models are equally good."""
    curve = frontier(difficulty, cheap, strong)
    return float(np.trapezoid(curve.pgr, curve.share))


def cpt(difficulty: Floats, cheap: Floats, strong: Floats, target: float) -> float:
    """Smallest share of strong calls with PGR ≥ target; NaN when the strong model is not better."""
    curve = frontier(difficulty, cheap, strong)
    if not curve.pgr[-1] > 0 or strong.sum() <= cheap.sum():
        return float("nan")
    return float(curve.share[np.argmax(curve.pgr >= target)])


def apgr_resampled(
    difficulties: Sequence[Floats], cheap: Floats, strong: Floats, rounds: int = BOOTSTRAP_ROUNDS
) -> Floats:
    """(rounds, scores) APGR of several scores on the same resampled prompts, so that differences can be taken."""
    rng = np.random.default_rng(rounds)
    count = len(cheap)
    ordered = [(order, gain[order]) for order, gain in (_ordered_gain(d, cheap, strong) for d in difficulties)]
    areas = np.empty((rounds, len(ordered)))
    for number in range(rounds):
        weight = np.bincount(rng.integers(count, size=count), minlength=count).astype(np.float64)
        areas[number] = [_weighted_area(gain, weight[order]) for order, gain in ordered]
    return areas


def interval(samples: Floats) -> tuple[float, float]:
    """The middle 95 % of samples (rounds,)."""
    low, high = np.nanpercentile(samples, [2.5, 97.5])
    return float(low), float(high)


def auc(score: Floats, label: Floats) -> float:
    """Chance that a prompt with a higher label has the higher score; labels are soft (0..1), as weights. NaN for one class."""
    positive = label.sum()
    negative = len(label) - positive
    if positive == 0 or negative == 0:
        return float("nan")
    # Each prompt counts `label` times as a positive and 1 − `label` times as a negative.
    return float((label * _weights_below(score, 1 - label)).sum() / (positive * negative))


def calibration_error(probability: Floats, label: Floats, bins: int = ECE_BINS) -> float:
    """ECE: mean over prompts of |mean probability − mean label| in its bin, bins of equal width."""
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    gap = np.bincount(place, weights=probability - label, minlength=bins)
    return float(np.abs(gap).sum() / len(label))


def calibration_bins(probability: Floats, label: Floats, bins: int = ECE_BINS) -> list[tuple[float, float, int]]:
    """Mean probability, mean label and count of every bin that has prompts."""
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    sums = zip(
        np.bincount(place, probability, bins).tolist(),
        np.bincount(place, label, bins).tolist(),
        count.tolist(),
        strict=True,
    )
    return [(p / n, y / n, n) for p, y, n in sums if n]


def bucket_shares(percentile: Floats) -> dict[str, float]:
    """Shares of the buckets at the default thresholds."""
    found = [bucket_of(value, Thresholds()) for value in percentile.tolist()]
    return {bucket: found.count(bucket) / len(found) for bucket in BUCKETS}


def _ordered_gain(difficulty: Floats, cheap: Floats, strong: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Hardest first, and the gain of the strong model with the gains of tied prompts levelled."""
    gain = strong - cheap
    order = np.argsort(-difficulty, kind="stable")
    _, group = np.unique(difficulty, return_inverse=True)
    level = np.bincount(group, weights=gain) / np.bincount(group)
    return order, level[group]


def _weighted_area(gain: Floats, weight: Floats) -> float:
    """Area under the frontier of prompts in order, each standing for `weight` of them."""
    weighted = gain * weight
    total = weighted.sum()
    if total == 0:
        return float("nan")
    middle = (np.cumsum(weighted) - weighted / 2) / total
    return float((middle * weight).sum() / weight.sum())


def _weights_below(score: Floats, weight: Floats) -> Floats:
    """For each prompt the weight of all prompts with a lower score, and half of those tied with it."""
    _, group = np.unique(score, return_inverse=True)
    by_group = np.bincount(group, weights=weight)
    return (np.cumsum(by_group) - by_group / 2)[group]
