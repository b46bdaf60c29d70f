"""A judged batch as plain dictionaries: the decision that travels, and the record from which it can be made again.

This is the only step that touches every message in Python; it does dictionary work and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heimdall_models.asked import NOTHING, Asked, Asking, asking_fields
from heimdall_models.choose import STEPS_ABOVE, Choices, chain
from heimdall_models.features import FEATURE_NAMES, FEATURE_VERSION
from heimdall_models.guard import Guarded
from heimdall_models.judge import Judge, Verdict
from heimdall_models.pools import BUCKETS, Pool
from heimdall_models.score import CONTEXT_LIMIT, Scores
from heimdall_schemas.failure import Failure
from heimdall_schemas.order import Step

DECISION_VERSION = "1"
"""Raised when the same inputs would be decided otherwise, or when a recorded field changes its meaning."""

FEATURE_TIMEOUT = "FEATURE_TIMEOUT"
MODEL_PREDICT_FAILED = "MODEL_PREDICT_FAILED"

_BUCKET_VALUES = tuple(bucket.value for bucket in BUCKETS)
_NAMES = np.array(FEATURE_NAMES, object)
_RATIO_DECIMALS = 6
_SHORT_DECIMALS = 10


class Decided(NamedTuple):
    """One request's decision.

    `decision`: the fourteen names of the Heimdall API. `record`: the other fields of a DecisionRecord but
    `correlation_id`, `time` and `worker`, which only triage knows. `steps`: for the order's Plan.
    """

    request_id: str
    bucket: str
    decision: dict[str, Any]
    record: dict[str, Any]
    steps: tuple[Step, ...]
    p_chosen: float
    token_count: int
    pinned: bool


class Refusal(NamedTuple):
    """A request that no model may answer, or that pins a model nobody serves."""

    request_id: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class Judged:
    """A batch with everything that was found out about it."""

    asked: Asked
    verdict: Verdict
    guarded: Guarded
    scores: Scores
    choices: Choices
    judge: Judge
    latency_ms: float


class _Row(NamedTuple):
    """One row of the batch's arrays as plain values."""

    tokens: int
    features: dict[str, Any]
    asked: dict[str, Any]
    before: int
    bucket: int
    pool: int
    probabilities: list[float]
    difficulty: float
    raw: float
    percentile: float
    failed: bool
    score: list[float]
    quality: list[float]
    cost: list[float]
    usd_micros: list[int]
    over_80: bool
    alpha: float


def write_records(judged: Judged) -> list[Decided | Refusal]:
    """One answer for each row, in order."""
    refused = judged.guarded.refused
    return [
        Refusal(judged.asked.ids[at], refused[at]) if at in refused else _decided(judged, row, at)
        for at, row in enumerate(_rows(judged))
    ]


def _rows(judged: Judged) -> Iterator[_Row]:
    """Arrays become lists once for the batch: a look-up in an array costs ten times one in a list."""
    count = len(judged.asked)
    verdict, scores, guarded = judged.verdict, judged.scores, judged.guarded
    before = verdict.bucket.tolist()
    return map(
        _Row,
        judged.asked.reading.token_count.tolist(),
        _features(judged, before),
        _asked(judged),
        before,
        guarded.bucket.tolist(),
        guarded.pool.tolist(),
        verdict.probabilities.tolist(),
        verdict.difficulty.tolist(),
        verdict.raw.tolist(),
        verdict.percentile.tolist(),
        verdict.failed.tolist(),
        scores.score[:count].tolist(),
        scores.quality[:count].tolist(),
        scores.cost[:count].tolist(),
        scores.cost_usd_micros[:count].astype(np.int64).tolist(),
        np.any(scores.over_80[:count], axis=1).tolist(),
        judged.asked.alpha.tolist(),
    )


