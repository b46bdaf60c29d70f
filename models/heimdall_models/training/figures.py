"""The figures of one ranking of prompts: areas and intervals, calibration, buckets, wins, and each baseline beside it.

Definitions are those of `training.metrics` (RouteLLM, arXiv 2406.18665). Intervals are 95 % percentile bootstraps over
*questions*: prompts that ask the same question in other wrapping are drawn together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall_models.classify import BUCKETS, Thresholds, bucket_of
from heimdall_models.conversation import Conversation
from heimdall_models.training.baselines import BASELINES, SINGLE_MODELS
from heimdall_models.training.metrics import (
    BOOTSTRAP_ROUNDS,
    ECE_BINS,
    apgr,
    auc,
    calibration_error,
    cpt,
    frontier,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FRONTIER_POINTS = 51
FEWEST_ROWS = 30
"""A group of fewer prompts gets no row of its own: its area would be noise."""

EVEN_SPLIT = 0.5
"""Difficulty percentile above which the routed pair of the win rates sends a prompt to the strong model."""

_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Judged:
    """`n` prompts: what a router says of each, how both models did, and where it comes from.

    `difficulty`, `p_cheap_ok`, `percentile`, `cheap`, `strong`: (n,) float64, the last two scores 0..1. `question`: (n,)
    equal for one question. `groups`: names (n,) by kind of group (`table`, `bench`, `domain`). `rivals`: (n,) difficulty
    of each baseline.
    """

    difficulty: Floats
    p_cheap_ok: Floats
    percentile: Floats
    cheap: Floats
    strong: Floats
    question: Ints
    groups: Mapping[str, NDArray[np.str_]]
    rivals: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.difficulty)

    def rows(self, keep: NDArray[np.integer[Any]]) -> Judged:
        """These prompts only."""
        return Judged(
            self.difficulty[keep],
            self.p_cheap_ok[keep],
            self.percentile[keep],
            self.cheap[keep],
            self.strong[keep],
            self.question[keep],
            {kind: names[keep] for kind, names in self.groups.items()},
            {name: score[keep] for name, score in self.rivals.items()},
        )


def rivals_of(conversations: Sequence[Conversation]) -> dict[str, Floats]:
    """(n,) difficulty of every baseline."""
    return {baseline.name: baseline.score(conversations) for baseline in BASELINES}


def figures(judged: Judged, rounds: int = BOOTSTRAP_ROUNDS) -> dict[str, Any]:
    """n, questions, apgr, apgr_ci95, cpt50, cpt80, auc, ece, mean scores, buckets and baselines; None where undefined."""
    names = list(judged.rivals)
    scores = [judged.difficulty, *judged.rivals.values()]
    areas = _resampled_areas(scores, judged.strong - judged.cheap, judged.question, rounds)
    own = _ranking(judged.difficulty, judged, areas[0])
    beside = {
        name: _ranking(judged.rivals[name], judged, area) | {"lead_ci95": _interval(areas[0] - area)}
        for name, area in zip(names, areas[1:], strict=True)
    }
    for name, mean in zip(SINGLE_MODELS, (judged.cheap, judged.strong), strict=True):
        beside.setdefault(name, {})["mean_score"] = float(mean.mean())
    return {
        "n": len(judged),
        "questions": len(np.unique(judged.question)),
        **own,
        "ece": calibration_error(judged.p_cheap_ok, judged.cheap),
        "cheap_mean": float(judged.cheap.mean()),
        "strong_mean": float(judged.strong.mean()),
        "buckets": bucket_shares(judged.percentile),
        "baselines": beside,
    }


def plain(value: Any) -> Any:
    """The same with every number rounded to six digits and None for what is not a number: fit for JSON."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return round(value, _DIGITS) if math.isfinite(value) else None
    return value


def curve(difficulty: Floats, judged: Judged) -> list[list[float]]:
    """[share of strong calls, PGR] at evenly spaced shares."""
    whole = frontier(difficulty, judged.cheap, judged.strong)
    shares = np.linspace(0.0, 1.0, FRONTIER_POINTS)
    return np.stack((shares, np.interp(shares, whole.share, whole.pgr)), axis=1).tolist()


