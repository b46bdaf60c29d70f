"""A judged batch as JSON: the decision that travels, and the record from which it can be made again.

This is the only step that touches every message in Python; it puts numbers into the templates of forms.py and does
nothing else. Whoever needs the fields reads them back: `Decided.decision`, `Decided.record`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from heimdall_models import forms
from heimdall_models.asked import NOTHING, Asked, Asking, asking_fields
from heimdall_models.choose import STEPS_ABOVE, Choices, chain
from heimdall_models.features import FEATURE_NAMES, FEATURE_VERSION
from heimdall_models.forms import Chain, Form, Steps
from heimdall_models.guard import Guarded
from heimdall_models.judge import Judge, Verdict
from heimdall_models.pools import BUCKETS, Pool
from heimdall_models.score import CONTEXT_LIMIT, Scores
from heimdall_schemas.failure import Failure
from heimdall_schemas.order import Step

DECISION_VERSION = "1"
"""Raised when the same inputs would be decided otherwise, or when a recorded field changes its meaning."""

DecisionType = Literal["scored", "cached", "pinned", "guarded", "explored", "sticky", "default"]

FEATURE_TIMEOUT = "FEATURE_TIMEOUT"
PREHOOK_TIMEOUT = "PREHOOK_TIMEOUT"
MODEL_PREDICT_FAILED = "MODEL_PREDICT_FAILED"

_RATIO_DECIMALS = 6
_NO_TABLE: Steps = ()
_BUCKETS = tuple(orjson.dumps(bucket.value) for bucket in BUCKETS)
_NAMES = np.array([b"," + orjson.dumps(name) + b":" for name in FEATURE_NAMES], object)

_DECISION = (
    b'{%b,"bucket_probabilities":{"cheap":%b,"mid":%b,"hard":%b},"alpha_scores":{%b},"quality_score":%b,"cost_score":%b,'
    b'"final_score":%b,"decision_latency_ms":%b,"cache_hit":false,"fallback_used":%b,"fallback_reason":%b,'
    b'"guardrail_triggered":%b,"decision_version":"' + DECISION_VERSION.encode() + b'"}'
)
_COMMON = (
    b'"asked":%b,"difficulty":%b,"difficulty_raw":%b,"difficulty_percentile":%b,"bucket_before_guardrails":%b,'
    b'"guardrails":%b,"chain":%b,"alpha":%b,"p_chosen":%b,"explored":%b,"tenant":%b,%b'
)
_SLIM = (
    b'"token_count":%b,"has_code":%b,"has_math":%b,"entropy":%b,"embedding_cached":%b,"context_ratio":%b,'
    b'"context_overflow":%b,"truncated":%b,"feature_version":"' + FEATURE_VERSION.encode() + b'"'
)
_DETAIL = b',"clusters":[%b],"cluster_similarities":[%b],"extraction_latency_ms":%b,"numeric":{%b}'


class Kept(NamedTuple):
    """What the decision cache keeps, as JSON: all but what belongs to the request itself or fills the record."""

    decision: bytes
    common: bytes
    features: bytes


class Decided(NamedTuple):
    """One request's decision.

    `decision_json`: the fourteen names of the Heimdall API. `record_json`: a DecisionRecord's other fields but those of
    the request itself, which `audit_json` puts first. `kept` None: the next caller shall not get this decision.
    """

    request_id: str
    session: str | None
    bucket: str
    model: str
    decision_type: DecisionType
    fallback_reason: str | None
    guardrails: Sequence[str]
    chain: Chain
    p_chosen: float
    token_count: int
    pinned: bool
    decision_json: bytes
    record_json: bytes
    kept: Kept | None

    @property
    def steps(self) -> tuple[Step, ...]:
        """Whom to ask in turn."""
        return self.chain.steps

    @property
    def decision(self) -> dict[str, Any]:
        """The fourteen fields, read back from their JSON."""
        fields: dict[str, Any] = orjson.loads(self.decision_json)
        return fields

    @property
    def record(self) -> dict[str, Any]:
        """The record's other fields but those that only triage knows (`correlation_id`, `time`, `worker`)."""
        return {**_own(self), **orjson.loads(self.record_json)}


def audit_json(decided: Decided, added: Mapping[str, Any]) -> bytes:
    """The DecisionRecord as JSON; `added` is what triage knows besides."""
    head = orjson.dumps({**_own(decided), **added})
    return b"".join((head[:-1], b",", decided.decision_json[1:-1], b",", decided.record_json[1:]))


def _own(decided: Decided) -> dict[str, Any]:
    return {"kind": "decision", "request_id": decided.request_id, "session": decided.session}


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


@dataclass(frozen=True, slots=True)
class _Sheet:
    """The batch's numbers as JSON, a place for each row; the cells (row × width) hold one for each slot of each row.

    `filled`: score, quality, cost and expected cost of each cell in turn.
    """

    width: int
    score: list[bytes]
    quality: list[bytes]
    cost: list[bytes]
    filled: list[bytes]
    difficulty: list[bytes]
    raw: list[bytes]
    percentile: list[bytes]
    probabilities: list[bytes]
    alpha: list[bytes]
    p_chosen: list[bytes]
    slim: list[bytes]
    detail: list[bytes]
    asked: list[bytes]
    latency: bytes
    tokens: list[int]
    before: list[int]
    bucket: list[int]
    pool: list[int]
    failed: list[bool]
    over_80: list[bool]


