"""Logged decisions with what came of them, as arrays: what `heimdall replay` wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall_models.features import FEATURE_NAMES
from heimdall_models.learning.arrow import (
    NOBODY,
    TERMS,
    Flags,
    Floats,
    Indices,
    clusters_of,
    flags_of,
    flat_candidates,
    numbers,
    spread,
    texts,
)
from heimdall_models.learning.stored import (
    DatasetError,
    is_dataset,
    read_stored,
)

__all__ = [
    "NOBODY",
    "DatasetError",
    "Flags",
    "Floats",
    "Indices",
    "Logged",
    "Shadows",
    "Terms",
    "is_dataset",
    "read_logged",
]

_PAIR_SIGNALS = ("finish", "refusal", "schema")
"""What is read off either answer."""
FEWEST_RATED = 200
"""With so many answers that users rated, what is only read off the others counts no more."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a decision knew of its candidates, (n, models) each, NaN where a model was none: the terms of the α-score."""

    score: Floats
    quality: Floats
    cost: Floats
    cost_usd_micros: Floats


@dataclass(frozen=True, slots=True)
class Shadows:
    """The second answers of n requests (n,): who gave them, `NOBODY` where there is none, and NaN for all the rest there.

    `reward` of this answer and `beside` of the one that was served, both by the same signals: a rating that a user gave to
    the one is not held against signs that were read off the other. Where a judge scored both, its scores stand alone.
    """

    model: Indices
    reward: Floats
    beside: Floats
    cost_usd_micros: Floats
    share: Floats
    p_drawn: Floats

    @classmethod
    def none(cls, count: int) -> Shadows:
        return cls(np.full(count, NOBODY), *(np.full(count, np.nan) for _ in range(5)))

    def rows(self, chosen: Indices | Flags) -> Shadows:
        return Shadows(*(getattr(self, each.name)[chosen] for each in fields(self)))


@dataclass(frozen=True, slots=True)
class Logged:
    """`n` decisions in the order of time; every array has n rows.

    `served` and `candidates` number the `models`. `p_served`: probability that the logging policy asks the model that
    answered, NaN where failover or a cache changed it. `reward` 0..1, NaN where nothing is known. `clusters` and
    `cluster_weights` (n, k): nearest first, -1 and 0 where there are fewer. `question` is equal for one question; where its
    hash is not known, for a decision and its cached copies: they share one draw.
    `forced`: a guardrail chose the bucket, or the caller the model. `text` is None where it may not be kept. `left_out`: why
    → how many rows. `across` (n, models): who could be drawn where exploration goes over all buckets, None where it never
    does. `paired`: these are pairs, and are judged by both answers.
    """

    models: tuple[str, ...]
    time_ms: Indices
    request_id: NDArray[np.str_]
    features: NDArray[np.float32]
    bucket: NDArray[np.str_]
    forced: Flags
    explored: Flags
    alpha: Floats
    served: Indices
    p_served: Floats
    reward: Floats
    cost_usd_micros: Floats
    clusters: Indices
    cluster_weights: Floats
    question: NDArray[np.str_]
    bundle: NDArray[np.str_]
    candidates: Terms
    shadows: Shadows
    across: Flags | None = None
    paired: bool = False
    text: tuple[str | None, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.time_ms)

    @property
    def served_model(self) -> NDArray[np.str_]:
        """(n,) names, empty where nobody answered."""
        return np.array([*self.models, ""])[self.served]

    @property
    def was_candidate(self) -> Flags:
        """(n, models)"""
        return np.isfinite(self.candidates.score)

    @property
    def drawable(self) -> Flags:
        """(n, models) who could be drawn: the candidates, and where exploration goes over all buckets, everybody's."""
        return self.was_candidate if self.across is None else self.was_candidate | self.across

    def rows(self, keep: Indices | Flags) -> Logged:
        """These rows only, in this order."""
        chosen = np.flatnonzero(keep) if keep.dtype == np.bool_ else keep
        whole = ("models", "left_out", "candidates", "shadows", "across", "paired", "text")
        arrays: dict[str, Any] = {
            each.name: getattr(self, each.name)[chosen] for each in fields(self) if each.name not in whole
        }
        terms = Terms(*(getattr(self.candidates, name)[chosen] for name in TERMS))
        text = tuple(self.text[at] for at in chosen) if self.text else ()
        across = None if self.across is None else self.across[chosen]
        return replace(self, **arrays, candidates=terms, shadows=self.shadows.rows(chosen), across=across, text=text)


def read_logged(dataset: Path, *, since: datetime | None = None, until: datetime | None = None) -> Logged:
    """The decisions of a replayed data set with `since` ≤ time < `until`. Raises DatasetError.

    What cannot be used is counted in `left_out` (stored.py)."""
    stored = read_stored(dataset, since, until)
    return _logged(stored.table, stored.left_out, stored.shadows, stored.weights)


