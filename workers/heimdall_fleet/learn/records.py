"""Audit and feedback records as plain rows. Pure: bytes in, one row of the decision, outcome or feedback table out."""

import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, Literal, NamedTuple

import orjson

from heimdall_fleet.learn import rewards
from heimdall_models.features import FEATURE_NAMES
from heimdall_models.record import DECISION_VERSION

Table = Literal["decision", "outcome", "feedback", "shadow"]
Kind = Literal["text", "number", "integer", "flag", "moment"]
Record = Mapping[str, Any]

DECISION_FIELDS: dict[str, Kind] = {
    "request_id": "text",
    "time": "moment",
    "tenant": "text",
    "session": "text",
    "bucket": "text",
    "bucket_before_guardrails": "text",
    "decision_type": "text",
    "selected_model": "text",
    "p_chosen": "number",
    "explored": "flag",
    "alpha": "number",
    "difficulty": "number",
    "percentile": "number",
    "experiment": "text",
    "bundle": "text",
    "catalogue": "text",
    "config": "text",
    "question": "text",
    "text": "text",
    "cached_from": "text",
    "feature_version": "text",
    "across": "text",
}
"""Plain columns of a decision. Behind them a row has its numeric features, clusters, similarities and candidates."""

OUTCOME_FIELDS: dict[str, Kind] = {
    "request_id": "text",
    "time": "moment",
    "tenant": "text",
    "bucket": "text",
    "state": "text",
    "failure": "text",
    "served_model": "text",
    "served_provider": "text",
    "p_served": "number",
    "attempts": "integer",
    "cost_usd_micros": "integer",
    "latency_ms": "number",
    "prompt_tokens": "integer",
    "completion_tokens": "integer",
    "finish_reason": "text",
    "r_finish": "number",
    "r_refusal": "number",
    "r_schema": "number",
}

FEEDBACK_FIELDS: dict[str, Kind] = {
    "request_id": "text",
    "time": "moment",
    "score": "number",
    "accepted": "flag",
    "label": "text",
}

SHADOW_FIELDS: dict[str, Kind] = {
    "request_id": "text",
    "time": "moment",
    "tenant": "text",
    "state": "text",
    "model": "text",
    "served_model": "text",
    "share": "number",
    "p_drawn": "number",
    "cost_usd_micros": "integer",
    "r_finish": "number",
    "r_refusal": "number",
    "r_schema": "number",
    "judge_served": "number",
    "judge_shadow": "number",
}
"""What another model made of an answered request, and both scores where a judge compared the two answers."""

CANDIDATE_FIELDS = ("model", "score", "quality", "cost", "cost_usd_micros")

FIELDS: dict[Table, dict[str, Kind]] = {
    "decision": DECISION_FIELDS,
    "outcome": OUTCOME_FIELDS,
    "feedback": FEEDBACK_FIELDS,
    "shadow": SHADOW_FIELDS,
}
LABELS = ("cheap", "mid", "hard")


class Unreadable(ValueError):
    """A record that cannot become a row; the message says why."""


class Row(NamedTuple):
    """One row: its table, its values in the order of the table's fields, and whether a newer fleet wrote it.

    A decision's values end with its features (float32 in the order of FEATURE_NAMES, as bytes) or None, cluster ids,
    similarities, and candidates as tuples of plain values. `unknown_features`: names of numbers that are not among them.
    """

    table: Table
    values: tuple[Any, ...]
    newer: bool = False
    unknown_features: tuple[str, ...] = ()

    @property
    def time_us(self) -> int | None:
        """Microseconds since 1970; None for feedback that does not say when."""
        time: int | None = self.values[1]
        return time

    @property
    def tenant(self) -> str | None:
        return None if self.table == "feedback" else self.values[2]


def read_row(value: bytes | None) -> Row:
    """The row in a record's value, or in a line of `heimdall tail -o json`. Raises Unreadable."""
    if not value:
        raise Unreadable("the record is empty")
    try:
        record = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise Unreadable(f"not JSON: {error}") from error
    if isinstance(record, dict) and "kind" not in record and isinstance(record.get("value"), dict):
        record = record["value"]
    if not isinstance(record, dict):
        raise Unreadable("no JSON object: one record a line is read, as `heimdall tail audit --values` writes it")
    read = _READERS.get(str(record.get("kind", "feedback")))
    if read is None:
        raise Unreadable(f"the kind {str(record['kind'])[:40]!r} is unknown: a newer fleet wrote it")
    try:
        return read(record)
    except Unreadable:
        raise
    except KeyError as error:
        raise Unreadable(f"the field {error} is missing") from error
    except (AttributeError, OverflowError, TypeError, ValueError, struct.error) as error:
        raise Unreadable(f"a field is not what it should be: {error}") from error


def _decision(record: Record) -> Row:
    get = record.get
    features = get("features") or {}
    version = get("decision_version") or DECISION_VERSION
    numbers, unknown = _numbers(features.get("numeric"))
    try:
        plain = _written_now(record)
    except KeyError:
        plain = tuple(map(get, _WRITTEN))
    values = (
        _id(record),
        _moment(record["time"]),
        *plain,
        get("question"),
        get("text"),
        get("cached_from"),
        features.get("feature_version"),
        "\n".join(get("across") or ()) or None,
        numbers,
        tuple(features.get("clusters") or ()),
        tuple(features.get("cluster_similarities") or ()),
        _stood(get("candidates") or ()),
    )
    return Row("decision", values, version != DECISION_VERSION and _is_newer(version), unknown)