def write_records(judged: Judged) -> list[Decided | Refusal]:
    """One answer for each row, in order."""
    ids, refused, sheet = judged.asked.ids, judged.guarded.refused, _sheet(judged)
    return [
        Refusal(ids[at], refused[at]) if at in refused else _decided(judged, sheet, at)
        for at in range(len(judged.asked))
    ]


def _sheet(judged: Judged) -> _Sheet:
    """Arrays become JSON and lists once for the batch: a look-up in an array costs ten times one in a list."""
    count = len(judged.asked)
    verdict, scores = judged.verdict, judged.scores
    score, quality, cost = (forms.numbers(each[:count]) for each in (scores.score, scores.quality, scores.cost))
    filled = [b""] * (4 * len(score))
    filled[0::4], filled[1::4], filled[2::4] = score, quality, cost
    filled[3::4] = forms.numbers(scores.cost_usd_micros[:count].astype(np.int64))
    slim, detail = _features(judged)
    return _Sheet(
        width=scores.score.shape[1],
        score=score,
        quality=quality,
        cost=cost,
        filled=filled,
        difficulty=forms.numbers(verdict.difficulty),
        raw=forms.numbers(verdict.raw),
        percentile=forms.numbers(verdict.percentile),
        probabilities=forms.numbers(verdict.probabilities),
        alpha=forms.numbers(judged.asked.alpha),
        p_chosen=forms.numbers(np.array(judged.choices.p_chosen)),
        slim=slim,
        detail=detail,
        asked=_asked(judged),
        latency=orjson.dumps(judged.latency_ms),
        tokens=judged.asked.reading.token_count.tolist(),
        before=verdict.bucket.tolist(),
        bucket=judged.guarded.bucket.tolist(),
        pool=judged.guarded.pool.tolist(),
        failed=verdict.failed.tolist(),
        over_80=np.any(scores.over_80[:count], axis=1).tolist(),
    )


def _features(judged: Judged) -> tuple[list[bytes], list[bytes]]:
    """Of each row the features by the names of the Heimdall API, and those that a cached copy does not repeat."""
    reading = judged.asked.reading
    windows = [judged.judge.book.pools[bucket].smallest_window for bucket in judged.verdict.bucket.tolist()]
    ratios = (judged.asked.tokens / windows).round(_RATIO_DECIMALS)
    slim = zip(
        forms.numbers(reading.token_count),
        forms.flags(reading.has_code.tolist()),
        forms.flags(reading.has_math.tolist()),
        forms.numbers(reading.entropy),
        forms.flags(reading.embedding_cached.tolist()),
        forms.numbers(ratios),
        forms.flags((ratios > CONTEXT_LIMIT).tolist()),
        forms.flags(reading.truncated.tolist()),
        strict=True,
    )
    took = orjson.dumps(reading.extraction_ms)
    clusters, near, numeric = forms.rows(reading.clusters), forms.rows(reading.similarities), _numeric(reading.numeric)
    detail = [
        _DETAIL % (cluster, similarity, took, own)
        for cluster, similarity, own in zip(clusters, near, numeric, strict=True)
    ]
    return [_SLIM % row for row in slim], detail


def _numeric(numeric: NDArray[np.float32]) -> list[bytes]:
    """The classifier's own numbers of each row that are not 0, by name: three in four are, in an ordinary prompt."""
    rows, columns = np.nonzero(numeric)
    pieces: list[bytes] = [b""] * (2 * len(rows))
    pieces[0::2] = _NAMES[columns].tolist()
    if len(rows):
        pieces[1::2] = forms.numbers(numeric[rows, columns])
    bounds = (2 * np.searchsorted(rows, np.arange(len(numeric) + 1))).tolist()
    return [b"".join(pieces[start:end])[1:] for start, end in pairwise(bounds)]


def _decided(judged: Judged, sheet: _Sheet, at: int) -> Decided:
    choices, judge, asking = judged.choices, judged.judge, judged.asked.asking[at]
    bucket, slot, p_chosen = sheet.bucket[at], choices.chosen[at], choices.p_chosen[at]
    pool = judge.book.pools[sheet.pool[at]]
    form = pool.form(bucket)
    fired: list[str] = judged.guarded.fired.get(at, [])
    reason = _fallback(judged, at) if sheet.failed[at] else None
    steps = _chain(judged, form, pool, at)
    decision = _decision(judged, sheet, form, (at, slot, reason))
    common = _COMMON % (
        sheet.asked[at],
        sheet.difficulty[at],
        sheet.raw[at],
        sheet.percentile[at],
        _BUCKETS[sheet.before[at]],
        orjson.dumps(fired) if fired else b"[]",
        steps.models,
        sheet.alpha[at],
        sheet.p_chosen[at],
        b"true" if choices.explored[at] else b"false",
        b"null" if asking.tenant is None else orjson.dumps(asking.tenant),
        judge.identity_json,
    )
    kind = _type(asking, choices, at, reason, fired)
    record = b'{"decision_type":"%b",%b,"features":{%b%b},"candidates":[%b]}' % (
        kind.encode(), common, sheet.slim[at], sheet.detail[at], _candidates(judged, sheet, form, at),
    )  # fmt: skip
    forced = reason is not None or at in judged.guarded.timed
    return Decided(
        judged.asked.ids[at], asking.session, BUCKETS[bucket].value, pool.names[slot], kind, reason, fired, steps,
        p_chosen, sheet.tokens[at], asking.pinned is not None, decision, record,
        None if forced else Kept(decision, common, sheet.slim[at]),
    )  # fmt: skip


