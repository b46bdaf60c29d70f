"""A judged batch as JSON: the decision that travels, and the record from which it can be made again.

A batch becomes columns, a piece of JSON in each for every row, and the columns become records; numbers go into the
templates of forms.py. Whoever needs the fields reads them back: `Decided.decision`, `Decided.record`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from heimdall_models import forms
from heimdall_models.asked import NOTHING, Asked, asking_fields
from heimdall_models.choose import STEPS_ABOVE, Choices
from heimdall_models.features import FEATURE_NAMES, FEATURE_VERSION
from heimdall_models.forms import Chain, Form
from heimdall_models.guard import Guarded
from heimdall_models.judge import Judge, Verdict
from heimdall_models.pools import BUCKETS, Pool
from heimdall_models.record import (
    DECISION_VERSION,
    EMBEDDING_TIMEOUT,
    FEATURE_TIMEOUT,
    MODEL_PREDICT_FAILED,
    PREHOOK_TIMEOUT,
    Decided,
    DecisionType,
    Kept,
    Refusal,
    took_json,
)
from heimdall_models.score import CONTEXT_LIMIT, Scores
from heimdall_schemas.order import Step

_RATIO_DECIMALS = 6
_BUCKET_NAMES = tuple(bucket.value for bucket in BUCKETS)
_BUCKETS = tuple(orjson.dumps(bucket.value) for bucket in BUCKETS)
_NAMES = np.array([b"," + orjson.dumps(name) + b":" for name in FEATURE_NAMES], object)

_DECISION = (
    b'{%b,"bucket_probabilities":{"cheap":%b,"mid":%b,"hard":%b},"alpha_scores":{%b},"quality_score":%b,"cost_score":%b,'
    b'"final_score":%b,%b,%b,'
    b'"guardrail_triggered":%b,"decision_version":"' + DECISION_VERSION.encode() + b'"}'
)
_FALLBACK = b'"fallback_used":true,"fallback_reason":"%b"'
_NO_FALLBACK = b'"fallback_used":false,"fallback_reason":null'
_ACROSS = b',"across":%b'
_WAIVED = b',"waived":%b'
_COMMON = (
    b'"asked":%b,"difficulty":%b,"difficulty_raw":%b,"difficulty_percentile":%b,"bucket_before_guardrails":%b,'
    b'"guardrails":%b,"chain":%b,"alpha":%b,"p_chosen":%b,"explored":%b,"tenant":%b,%b'
)
_SLIM = (
    b'"token_count":%b,"has_code":%b,"has_math":%b,"entropy":%b,"embedding_cached":%b,"context_ratio":%b,'
    b'"context_overflow":%b,"truncated":%b,"feature_version":"' + FEATURE_VERSION.encode() + b'"'
)


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


class _Rows(NamedTuple):
    """A place for each row. `reasons`: which step a default stands in for; `forms`: how its candidates are written."""

    reasons: list[str | None]
    fired: list[Sequence[str]]
    kinds: list[DecisionType]
    pools: list[Pool]
    forms: list[Form]
    chains: list[Chain]


def write_records(judged: Judged) -> list[Decided | Refusal]:
    """One answer for each row, in order."""
    rows = _rows(judged)
    common, slim = _common(judged, rows), _slim(judged)
    candidates, scores = _candidates(judged, rows)
    decisions = _decisions(judged, rows, scores)
    records = _records(judged, rows, (common, slim, candidates))
    forced = judged.guarded.timed.union(at for at, reason in enumerate(rows.reasons) if reason is not None)
    took = repeat(took_json(judged.latency_ms, cache_hit=False))
    kept: list[Kept | None] = list(map(Kept, took, decisions, common, slim))
    for at in forced:
        kept[at] = None
    asked, chosen = judged.asked, judged.choices.chosen
    answers: list[Decided | Refusal] = list(
        map(
            Decided,
            asked.ids,
            [one.session for one in asked.asking],
            [_BUCKET_NAMES[bucket] for bucket in judged.guarded.bucket.tolist()],
            [pool.names[slot] if pool.names else "" for pool, slot in zip(rows.pools, chosen, strict=True)],
            rows.kinds,
            rows.reasons,
            rows.fired,
            rows.chains,
            judged.choices.p_chosen,
            asked.reading.token_count.tolist(),
            [one.pinned is not None for one in asked.asking],
            decisions,
            records,
            kept,
        )
    )
    for at, failure in judged.guarded.refused.items():
        answers[at] = Refusal(asked.ids[at], failure)
    return answers


def _records(judged: Judged, rows: _Rows, parts: tuple[list[bytes], ...]) -> list[bytes]:
    """All but the decision. Joined, since a template is slow where what goes into it is long."""
    reading, (common, slim, candidates) = judged.asked.reading, parts
    took = b'],"extraction_latency_ms":%b,"numeric":{' % orjson.dumps(reading.extraction_ms)
    columns = (
        repeat(b'{"decision_type":"'),
        [kind.encode() for kind in rows.kinds],
        repeat(b'",'),
        common,
        repeat(b',"features":{'),
        slim,
        repeat(b',"clusters":['),
        forms.rows(reading.clusters),
        repeat(b'],"cluster_similarities":['),
        forms.rows(reading.similarities),
        repeat(took),
        _numeric(reading.numeric),
        repeat(b'}},"candidates":['),
        candidates,
        repeat(b"]}"),
    )
    return list(map(b"".join, zip(*columns, strict=False)))


def _rows(judged: Judged) -> _Rows:
    guarded, book = judged.guarded, judged.judge.book
    count = len(judged.asked)
    reasons = _column(count, None, {at: _fallback(judged, at) for at in judged.verdict.failed.nonzero()[0].tolist()})
    fired: list[Sequence[str]] = _column(count, (), guarded.fired)
    places = list(zip(guarded.pool.tolist(), guarded.bucket.tolist(), strict=True))
    pools = [book.pools[pool] for pool, _ in places]
    written = {place: book.pools[place[0]].form(place[1]) for place in set(places)}
    forms = [written[place] for place in places]
    chains = _chains(judged, pools, forms)
    return _Rows(reasons, fired, _kinds(judged, reasons, fired), pools, forms, chains)


def _column(count: int, usual: Any, others: Mapping[int, Any]) -> list[Any]:
    """The same for every row but a few."""
    column = [usual] * count
    for at, other in others.items():
        column[at] = other
    return column


def _fallback(judged: Judged, at: int) -> str:
    """Which step a default stands in for."""
    reading = judged.asked.reading
    if reading.late[at]:
        return EMBEDDING_TIMEOUT if reading.embedding_late else FEATURE_TIMEOUT
    return PREHOOK_TIMEOUT if reading.spent else MODEL_PREDICT_FAILED


def _kinds(judged: Judged, reasons: list[str | None], fired: list[Sequence[str]]) -> list[DecisionType]:
    choices, asking = judged.choices, judged.asked.asking
    rows = zip(asking, choices.explored, reasons, choices.sticky, fired, strict=True)
    return [
        "pinned" if one.pinned is not None
        else "explored" if explored
        else "default" if reason is not None
        else "sticky" if sticky
        else "guarded" if names
        else "scored"
        for one, explored, reason, sticky, names in rows
    ]  # fmt: skip


def _chains(judged: Judged, pools: list[Pool], forms: list[Form]) -> list[Chain]:
    """Whom each row asks in turn. Most rows have a chain that was written before."""
    chains: list[Chain] = []
    for at, (form, mark, one) in enumerate(zip(forms, judged.choices.marks(), judged.asked.asking, strict=True)):
        # With own effort of the caller, or a pinned model, no settings.
        bare = one is not NOTHING and (one.own_effort or one.pinned is not None)
        chain = form.chains.get((bare, mark))
        if chain is None:
            steps = () if at in judged.guarded.refused else _steps(judged, pools[at], at, bare)
            chain = form.keep((bare, mark), steps)
        chains.append(chain)
    return chains


def _steps(judged: Judged, pool: Pool, at: int, bare: bool) -> tuple[Step, ...]:
    """The row's pool, then the bucket above."""
    choices, guarded = judged.choices, judged.guarded
    bucket = int(guarded.bucket[at])
    table = pool.bare_steps[bucket] if bare else pool.steps[bucket]
    own = [table[slot] for slot in choices.slots(at)]
    if at not in choices.above:
        return tuple(own)
    higher = judged.judge.book.above[int(guarded.pool[at])][bare]
    fresh = [step for slot in choices.slots_above(at) if (step := higher[slot]) is not None]
    return (*own, *fresh[:STEPS_ABOVE])


