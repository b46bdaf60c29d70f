"""Logged decisions with what came of them, as arrays: what `heimdall replay` wrote. The only module here with pyarrow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from heimdall_models.features import FEATURE_NAMES, FEATURE_VERSION
from heimdall_models.learning.arrow import (
    NOBODY,
    TERMS,
    Flags,
    Floats,
    Indices,
    clusters_of,
    flags_of,
    flat_candidates,
    nulls,
    numbers,
    spread,
    texts,
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

MANIFEST = "manifest.json"
_COLUMNS = (
    "request_id", "time", "bucket", "bucket_before_guardrails", "decision_type", "served_model", "p_served", "explored",
    "alpha", "candidates", "features", "feature_version", "clusters", "cost_usd_micros", "reward", "bundle",
    "reward_source", "question", "text", "r_finish", "r_refusal", "r_schema", "across", "cached_from",
)  # fmt: skip
_SHADOWS = "shadows.parquet"
_PAIR_SIGNALS = ("finish", "refusal", "schema")
"""What is read off either answer."""
FEWEST_RATED = 200
"""With so many answers that users rated, what is only read off the others counts no more."""

_MOMENT_US = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class DatasetError(ValueError):
    """A data set cannot be learned from: says which, what is wrong with it and what to do."""

    def __init__(self, where: Path, what: str, fix: str) -> None:
        super().__init__(f"{where}: {what}; {fix}")
        self.what = what


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


def is_dataset(path: Path) -> bool:
    """Whether `path` is a directory that `heimdall replay` wrote, and not one of outcome tables."""
    return (path / MANIFEST).is_file() and (path / "rows").is_dir()


def read_logged(dataset: Path, *, since: datetime | None = None, until: datetime | None = None) -> Logged:
    """The decisions of a replayed data set with `since` ≤ time < `until`. Raises DatasetError.

    Left out and counted in `left_out`: rows without a decision or without features, and rows of another feature version:
    the numbers of those mean something else, and without the prompt they cannot be computed again.
    """
    manifest = _manifest(dataset)
    table = _between(_table(dataset), since, until)
    if not table.num_rows:
        span = "" if since is None and until is None else " in that range of time"
        raise DatasetError(dataset, f"it has no decisions{span}", "replay more of the audit first")
    known = ~nulls(table["features"])
    version = np.array(table["feature_version"].to_pylist(), np.str_)
    current = version == FEATURE_VERSION
    left_out = {
        "no features: the decision is in a gap of the audit, or was taken without them": int((~known).sum()),
        f"features of another version than {FEATURE_VERSION}: without the prompt they cannot be computed again": int(
            (known & ~current).sum()
        ),
    }
    if not (known & current).any():
        reasons = "; ".join(f"{count} rows: {why}" for why, count in left_out.items() if count)
        raise DatasetError(dataset, f"no row can be used ({reasons})", "replay decisions of this version's workers")
    gaps = sum(len(source.get("missing", ())) for run in manifest.get("runs", ()) for source in run.get("ranges", ()))
    left_out["ranges of offsets missing from the audit: decisions in them are no random sample"] = gaps
    kept = table.filter(pa.array(known & current))
    weights = manifest.get("terms", {}).get("weights", {})
    return _logged(kept, {why: count for why, count in left_out.items() if count}, _answered_shadows(dataset), weights)


def _answered_shadows(dataset: Path) -> dict[str, dict[str, Any]]:
    """By request id; none where the data set has no file of them."""
    file = dataset / _SHADOWS
    found = pq.read_table(file).to_pylist() if file.is_file() else []
    return {row["request_id"]: row for row in found if row["state"] == "answered"}


def _manifest(dataset: Path) -> dict[str, Any]:
    if not is_dataset(dataset):
        raise DatasetError(
            dataset, "not a directory that `heimdall replay` wrote", "give the --out of a replay, or outcome tables"
        )
    try:
        found: dict[str, Any] = orjson.loads((dataset / MANIFEST).read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise DatasetError(dataset / MANIFEST, f"cannot be read ({error})", "replay into a new directory") from error
    names = found.get("feature_names")
    if names is not None and tuple(names) != FEATURE_NAMES:
        raise DatasetError(
            dataset, "its rows have other features than this version computes", "replay into a new directory"
        )
    return found


def _table(dataset: Path) -> Any:
    files = sorted((dataset / "rows").glob("day=*/rows.parquet"))
    try:
        tables = [_columns_of(file) for file in files]
        return pa.concat_tables(tables) if tables else _SCHEMA.empty_table()
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(dataset, f"its rows cannot be read ({error})", "replay into a new directory") from error


def _columns_of(file: Path) -> Any:
    """The columns of one day; one that a replay before did not write yet is null."""
    there = set(pq.read_schema(file).names)
    table = pq.read_table(file, columns=[name for name in _COLUMNS if name in there], partitioning=None)
    for name in _COLUMNS:
        if name not in there:
            table = table.append_column(name, pa.nulls(table.num_rows, _TYPES.get(name, pa.string())))
    return table.select(list(_COLUMNS))


def _between(table: Any, since: datetime | None, until: datetime | None) -> Any:
    moment = table["time"].cast(pa.int64()).to_numpy()
    keep = np.ones(len(moment), np.bool_)
    if since is not None:
        keep &= moment >= (since - _EPOCH) // _MOMENT_US
    if until is not None:
        keep &= moment < (until - _EPOCH) // _MOMENT_US
    return table.filter(pa.array(keep))


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
        time_ms=table["time"].cast(pa.int64()).to_numpy() // 1000,
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


_CANDIDATE = pa.struct(
    [("model", pa.string()), *((name, pa.float64()) for name in TERMS[:3]), ("cost_usd_micros", pa.int64())]
)
_TYPES: Mapping[str, Any] = {
    "time": pa.timestamp("us", tz="UTC"),
    "explored": pa.bool_(),
    "candidates": pa.list_(_CANDIDATE),
    "features": pa.list_(pa.float32(), len(FEATURE_NAMES)),
    "clusters": pa.list_(pa.struct([("id", pa.int32()), ("weight", pa.float32())])),
    "cost_usd_micros": pa.int64(),
    **dict.fromkeys(("p_served", "alpha", "reward", "r_finish", "r_refusal", "r_schema"), pa.float64()),
}
_SCHEMA = pa.schema([(name, _TYPES.get(name, pa.string())) for name in _COLUMNS])
