"""Making a decision again from its audit record alone, from the recorded features to the choice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from heimdall_models.asked import Reading, Wishes, asking_of
from heimdall_models.decide import judge_read
from heimdall_models.features import FEATURE_NAMES, FEATURE_VERSION
from heimdall_models.judge import Judge
from heimdall_models.record import (
    DECISION_VERSION,
    EMBEDDING_TIMEOUT,
    FEATURE_TIMEOUT,
    PREHOOK_TIMEOUT,
    Decided,
    Refusal,
)
from heimdall_models.times import StepTimes, Timing

TOLERANCE = 1e-9

_CONVERSATION = ("images", "tools", "structured", "schema", "max_output")
_LATENCIES = frozenset({"decision_latency_ms", "extraction_latency_ms"})
_ADDED_BY_TRIAGE = frozenset({"correlation_id", "time", "worker", "tags", "question", "text", "challenger"})


class RecomputeError(ValueError):
    """This record cannot be made again by this judge; the message says which one can."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A field, as a path, that did not come out as recorded."""

    field: str
    recorded: Any
    recomputed: Any


@dataclass(frozen=True, slots=True)
class Recomputed:
    """The decision made again, and everything about it that differs from the record; latencies are not compared."""

    decided: Decided
    differences: tuple[Difference, ...]

    @property
    def proved(self) -> bool:
        return not self.differences


def recompute(record: Mapping[str, Any], judge: Judge, alpha: float | None = None) -> Recomputed:
    """Decide again from `record`, a decision of the audit topic; `alpha` tries another weight of quality against cost.

    Raises RecomputeError when the record is a cached copy, or was made by another bundle, catalogue, configuration or
    version than `judge`.
    """
    chosen = _judge_of(record, judge)
    _check(record, chosen)
    said = dict(record["asked"])
    reading = _reading(record, said)
    time_left_ms = said.pop("time_left_ms", None)
    wished = {name: value for name, value in said.items() if name not in _CONVERSATION}
    asking = asking_of(wished, record["session"])
    if alpha is not None:
        asking = replace(asking, alpha=alpha)
    wishes = Wishes([record["request_id"]], [asking], [time_left_ms])
    (answer,) = judge_read(wishes, reading, chosen, Timing(lambda: 0.0, 0.0, StepTimes()))
    if isinstance(answer, Refusal):
        raise RecomputeError(f"the request was answered, now it is refused: {answer.failure.message}")
    again = {**answer.record, **answer.decision}
    fields = [name for name in record if name not in _ADDED_BY_TRIAGE]
    differences = tuple(
        difference for name in fields for difference in _differences(name, record[name], again.get(name))
    )
    return Recomputed(answer, differences)


def _judge_of(record: Mapping[str, Any], judge: Judge) -> Judge:
    """The judge of the record's arm."""
    label = record.get("experiment")
    for one in (judge, *judge.arms.values()):
        if one.label == label:
            return one
    raise RecomputeError(f"the record was made in the experiment arm {label!r}, which the configuration does not have")


def _check(record: Mapping[str, Any], judge: Judge) -> None:
    if record.get("decision_type") == "cached":
        raise RecomputeError(
            f"this decision is a cached copy of request {record.get('cached_from')}; recompute that one"
        )
    expected = {
        "decision_version": DECISION_VERSION,
        "bundle": judge.bundle.hash,
        "catalogue": judge.book.catalogue.hash,
        "config": judge.rules.config_hash,
    }
    for name, value in expected.items():
        if record.get(name) != value:
            raise RecomputeError(
                f"the record was made with {name} {record.get(name)!r}, here it is {value!r}; give that one"
            )
    version = record["features"].get("feature_version")
    if version != FEATURE_VERSION:
        raise RecomputeError(f"the record has features of version {version!r}, this program has {FEATURE_VERSION!r}")


def _reading(record: Mapping[str, Any], said: Mapping[str, Any]) -> Reading:
    features, reason = record["features"], record["fallback_reason"]
    numeric = features["numeric"]
    return Reading(
        numeric=np.array([[numeric.get(name, 0.0) for name in FEATURE_NAMES]], np.float32),
        token_count=np.array([features["token_count"]], np.int64),
        has_code=np.array([features["has_code"]], np.bool_),
        has_math=np.array([features["has_math"]], np.bool_),
        entropy=np.array([features["entropy"]], np.float32),
        images=np.array([said.get("images", False)], np.bool_),
        tools=np.array([said.get("tools", False)], np.bool_),
        structured=np.array([said.get("structured", False)], np.bool_),
        schema=np.array([said.get("schema", False)], np.bool_),
        max_output=np.array([said.get("max_output", 0)], np.float64),
        clusters=np.array([features["clusters"]], np.int64),
        similarities=np.array([features["cluster_similarities"]], np.float32),
        embedding_cached=np.array([features["embedding_cached"]], np.bool_),
        truncated=np.array([features["truncated"]], np.bool_),
        late=np.array([reason in (FEATURE_TIMEOUT, EMBEDDING_TIMEOUT)], np.bool_),
        extraction_ms=0.0,
        spent=reason == PREHOOK_TIMEOUT,
        embedding_late=reason == EMBEDDING_TIMEOUT,
    )


def _differences(path: str, recorded: Any, again: Any) -> Iterator[Difference]:
    """Every leaf that differs, numbers by more than the tolerance."""
    if path.rpartition(".")[2] in _LATENCIES:
        return
    if isinstance(recorded, Mapping) and isinstance(again, Mapping):
        for name in {**recorded, **again}:
            yield from _differences(f"{path}.{name}", recorded.get(name), again.get(name))
    elif isinstance(recorded, list) and isinstance(again, list) and len(recorded) == len(again):
        for place, (one, other) in enumerate(zip(recorded, again, strict=True)):
            yield from _differences(f"{path}[{place}]", one, other)
    elif not _same(recorded, again):
        yield Difference(path, recorded, again)


def _same(recorded: Any, again: Any) -> bool:
    numbers = (int, float)
    if isinstance(recorded, numbers) and isinstance(again, numbers) and not isinstance(recorded, bool):
        return abs(recorded - again) <= TOLERANCE
    return bool(recorded == again)