def _common(judged: Judged, rows: _Rows) -> list[bytes]:
    """What a cached copy repeats beside the decision and the features."""
    verdict, choices, asking = judged.verdict, judged.choices, judged.asked.asking
    difficulty, raw, percentile, alpha, p_chosen = forms.columns(
        verdict.difficulty, verdict.raw, verdict.percentile, judged.asked.alpha, np.array(choices.p_chosen)
    )
    columns = (
        _asked(judged),
        difficulty,
        raw,
        percentile,
        [_BUCKETS[bucket] for bucket in verdict.bucket.tolist()],
        [orjson.dumps(names) if names else b"[]" for names in rows.fired],
        [chain.models for chain in rows.chains],
        alpha,
        p_chosen,
        forms.flags(choices.explored),
        [b"null" if one.tenant is None else orjson.dumps(one.tenant) for one in asking],
        _identities(judged),
    )
    return [_COMMON % row for row in zip(*columns, strict=True)]


def _identities(judged: Judged) -> list[bytes]:
    """Who judged; and of the few rows that have it, which guardrails gave way and who could be drawn over all buckets."""
    pieces = [judged.judge.identity_json] * len(judged.asked)
    for piece, rows in ((_WAIVED, judged.guarded.waived), (_ACROSS, judged.choices.reach)):
        for at, names in rows.items():
            pieces[at] += piece % orjson.dumps(names)
    return pieces