def _decision(judged: Judged, sheet: _Sheet, form: Form, row: tuple[int, int, str | None]) -> bytes:
    """The fourteen fields that travel with the order and come back in the reply."""
    at, slot, reason = row
    cell = at * sheet.width
    return _DECISION % (
        form.heads[slot],
        *sheet.probabilities[3 * at : 3 * at + 3],
        _alpha_scores(judged, sheet, form, at),
        sheet.quality[cell + slot],
        sheet.cost[cell + slot],
        sheet.score[cell + slot],
        sheet.latency,
        b"false" if reason is None else b"true",
        b"null" if reason is None else orjson.dumps(reason),
        b"true" if at in judged.guarded.fired else b"false",
    )


def _fallback(judged: Judged, at: int) -> str:
    """Which step a default stands in for."""
    reading = judged.asked.reading
    if reading.late[at]:
        return FEATURE_TIMEOUT
    return PREHOOK_TIMEOUT if reading.spent else MODEL_PREDICT_FAILED


def _chain(judged: Judged, form: Form, pool: Pool, at: int) -> Chain:
    """The row's pool, then the bucket above. Own effort of the caller, or a pinned model: no settings."""
    choices, asking, bucket = judged.choices, judged.asked.asking[at], judged.guarded.bucket[at]
    bare = asking.own_effort or asking.pinned is not None
    table = pool.bare_steps[bucket] if bare else pool.steps[bucket]
    found = choices.above.get(at)
    if found is None:
        return form.chain(table, chain(choices, at), (_NO_TABLE, (), 0))
    below, ranked = found
    return form.chain(table, chain(choices, at), (judged.judge.book.above[below][bare], ranked, STEPS_ABOVE))


def _type(asking: Asking, choices: Choices, at: int, reason: str | None, fired: list[str]) -> DecisionType:
    if asking.pinned is not None:
        return "pinned"
    if choices.explored[at]:
        return "explored"
    if reason is not None:
        return "default"
    if choices.sticky[at]:
        return "sticky"
    return "guarded" if fired else "scored"


def _asked(judged: Judged) -> list[bytes]:
    """What each request asked for beyond its text, as far as it decides; the time left only where it acted."""
    asked, reading = judged.asked, judged.asked.reading
    said: dict[int, dict[str, Any]] = {}
    if not asked.plain:
        said = {at: asking_fields(one) for at, one in enumerate(asked.asking) if one is not NOTHING}
    for at in judged.guarded.timed:
        said.setdefault(at, {})["time_left_ms"] = float(asked.time_left_ms[at])
    for name, column in (("images", reading.images), ("tools", reading.tools), ("structured", reading.structured)):
        for at in np.flatnonzero(column).tolist():
            said.setdefault(at, {})[name] = True
    for at in np.flatnonzero(reading.max_output).tolist():
        said.setdefault(at, {})["max_output"] = int(reading.max_output[at])
    return [orjson.dumps(said[at]) if at in said else b"{}" for at in range(len(asked))]


def _alpha_scores(judged: Judged, sheet: _Sheet, form: Form, at: int) -> bytes:
    """Every eligible candidate's score."""
    cell = at * sheet.width
    own = sheet.score[cell : cell + form.size]
    if at not in judged.guarded.fallen:
        return form.scores % tuple(own)
    eligible = judged.guarded.eligible[at].tolist()
    scored = zip(form.score_of, own, eligible, strict=False)
    return b",".join([template % score for template, score, stays in scored if stays])


def _candidates(judged: Judged, sheet: _Sheet, form: Form, at: int) -> bytes:
    """Every candidate with its terms; those that fell out come last, with the rule and its numbers."""
    start = 4 * at * sheet.width
    filled = sheet.filled[start : start + 4 * form.size]
    fallen = judged.guarded.fallen.get(at, ())
    if not fallen and not sheet.over_80[at]:
        return form.candidates % tuple(filled)
    over, eligible = judged.scores.over_80[at].tolist(), judged.guarded.eligible[at].tolist()
    written = [
        (form.candidate_over_80 if over[slot] else form.candidate)[slot] % tuple(filled[4 * slot : 4 * slot + 4])
        for slot in range(form.size)
        if eligible[slot] or not fallen
    ]
    return b",".join([*written, *map(orjson.dumps, fallen)])