def _numbers(numeric: Mapping[str, float] | None) -> tuple[bytes | None, tuple[str, ...]]:
    """The features, a name that is absent as 0, and the names that this version does not know."""
    if numeric is None:
        return None, ()
    every = {**_NONE_SAID, **numeric}
    if len(every) == len(_NONE_SAID):
        return _PACKED.pack(*every.values()), ()
    unknown = tuple(every)[len(_NONE_SAID) :]
    return _PACKED.pack(*list(every.values())[: len(_NONE_SAID)]), unknown


def _stood(candidates: Sequence[Record]) -> tuple[tuple[Any, ...], ...]:
    """The candidates that did not fall out, each as the values of CANDIDATE_FIELDS."""
    try:
        return tuple([_candidate(each) for each in candidates if "fell_out" not in each or each["fell_out"] is None])
    except KeyError:
        stood = (each for each in candidates if each.get("fell_out") is None)
        return tuple([tuple(map(each.get, CANDIDATE_FIELDS)) for each in stood])


def _is_newer(version: str) -> bool:
    """A version that is no number is none that this fleet ever wrote."""
    return not version.isdigit() or int(version) > int(DECISION_VERSION)


def _superseded(record: Record) -> Row:
    """Calls that led to no ending: a row with a cost and without a state."""
    told = dict.fromkeys(OUTCOME_FIELDS) | {
        "request_id": _id(record),
        "time": _moment(record["time"]),
        "tenant": record.get("tenant"),
        "cost_usd_micros": record["cost_usd_micros"],
    }
    return Row("outcome", tuple(told.values()))


def _outcome(record: Record) -> Row:
    get = record.get
    if get("superseded"):
        return _superseded(record)
    tokens, timings = get("tokens") or {}, get("timings_ms") or {}
    state, finish = record["state"], get("finish_reason")
    answered = state == "answered"
    values = (
        _id(record),
        _moment(record["time"]),
        get("tenant"),
        get("bucket"),
        state,
        get("failure"),
        get("selected_model"),
        get("selected_provider"),
        get("p_served"),
        len(get("attempts") or ()),
        get("cost_usd_micros"),
        timings.get("queued", 0) + timings.get("dispatch", 0) if timings else None,
        tokens.get("prompt"),
        tokens.get("completion"),
        finish,
        rewards.finish(finish) if answered else None,
        rewards.refusal(get("refused")) if answered else None,
        rewards.schema(get("schema_valid")) if answered else None,
    )
    return Row("outcome", values)


def _shadow(record: Record) -> Row:
    """A superseded one has no state: it tells of calls only."""
    get = record.get
    judge = get("judge") or {}
    answered = record["state"] == "answered"
    values = (
        _id(record),
        _moment(record["time"]),
        get("tenant"),
        None if get("superseded") else record["state"],
        record["model"],
        record["served_model"],
        record["share"],
        record["p_drawn"],
        get("cost_usd_micros"),
        rewards.finish(get("finish_reason")) if answered else None,
        rewards.refusal(get("refused")) if answered else None,
        rewards.schema(get("schema_valid")) if answered else None,
        judge.get("score_served"),
        judge.get("score_shadow"),
    )
    return Row("shadow", values)


def _feedback(record: Record) -> Row:
    score, accepted, label = record.get("score"), record.get("accepted"), record.get("label")
    if score is None and accepted is None and label is None:
        raise Unreadable("neither an audit record nor feedback: no `kind`, and no score, accepted or label")
    if score is not None and not isinstance(score, int | float):
        raise Unreadable(f"the score {str(score)[:40]!r} is no number")
    if score is not None and not 0 <= score <= 1:
        raise Unreadable(f"the score {score} is not between 0 and 1")
    if label is not None and label not in LABELS:
        raise Unreadable(f"the label {str(label)[:40]!r} is none of {', '.join(LABELS)}")
    time = record.get("time")
    return Row("feedback", (_id(record), None if time is None else _moment(time), score, accepted, label))


def _id(record: Record) -> str:
    found = record["request_id"]
    if not isinstance(found, str) or not found:
        raise Unreadable("the request_id is empty")
    return found


def _moment(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise Unreadable(f"the time {text[:40]!r} has no zone")
    return round(moment.timestamp() * 1_000_000)


_WRITTEN = tuple({"percentile": "difficulty_percentile"}.get(name, name) for name in list(DECISION_FIELDS)[2:17])
_written_now = itemgetter(*_WRITTEN)
_candidate = itemgetter(*CANDIDATE_FIELDS)
_NONE_SAID: dict[str, float] = dict.fromkeys(FEATURE_NAMES, 0.0)
_PACKED = struct.Struct(f"={len(FEATURE_NAMES)}f")
_READERS: dict[str, Callable[[Record], Row]] = {
    "decision": _decision,
    "outcome": _outcome,
    "feedback": _feedback,
    "shadow": _shadow,
}