def calibration(judged: Judged) -> list[dict[str, Any]]:
    """For each bin that holds prompts: its limits, how many, mean probability and mean score of the cheap model."""
    place = np.minimum((judged.p_cheap_ok * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    count = np.bincount(place, minlength=ECE_BINS)
    said = np.bincount(place, weights=judged.p_cheap_ok, minlength=ECE_BINS)
    found = np.bincount(place, weights=judged.cheap, minlength=ECE_BINS)
    return [
        {
            "low": number / ECE_BINS,
            "high": (number + 1) / ECE_BINS,
            "n": int(count[number]),
            "said": float(said[number] / count[number]),
            "found": float(found[number] / count[number]),
        }
        for number in np.flatnonzero(count).tolist()
    ]


def by_group(judged: Judged, kind: str) -> list[dict[str, Any]]:
    """One row for each name of `kind` with at least `FEWEST_ROWS` prompts, in order of name."""
    names = judged.groups[kind]
    rows = []
    for name in sorted(set(names.tolist())):
        part = judged.rows(np.flatnonzero(names == name))
        if len(part) >= FEWEST_ROWS:
            rows.append({kind: name, **_short(part)})
    return rows


def bucket_shares(percentile: Floats) -> dict[str, float]:
    """Share of prompts in each bucket at the default thresholds."""
    found = [bucket_of(value, Thresholds()) for value in percentile.tolist()]
    return {bucket: found.count(bucket) / max(len(found), 1) for bucket in BUCKETS}


def win_rates(judged: Judged) -> dict[str, Any]:
    """The pair routed at the median of difficulty, prompt by prompt against each model alone; a tie is half a win."""
    to_strong = judged.percentile > EVEN_SPLIT
    routed = np.where(to_strong, judged.strong, judged.cheap)
    against = zip(SINGLE_MODELS, (judged.cheap, judged.strong), strict=True)
    return {
        "strong_share": float(to_strong.mean()),
        "mean_score": float(routed.mean()),
        "against": {name: _wins(routed, alone) for name, alone in against},
    }


def _wins(routed: Floats, alone: Floats) -> dict[str, float]:
    wins, losses = float((routed > alone).mean()), float((routed < alone).mean())
    ties = 1.0 - wins - losses
    return {"win_rate": wins + ties / 2, "wins": wins, "ties": ties, "losses": losses}


def _short(part: Judged) -> dict[str, Any]:
    return {
        "n": len(part),
        "cheap_mean": float(part.cheap.mean()),
        "strong_mean": float(part.strong.mean()),
        "difficulty": float(part.difficulty.mean()),
        "apgr": apgr(part.difficulty, part.cheap, part.strong),
        "auc": auc(-part.difficulty, part.cheap),
        "ece": calibration_error(part.p_cheap_ok, part.cheap),
    }


def _ranking(difficulty: Floats, judged: Judged, areas: Floats) -> dict[str, Any]:
    cheap, strong = judged.cheap, judged.strong
    return {
        "apgr": apgr(difficulty, cheap, strong),
        "apgr_ci95": _interval(areas),
        "cpt50": cpt(difficulty, cheap, strong, 0.5),
        "cpt80": cpt(difficulty, cheap, strong, 0.8),
        "auc": auc(-difficulty, cheap),
    }


def _interval(samples: Floats) -> list[float]:
    finite = samples[np.isfinite(samples)]
    if not len(finite):
        return [math.nan, math.nan]
    return [float(limit) for limit in np.percentile(finite, [2.5, 97.5])]


def _resampled_areas(scores: Sequence[Floats], gain: Floats, question: Ints, rounds: int) -> Floats:
    """(scores, rounds) APGR on the same draws of questions for each score, so that their differences are paired.

    Prompts of equal score are one straight piece of the frontier, which is what `metrics.apgr` makes of them.
    """
    rng = np.random.default_rng(rounds)
    distinct, member = np.unique(question, return_inverse=True)
    pieces = [np.unique(-score, return_inverse=True)[1] for score in scores]
    areas = np.empty((len(scores), rounds))
    for number in range(rounds):
        drawn = np.bincount(rng.integers(len(distinct), size=len(distinct)), minlength=len(distinct))
        weight = drawn[member].astype(np.float64)
        areas[:, number] = [_area(piece, gain, weight) for piece in pieces]
    return areas


def _area(piece: Ints, gain: Floats, weight: Floats) -> float:
    width = np.bincount(piece, weights=weight)
    rise = np.bincount(piece, weights=weight * gain)
    total = rise.sum()
    if total == 0:
        return math.nan
    return float(((np.cumsum(rise) - rise / 2) * width).sum() / (total * width.sum()))
