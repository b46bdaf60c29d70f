"""The two sides that a difficulty tells apart, and the pool of each bucket, as the log shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from heimdall_models.classify import BUCKETS
from heimdall_models.learning.logged import NOBODY, Flags, Floats, Indices, Logged

CHEAP, STRONG = 0, 1
RARELY = 100
CLEAR_LEAD = 0.1


@dataclass(frozen=True, slots=True)
class Sides:
    """`of_model` (models,): `CHEAP`, `STRONG`, or `NOBODY` for a model that is on neither side."""

    models: tuple[str, ...]
    of_model: Indices

    @property
    def cheap(self) -> tuple[str, ...]:
        return tuple(name for name, side in zip(self.models, self.of_model, strict=True) if side == CHEAP)

    @property
    def strong(self) -> tuple[str, ...]:
        return tuple(name for name, side in zip(self.models, self.of_model, strict=True) if side == STRONG)

    def of(self, models: Indices) -> Indices:
        """The side of each of these model numbers; `NOBODY` for nobody."""
        return np.append(self.of_model, NOBODY)[models]


def pools_of(logged: Logged, given: Mapping[str, tuple[str, ...]] | None = None) -> Flags:
    """(buckets, models) who may answer in which bucket: as given (a bucket's models by its name), else whoever was a
    candidate in one in `RARELY` of its rows, leaving out those that a guardrail put there: rarer ones a caller named."""
    if given is not None:
        return np.array([[model in given.get(bucket, ()) for model in logged.models] for bucket in BUCKETS])
    free = ~logged.forced
    rows = [logged.was_candidate[free & (logged.bucket == bucket)] for bucket in BUCKETS]
    return np.stack([stood.sum(axis=0) > len(stood) / RARELY for stood in rows])


def strangers(logged: Logged, given: Mapping[str, tuple[str, ...]] | None) -> str | None:
    """Why nothing can be said where none of the models given by bucket stands in the log; None where one does."""
    if given is None or pools_of(logged, given).any():
        return None
    configured = ", ".join(sorted({model for models in given.values() for model in models})) or "none"
    return (
        f"none of the configured candidates ({configured}) stands in these logs ({', '.join(logged.models) or 'no model'}): "
        "they are another fleet's; give --config with the configuration of the fleet that wrote them"
    )


def sides_of(logged: Logged, pools: Flags, cheap: tuple[str, ...] = (), strong: tuple[str, ...] = ()) -> Sides:
    """The models named; else each by the first of these that tells: in which of the cheap and the hard bucket it is the
    best candidate more often, in which alone it stands, and what it costs beside those that are told apart already.

    Costs are means of expected and paid costs of a call. Where nothing else tells, the largest step in cost divides them;
    a log in which one of the two buckets has no decisions tells nothing else.
    """
    numbers = {name: at for at, name in enumerate(logged.models)}
    found = np.full(len(logged.models), NOBODY)
    if cheap or strong:
        found[[numbers[name] for name in cheap if name in numbers]] = CHEAP
        found[[numbers[name] for name in strong if name in numbers]] = STRONG
        return Sides(logged.models, found)
    if pools[0].any() and pools[2].any():
        found[pools[0] & ~pools[2]], found[pools[2] & ~pools[0]] = CHEAP, STRONG
        lead = _best_share(logged, "hard") - _best_share(logged, "cheap")
        found[lead > CLEAR_LEAD], found[lead < -CLEAR_LEAD] = STRONG, CHEAP
    undecided = np.flatnonzero(pools.any(axis=0) & (found == NOBODY))
    cost = np.log(np.maximum(_mean_cost(logged), 1e-3))
    limit = _limit(cost, found, undecided)
    found[undecided] = np.where(cost[undecided] > limit, STRONG, CHEAP)
    return Sides(logged.models, found)


def _best_share(logged: Logged, bucket: str) -> Floats:
    """(models,) share of the bucket's rows in which each model has the highest score."""
    rows = np.flatnonzero((logged.bucket == bucket) & ~logged.forced & logged.was_candidate.any(axis=1))
    score = np.nan_to_num(logged.candidates.score[rows], nan=-np.inf)
    best = np.bincount(score.argmax(axis=1), minlength=len(logged.models)) if len(rows) else 0.0
    return np.broadcast_to(best / max(1, len(rows)), len(logged.models))


def _mean_cost(logged: Logged) -> Floats:
    """(models,) micro-dollars a call: what was paid where it was paid, else what was expected."""
    expected = _column_means(logged.candidates.cost_usd_micros)
    paid = np.full((len(logged), len(logged.models)), np.nan)
    known = np.flatnonzero(logged.served != NOBODY)
    paid[known, logged.served[known]] = logged.cost_usd_micros[known]
    means = _column_means(paid)
    return np.where(np.isfinite(means), means, np.nan_to_num(expected))


def _limit(cost: Floats, found: Indices, undecided: Indices) -> float:
    """Log cost that parts the two sides."""
    cheap, strong = cost[found == CHEAP], cost[found == STRONG]
    if len(cheap) and len(strong):
        return float(cheap.mean() + strong.mean()) / 2
    everyone = np.sort(np.concatenate((cost[undecided], cheap, strong)))
    if len(everyone) < 2:
        return float("inf")
    step = int(np.argmax(np.diff(everyone)))
    return float(everyone[step] + everyone[step + 1]) / 2


def _column_means(values: Floats) -> Floats:
    known = np.isfinite(values)
    count = known.sum(axis=0)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