def _logged(
    table: Any, left_out: Mapping[str, int], second: Mapping[str, Mapping[str, Any]], measure: Mapping[str, float]
) -> Logged:
    table = table.sort_by([("time", "ascending"), ("request_id", "ascending")])
    count = table.num_rows
    request_id = texts(table["request_id"])
    explored = np.array([value is True for value in table["explored"].to_pylist()], np.bool_)
    across = [(value or "").split("\n") if value else [] for value in table["across"].to_pylist()]
    reached = np.array([bool(each) for each in across], np.bool_)
    rows, models, terms = flat_candidates(table["candidates"])
    judged = sum(shadow["judge_shadow"] is not None for shadow in second.values())
    by_signs = max(judged, int(_rated(table).sum())) < FEWEST_RATED
    shadows = _shadows(table, second, measure, _PAIR_SIGNALS if by_signs else ())
    asked = {shadow["model"] for shadow, _ in shadows.values()}
    drawable = {model for each in across for model in each}
    names = tuple(sorted({*models, *filter(None, table["served_model"].to_pylist()), *asked, *drawable}))
    number = {name: at for at, name in enumerate(names)}
    columns = np.array([number[model] for model in models], np.int64)
    clusters, weights = clusters_of(table["clusters"])
    reward, unrated = _rewards(table)
    if unrated:
        left_out = {**left_out, "not rated: signs of theirs are not held against the ratings of the others": unrated}
    return Logged(
        models=names,
        time_ms=table["time"].cast("int64").to_numpy() // 1000,
        request_id=request_id,
        features=table["features"].combine_chunks().flatten().to_numpy().reshape(count, len(FEATURE_NAMES)),
        bucket=texts(table["bucket"]),
        forced=_forced(table, explored & reached),
        explored=explored,
        alpha=numbers(table["alpha"]),
        served=np.array([number.get(name, NOBODY) for name in table["served_model"].to_pylist()], np.int64),
        p_served=numbers(table["p_served"]),
        reward=reward,
        cost_usd_micros=numbers(table["cost_usd_micros"]),
        clusters=clusters,
        cluster_weights=weights,
        question=_questions(table),
        bundle=texts(table["bundle"]),
        candidates=Terms(*(spread(count, len(names), rows, columns, terms[name]) for name in TERMS)),
        shadows=_numbered(count, shadows, number),
        across=flags_of(across, number) if reached.any() else None,
        text=tuple(table["text"].to_pylist()),
        left_out=left_out,
    )


def _forced(table: Any, drawn_across: Flags) -> Flags:
    """(n,) rows in which a guardrail chose the bucket, or the caller the model. A cached copy is what its origin was."""
    before, bucket = texts(table["bucket_before_guardrails"]), texts(table["bucket"])
    pinned = texts(table["decision_type"]) == "pinned"
    copied = np.isin(texts(table["cached_from"]), texts(table["request_id"])[pinned])
    return np.asarray(((before != "") & (before != bucket) & ~drawn_across) | pinned | copied)


def _questions(table: Any) -> NDArray[np.str_]:
    """(n,) the question's hash, else the request that the decision was copied from, else the request's own id."""
    hashed, origin = texts(table["question"]), texts(table["cached_from"])
    return np.where(hashed != "", hashed, np.where(origin != "", origin, texts(table["request_id"])))


def _rewards(table: Any) -> tuple[Floats, int]:
    """(n,), NaN where unknown, and of how many rows it was set aside.

    Nearly every answer comes to its own end, which counts as 1 where nobody rated it. Beside ratings that would make any
    model look good in proportion to the silence of its users.
    """
    reward = numbers(table["reward"])
    rated = _rated(table)
    if rated.sum() < FEWEST_RATED:
        return reward, 0
    return np.where(rated, reward, np.nan), int((~rated & np.isfinite(reward)).sum())


def _rated(table: Any) -> Flags:
    return np.asarray(texts(table["reward_source"]) == "explicit")


def _shadows(
    table: Any, second: Mapping[str, Mapping[str, Any]], weights: Mapping[str, float], signals: tuple[str, ...]
) -> dict[int, tuple[Mapping[str, Any], tuple[float, float]]]:
    """By row: the shadow, and the rewards of both answers. A shadow of another answer than the row's is none of it.

    `signals` that are read off the answers are none where ratings or a judge say more.
    """
    if not second:
        return {}
    signs = {name: table[f"r_{name}"].to_pylist() for name in signals}
    found = {}
    served = zip(table["request_id"].to_pylist(), table["served_model"].to_pylist(), strict=True)
    for row, (request_id, model) in enumerate(served):
        shadow = second.get(request_id)
        if shadow is None or shadow["served_model"] != model or shadow["model"] == model:
            continue
        measured = _measured(shadow, {name: column[row] for name, column in signs.items()}, weights)
        if measured is not None:
            found[row] = shadow, measured
    return found


def _measured(
    shadow: Mapping[str, Any], served: Mapping[str, float | None], weights: Mapping[str, float]
) -> tuple[float, float] | None:
    """Rewards of the answer that was served and of the shadow's; None where they have no signal in common."""
    first, second = shadow["judge_served"], shadow["judge_shadow"]
    if first is not None and second is not None and weights.get("judge", 1.0) > 0:
        return first, second
    both = [(served[name], shadow[f"r_{name}"], weights.get(name, 0.0)) for name in served]
    told = [(here, there, weight) for here, there, weight in both if here is not None and there is not None and weight]
    if not told:
        return None
    total = sum(weight for *_, weight in told)
    return sum(here * weight for here, _, weight in told) / total, sum(
        there * weight for _, there, weight in told
    ) / total


def _numbered(
    count: int, shadows: Mapping[int, tuple[Mapping[str, Any], tuple[float, float]]], number: Mapping[str, int]
) -> Shadows:
    found = Shadows.none(count)
    for row, (shadow, (beside, reward)) in shadows.items():
        found.model[row], found.reward[row], found.beside[row] = number[shadow["model"]], reward, beside
        found.cost_usd_micros[row] = np.nan if shadow["cost_usd_micros"] is None else shadow["cost_usd_micros"]
        found.share[row], found.p_drawn[row] = shadow["share"], shadow["p_drawn"]
    return found