def _decisions(judged: Judged, rows: _Rows, scores: list[bytes]) -> list[bytes]:
    """The fourteen fields that travel with the order and come back in the reply."""
    count, chosen = len(judged.asked), judged.choices.chosen
    own = np.arange(count), np.array(chosen)
    terms = (each[own] for each in (judged.scores.quality, judged.scores.cost, judged.scores.score))
    cheap, mid, hard, quality, cost, score = forms.columns(*judged.verdict.probabilities.T, *terms)
    columns = (
        [form.heads[slot] if form.heads else b"" for form, slot in zip(rows.forms, chosen, strict=True)],
        cheap,
        mid,
        hard,
        scores,
        quality,
        cost,
        score,
        repeat(took_json(judged.latency_ms, cache_hit=False)),
        [_NO_FALLBACK if reason is None else _FALLBACK % reason.encode() for reason in rows.reasons],
        [b"true" if names else b"false" for names in rows.fired],
    )
    return [_DECISION % row for row in zip(*columns, strict=False)]


def _slim(judged: Judged) -> list[bytes]:
    """Of each row the features by the names of the Heimdall API.

    The context is held against the models that the caller names, else against those of the bucket before guardrails.
    """
    reading = judged.asked.reading
    own = np.where(judged.guarded.pool < len(BUCKETS), judged.verdict.bucket, judged.guarded.pool)
    windows = np.array([judged.judge.book.pools[pool].smallest_window for pool in own.tolist()])
    columns = (
        forms.numbers(reading.token_count),
        forms.flags(reading.has_code.tolist()),
        forms.flags(reading.has_math.tolist()),
        forms.numbers(reading.entropy),
        forms.flags(reading.embedding_cached.tolist()),
        forms.numbers((judged.asked.tokens / windows).round(_RATIO_DECIMALS)),
        forms.flags((judged.asked.tokens > CONTEXT_LIMIT * windows).tolist()),
        forms.flags(reading.truncated.tolist()),
    )
    return [_SLIM % row for row in zip(*columns, strict=True)]


