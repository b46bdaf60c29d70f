"""Whom a bundle would have asked, decision by decision: the rule of decide.py on what a log keeps of each request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from heimdall_models.bundle import Bundle
from heimdall_models.classify import BUCKETS
from heimdall_models.features import FEATURE_NAMES
from heimdall_models.learning.logged import NOBODY, Flags, Floats, Indices, Logged
from heimdall_models.learning.sides import pools_of
from heimdall_models.quality import parse_quality

DEFAULT_ALPHA = 0.7
_MID = 1
_TOKENS = FEATURE_NAMES.index("token_count_log")


@dataclass(frozen=True, slots=True)
class PolicyRules:
    """What decides beside the bundle. `pools`: models by bucket, as configured; `cheap`, `strong`: models of the two sides
    that a difficulty tells apart. Without them, as the log shows (`sides.py`). Thresholds: difficulty percentiles."""

    pools: Mapping[str, tuple[str, ...]] | None = None
    cheap_below: float = 0.3
    hard_above: float = 0.7
    cheap: tuple[str, ...] = ()
    strong: tuple[str, ...] = ()


AS_LOGGED = PolicyRules()


@dataclass(frozen=True, slots=True)
class Choices:
    """(n,) each: number of the bucket and of the model (`NOBODY` where a bucket has none), and what the classifier said."""

    bucket: Indices
    model: Indices
    p_cheap_ok: Floats
    percentile: Floats


def choices_of(bundle: Bundle, logged: Logged, rules: PolicyRules, cost: Floats) -> Choices:
    """What `bundle` decides without exploration. `cost`: (n, models) of `expected_cost`.

    A row keeps its bucket where a guardrail chose it, and its model where the caller did; its own candidates where it keeps
    its bucket. In another bucket all of that bucket's pool stand. Sessions are not looked at: a model that stayed for a
    session counts as if drawn.
    """
    verdicts = bundle.classifier.predict(logged.features)
    percentile = np.where(verdicts.ok, verdicts.percentile, np.nan)
    bucket = np.where(percentile < rules.cheap_below, 0, np.where(percentile > rules.hard_above, 2, _MID))
    own = _bucket_numbers(logged)
    fixed = logged.forced & (own != NOBODY) & logged.was_candidate.any(axis=1)
    bucket = np.where(fixed, own, bucket)
    pool = np.where(fixed[:, None], logged.was_candidate, pools_of(logged, rules.pools)[bucket])
    keeps = (bucket == own) & (logged.was_candidate & pool).any(axis=1)
    stands = np.where(keeps[:, None], logged.was_candidate & pool, pool)
    score = np.where(stands, _scores(bundle, logged, pool, cost), -np.inf)
    model = np.where(stands.any(axis=1), score.argmax(axis=1), NOBODY)
    return Choices(bucket, model, np.where(verdicts.ok, verdicts.p_cheap_ok, np.nan), percentile)


def expected_cost(logged: Logged) -> Floats:
    """(n, models) micro-dollars a call: as the decision expected it; for a model that was no candidate, a line over the
    tokens through the rows in which it was, else through what its answers cost."""
    tokens = np.expm1(logged.features[:, _TOKENS].astype(np.float64))
    cost = logged.candidates.cost_usd_micros.copy()
    for number in range(len(logged.models)):
        known = np.isfinite(cost[:, number])
        if not known.any():
            served = (logged.served == number) & np.isfinite(logged.cost_usd_micros)
            cost[:, number] = _line(tokens, tokens[served], logged.cost_usd_micros[served])
        elif not known.all():
            cost[~known, number] = _line(tokens[~known], tokens[known], cost[known, number])
    return cost


def _bucket_numbers(logged: Logged) -> Indices:
    number = {str(name): at for at, name in enumerate(BUCKETS)}
    return np.array([number.get(str(name), NOBODY) for name in logged.bucket], np.int64)


def _line(at: Floats, x: Floats, y: Floats) -> Floats:
    if not len(x):
        return np.full(len(at), np.nan)
    spread = float(x.var())
    slope = float(((x - x.mean()) * (y - y.mean())).mean()) / spread if spread else 0.0
    return np.asarray(np.maximum(0.0, y.mean() + slope * (at - x.mean())))


def _scores(bundle: Bundle, logged: Logged, pool: Flags, cost: Floats) -> Floats:
    """(n, models) α · quality − (1 − α) · cost − penalty, both terms min-max normalised over each row's pool (n, models)."""
    alpha = np.where(np.isfinite(logged.alpha), logged.alpha, DEFAULT_ALPHA)[:, None]
    quality = _normalised(_quality(bundle, logged), pool)
    return np.asarray(alpha * quality - (1.0 - alpha) * _normalised(cost, pool) - _penalty(logged))


def _quality(bundle: Bundle, logged: Logged) -> Floats:
    """(n, models): the bundle's table over each row's clusters by their weights."""
    if bundle.quality_json is None:
        return np.zeros((len(logged), len(logged.models)))
    table = parse_quality(bundle.quality_json).by_cluster(bundle.clusters.domains.astype(np.float64), logged.models)
    known = (logged.clusters >= 0) & (logged.clusters < len(table) - 1)
    found = np.einsum(
        "nk,nkm->nm", np.where(known, logged.cluster_weights, 0.0), table[np.where(known, logged.clusters, 0)]
    )
    in_cluster = np.asarray(known.any(axis=1))[:, None]
    return np.asarray(np.where(in_cluster, found, table[-1]))


def _normalised(values: Floats, pool: Flags) -> Floats:
    usable = pool & np.isfinite(values)
    high = np.where(usable, values, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    low = np.where(usable, values, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    span = np.where(high > low, high - low, 1.0)
    return np.where(usable, (values - np.where(np.isfinite(low), low, 0.0)) / span, 0.0)


def _penalty(logged: Logged) -> Floats:
    """(models,) mean of what was taken off each model's score besides its cost."""
    terms, alpha = logged.candidates, logged.alpha[:, None]
    off = alpha * terms.quality - (1.0 - alpha) * terms.cost - terms.score
    known = np.isfinite(off)
    return np.asarray(np.where(known, off, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))