def _features(judged: Judged, before: Sequence[int]) -> list[dict[str, Any]]:
    """The feature record of every row, by the names of the Heimdall API; the classifier's own numbers in `numeric`."""
    reading = judged.asked.reading
    windows = [judged.judge.book.pools[bucket].smallest_window for bucket in before]
    ratios = (judged.asked.tokens / windows).round(_RATIO_DECIMALS)
    rows = zip(
        reading.token_count.tolist(),
        reading.has_code.tolist(),
        reading.has_math.tolist(),
        _short(reading.entropy).tolist(),
        reading.embedding_cached.tolist(),
        reading.clusters.tolist(),
        _short(reading.similarities).tolist(),
        ratios.tolist(),
        (ratios > CONTEXT_LIMIT).tolist(),
        _numeric(reading.numeric),
        strict=True,
    )
    return [
        {
            "token_count": tokens,
            "has_code": has_code,
            "has_math": has_math,
            "entropy": entropy,
            "embedding_cached": cached,
            "clusters": clusters,
            "cluster_similarities": similarities,
            "context_ratio": ratio,
            "context_overflow": over,
            "extraction_latency_ms": reading.extraction_ms,
            "feature_version": FEATURE_VERSION,
            "numeric": numeric,
        }
        for tokens, has_code, has_math, entropy, cached, clusters, similarities, ratio, over, numeric in rows
    ]


def _numeric(numeric: NDArray[np.float32]) -> Iterator[dict[str, float]]:
    """The numbers of each row that are not 0, by name: three in four are, in an ordinary prompt."""
    rows, columns = np.nonzero(numeric)
    names = _NAMES[columns].tolist()
    values = _short(numeric[rows, columns]).tolist()
    bounds = np.searchsorted(rows, np.arange(len(numeric) + 1)).tolist()
    return (dict(zip(names[at:end], values[at:end], strict=True)) for at, end in pairwise(bounds))