def _numeric(numeric: NDArray[np.float32]) -> list[bytes]:
    """The classifier's own numbers of each row that are not 0, by name: half of them are, in an ordinary prompt."""
    count, width = numeric.shape
    places = (numeric.reshape(-1) != 0).nonzero()[0]
    if not len(places):
        return [b""] * count
    pieces: list[bytes] = [b""] * (2 * len(places))
    pieces[0::2] = _NAMES.take(places % width).tolist()
    pieces[1::2] = forms.numbers(numeric.reshape(-1).take(places))
    bounds = (2 * np.searchsorted(places, width * np.arange(count + 1))).tolist()
    return [b"".join(pieces[start:end])[1:] for start, end in pairwise(bounds)]


def _asked(judged: Judged) -> list[bytes]:
    """What each request asked for beyond its text, as far as it decides; the time left only where it acted."""
    asked, reading = judged.asked, judged.asked.reading
    said: dict[int, dict[str, Any]] = {}
    if not asked.plain:
        said = {at: asking_fields(one) for at, one in enumerate(asked.asking) if one is not NOTHING}
    for at in judged.guarded.timed:
        said.setdefault(at, {})["time_left_ms"] = float(asked.time_left_ms[at])
    for name in ("images", "tools", "structured", "schema"):
        column: NDArray[np.bool_] = getattr(reading, name)
        for at in column.nonzero()[0].tolist():
            said.setdefault(at, {})[name] = True
    for at in reading.max_output.nonzero()[0].tolist():
        said.setdefault(at, {})["max_output"] = int(reading.max_output[at])
    return [orjson.dumps(said[at]) if at in said else b"{}" for at in range(len(asked))]


def _candidates(judged: Judged, rows: _Rows) -> tuple[list[bytes], list[bytes]]:
    """Of each row every candidate with its terms, and the scores of the eligible ones.

    Those that fell out come last, with the rule and its numbers.
    """
    count, found = len(judged.asked), judged.scores
    width = found.score.shape[1]
    score, quality, cost = forms.columns(
        *(each[:count].reshape(-1) for each in (found.score, found.quality, found.cost))
    )
    filled = [b""] * (4 * len(score))
    filled[0::4], filled[1::4], filled[2::4] = score, quality, cost
    filled[3::4] = forms.numbers(found.cost_usd_micros[:count].astype(np.int64))
    begins = range(0, count * width, width)
    candidates = [
        form.candidates % tuple(filled[4 * at : 4 * (at + form.size)])
        for form, at in zip(rows.forms, begins, strict=True)
    ]
    scores = [form.scores % tuple(score[at : at + form.size]) for form, at in zip(rows.forms, begins, strict=True)]
    for at in {*judged.guarded.fallen, *found.over_80[:count].nonzero()[0].tolist()}:
        cells = slice(4 * at * width, 4 * (at + 1) * width)
        candidates[at], scores[at] = _odd_candidates(judged, rows.forms[at], at, filled[cells])
    return candidates, scores


def _odd_candidates(judged: Judged, form: Form, at: int, filled: list[bytes]) -> tuple[bytes, bytes]:
    """Of a row some of whose candidates fell out, or are penalised for a full window."""
    over, fallen = judged.scores.over_80[at].tolist(), judged.guarded.fallen.get(at, ())
    eligible = judged.guarded.eligible[at].tolist() if fallen else [True] * form.size
    slots = [slot for slot in range(form.size) if eligible[slot]]
    candidates = [
        (form.candidate_over_80 if over[slot] else form.candidate)[slot] % tuple(filled[4 * slot : 4 * slot + 4])
        for slot in slots
    ]
    scores = [form.score_of[slot] % filled[4 * slot] for slot in slots]
    return b",".join([*candidates, *map(orjson.dumps, fallen)]), b",".join(scores)
