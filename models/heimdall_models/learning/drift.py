"""Whether recent traffic is still the traffic that was learned from: inputs, buckets, rewards, costs.

PSI: Σ (a − b) · ln(a / b) over bins; below 0.1 nothing to speak of, above 0.25 another population (the usual reading).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall_models.classify import BUCKETS
from heimdall_models.features import FEATURE_NAMES
from heimdall_models.learning.logged import Floats, Indices, Logged

BINS = 10
FEWEST_ROWS = 30
_LEAST_SHARE = 1e-4
_TEXT_SCORE = FEATURE_NAMES.index("text_score")
_TOKENS = FEATURE_NAMES.index("token_count_log")


@dataclass(frozen=True, slots=True)
class DriftRules:
    """`feature_psi`, `bucket_psi`: above it is an alarm. `reward_drop`: a cell's loss in mean reward, if it is `sigmas` of
    its own error beyond chance. `cost_ratio`: change of a model's price of a token, up or down."""

    feature_psi: float = 0.25
    bucket_psi: float = 0.25
    reward_drop: float = 0.05
    sigmas: float = 4.0
    cost_ratio: float = 1.25


@dataclass(frozen=True, slots=True)
class Drop:
    """Mean reward of a model's answers in a cluster, before and now; `sigmas`: the loss in standard errors."""

    model: str
    cluster: int
    before: float
    now: float
    sigmas: float


@dataclass(frozen=True, slots=True)
class Drift:
    """`features`: PSI by name. `buckets`: one PSI. `drops`: cells whose reward fell, worst first. `costs`: model → cost of
    a request now over what the reference says for as many tokens. `alarms`: name → what it says; empty when all is well.
    """

    rows: tuple[int, int]
    features: Mapping[str, float]
    buckets: float
    drops: tuple[Drop, ...]
    costs: Mapping[str, float]
    alarms: Mapping[str, str]


def drift(reference: Logged, recent: Logged, rules: DriftRules = DriftRules()) -> Drift:
    """What changed between two spans of the log. `text_score` is left out where the spans are not of one bundle.

    Fewer than `FEWEST_ROWS` rows in a span, or answers in a cell, say nothing and raise no alarm.
    """
    rows = len(reference), len(recent)
    if min(rows) < FEWEST_ROWS:
        return Drift(rows, {}, 0.0, (), {}, {})
    features = _features(reference, recent)
    buckets = _buckets(reference, recent)
    drops = tuple(sorted(_drops(reference, recent, rules), key=lambda drop: -drop.sigmas))
    costs = _costs(reference, recent)
    alarms = {
        f"feature:{name}": f"PSI {value:.2f} is over {rules.feature_psi:g}: other requests are asked than before"
        for name, value in features.items()
        if value > rules.feature_psi
    }
    if buckets > rules.bucket_psi:
        alarms["buckets"] = f"PSI {buckets:.2f} is over {rules.bucket_psi:g}: other shares go to cheap, mid and hard"
    for drop in reversed(drops):
        alarms[f"reward:{drop.model}"] = (
            f"mean reward in cluster {drop.cluster} fell from {drop.before:.2f} to {drop.now:.2f} "
            f"({drop.sigmas:.1f} standard errors)"
        )
    for model, ratio in costs.items():
        if max(ratio, 1.0 / ratio) > rules.cost_ratio:
            alarms[f"cost:{model}"] = f"a request costs {ratio:.2f} times what it did for as many tokens"
    return Drift(rows, features, buckets, drops, costs, alarms)


def psi(reference: Floats, recent: Floats) -> float:
    """Population stability index of two histograms (bins,) of counts."""
    shares = [np.maximum(counts / max(1.0, counts.sum()), _LEAST_SHARE) for counts in (reference, recent)]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def feature_psi(reference: NDArray[np.float32], recent: NDArray[np.float32]) -> float:
    """Over ten bins of equal counts in the reference; a value that repeats is one bin."""
    edges = np.unique(np.quantile(reference, np.linspace(0.0, 1.0, BINS + 1)[1:-1]))
    # A bin begins after its edge, so that a value of its own (often 0) is told from what is above it.
    place = [np.searchsorted(edges, values, side="left") for values in (reference, recent)]
    counted = [np.bincount(each, minlength=len(edges) + 1).astype(np.float64) for each in place]
    return psi(counted[0], counted[1])


def _features(reference: Logged, recent: Logged) -> dict[str, float]:
    one_bundle = len(set(reference.bundle.tolist()) | set(recent.bundle.tolist())) == 1
    return {
        name: feature_psi(reference.features[:, at], recent.features[:, at])
        for at, name in enumerate(FEATURE_NAMES)
        if one_bundle or at != _TEXT_SCORE
    }


def _buckets(reference: Logged, recent: Logged) -> float:
    counts = [np.array([(each.bucket == name).sum() for name in BUCKETS], np.float64) for each in (reference, recent)]
    return psi(counts[0], counts[1])


def _drops(reference: Logged, recent: Logged, rules: DriftRules) -> list[Drop]:
    before = _cells(reference)
    found = []
    for key, now in _cells(recent).items():
        if key not in before:
            continue
        was = before[key]
        error = float(np.sqrt(was.var() / len(was) + now.var() / len(now))) or 1.0 / np.sqrt(len(now))
        loss = float(was.mean() - now.mean())
        if loss > rules.reward_drop and loss / error > rules.sigmas:
            found.append(Drop(key[0], key[1], float(was.mean()), float(now.mean()), loss / error))
    return found


def _cells(logged: Logged) -> dict[tuple[str, int], Floats]:
    """Rewards by model and nearest cluster, where there are enough."""
    if not logged.clusters.shape[1]:
        return {}
    nearest: Indices = logged.clusters[:, 0]
    known = np.isfinite(logged.reward) & (logged.served >= 0)
    found = {}
    for number, model in enumerate(logged.models):
        own = np.flatnonzero(known & (logged.served == number))
        for cluster in np.unique(nearest[own]):
            rewards = logged.reward[own[nearest[own] == cluster]]
            if len(rewards) >= FEWEST_ROWS:
                found[model, int(cluster)] = rewards
    return found


def _costs(reference: Logged, recent: Logged) -> dict[str, float]:
    before, now = _token_costs(reference), _token_costs(recent)
    return {model: now[model] / before[model] for model in now if before.get(model, 0.0) > 0.0 and now[model] > 0.0}


def _token_costs(logged: Logged) -> dict[str, float]:
    """Median micro-dollars for a prompt token (answers included), by model."""
    tokens = np.maximum(1.0, np.expm1(logged.features[:, _TOKENS].astype(np.float64)))
    known = np.isfinite(logged.cost_usd_micros)
    found = {}
    for number, model in enumerate(logged.models):
        rows = known & (logged.served == number)
        if rows.sum() >= FEWEST_ROWS:
            found[model] = float(np.median(logged.cost_usd_micros[rows] / tokens[rows]))
    return found