def _short(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """The same single-precision numbers in doubles that print short, where a rounded one leads back to the same."""
    exact = values.astype(np.float64)
    short = exact.round(_SHORT_DECIMALS)
    return np.where(short.astype(np.float32) == values, short, exact)


def _decided(judged: Judged, row: _Row, at: int) -> Decided:
    choices, judge, asking = judged.choices, judged.judge, judged.asked.asking[at]
    pool = judge.book.pools[row.pool]
    fired: list[str] = judged.guarded.fired.get(at, [])
    decision = _decision(judged, row, at, pool, bool(fired))
    steps = _steps(judged, pool, row.bucket, at)
    request_id, p_chosen, explored = judged.asked.ids[at], choices.p_chosen[at], choices.explored[at]
    record = {
        "kind": "decision",
        "request_id": request_id,
        "decision_type": _type(asking, choices, at, decision["fallback_reason"], fired),
        "features": row.features,
        "asked": row.asked,
        "difficulty": None if row.failed else row.difficulty,
        "difficulty_raw": None if row.failed else row.raw,
        "difficulty_percentile": None if row.failed else row.percentile,
        "bucket_before_guardrails": _BUCKET_VALUES[row.before],
        "guardrails": fired,
        "candidates": _candidates(judged, row, pool, at),
        "chain": [step.model for step in steps],
        "alpha": row.alpha,
        "p_chosen": p_chosen,
        "explored": explored,
        "experiment": judge.label,
        "tenant": asking.tenant,
        "session": asking.session,
        "bundle": judge.bundle.hash,
        "catalogue": judge.book.catalogue.hash,
        "config": judge.rules.config_hash,
    }
    pinned = asking.pinned is not None
    return Decided(request_id, decision["bucket"], decision, record, steps, p_chosen, row.tokens, pinned)


def _decision(judged: Judged, row: _Row, at: int, pool: Pool, guarded: bool) -> dict[str, Any]:
    """The fourteen fields that travel with the order and come back in the reply."""
    slot = judged.choices.chosen[at]
    reason = _fallback(judged, row, at)
    cheap, mid, hard = row.probabilities
    return {
        "selected_model": pool.names[slot],
        "selected_provider": pool.providers[slot],
        "bucket": _BUCKET_VALUES[row.bucket],
        "bucket_probabilities": {"cheap": cheap, "mid": mid, "hard": hard},
        "alpha_scores": _alpha_scores(judged, row, pool, at),
        "quality_score": row.quality[slot],
        "cost_score": row.cost[slot],
        "final_score": row.score[slot],
        "decision_latency_ms": judged.latency_ms,
        "cache_hit": False,
        "fallback_used": reason is not None,
        "fallback_reason": reason,
        "guardrail_triggered": guarded,
        "decision_version": DECISION_VERSION,
    }


def _fallback(judged: Judged, row: _Row, at: int) -> str | None:
    if not row.failed:
        return None
    return FEATURE_TIMEOUT if judged.asked.reading.late[at] else MODEL_PREDICT_FAILED


def _steps(judged: Judged, pool: Pool, bucket: int, at: int) -> tuple[Step, ...]:
    """The chain: the row's pool, then the bucket above. Own effort of the caller, or a pinned model: no settings."""
    choices, asking = judged.choices, judged.asked.asking[at]
    bare = asking.own_effort or asking.pinned is not None
    table = pool.bare_steps[bucket] if bare else pool.steps[bucket]
    steps = [table[slot] for slot in chain(choices, at)]
    found = choices.above.get(at)
    if found is not None:
        below, ranked = found
        table_above = judged.judge.book.above[below][bare]
        steps += [step for slot in ranked if (step := table_above[slot]) is not None][:STEPS_ABOVE]
    return tuple(steps)


def _type(asking: Asking, choices: Choices, at: int, reason: str | None, fired: list[str]) -> str:
    if asking.pinned is not None:
        return "pinned"
    if choices.explored[at]:
        return "explored"
    if reason is not None:
        return "default"
    if choices.sticky[at]:
        return "sticky"
    return "guarded" if fired else "scored"


def _asked(judged: Judged) -> list[dict[str, Any]]:
    """What each request asked for beyond its text, as far as it decides; the time left only where it acted."""
    asked, reading = judged.asked, judged.asked.reading
    said: list[dict[str, Any]] = [{} if one is NOTHING else asking_fields(one) for one in asked.asking]
    for at, one in enumerate(said):
        if "time_left_ms" in one and at not in judged.guarded.timed:
            del one["time_left_ms"]
    for name, column in (("images", reading.images), ("tools", reading.tools), ("structured", reading.structured)):
        for at in np.flatnonzero(column).tolist():
            said[at][name] = True
    for at in np.flatnonzero(reading.max_output).tolist():
        said[at]["max_output"] = int(reading.max_output[at])
    return said


def _alpha_scores(judged: Judged, row: _Row, pool: Pool, at: int) -> dict[str, float]:
    """Every eligible candidate's score."""
    if at not in judged.guarded.fallen:
        return dict(zip(pool.names, row.score, strict=False))
    eligible = judged.guarded.eligible[at].tolist()
    return {name: score for name, score, stays in zip(pool.names, row.score, eligible, strict=False) if stays}


def _candidates(judged: Judged, row: _Row, pool: Pool, at: int) -> list[dict[str, Any]]:
    """Every candidate with its terms; those that fell out come last, with the rule and its numbers."""
    bucket = _BUCKET_VALUES[row.bucket]
    penalties: Sequence[dict[str, float]] = pool.penalties
    if row.over_80:
        over = judged.scores.over_80[at].tolist()
        penalties = [pool.penalties_over_80[slot] if over[slot] else plain for slot, plain in enumerate(pool.penalties)]
    scored = [
        {
            "model": model,
            "bucket": bucket,
            "score": score,
            "quality": quality,
            "cost": cost,
            "penalties": penalty,
            "cost_usd_micros": usd_micros,
        }
        for model, score, quality, cost, penalty, usd_micros in zip(
            pool.names, row.score, row.quality, row.cost, penalties, row.usd_micros, strict=False
        )
    ]
    fallen = judged.guarded.fallen.get(at)
    if fallen is None:
        return scored
    eligible = judged.guarded.eligible[at].tolist()
    return [one for one, stays in zip(scored, eligible, strict=False) if stays] + fallen
