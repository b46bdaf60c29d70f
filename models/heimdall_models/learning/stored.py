"""A data set's files: what is in them that can be learned from, as one Arrow table. Only here pyarrow is imported.

A replay writes them; a cluster may write the same columns (docs/audit-with-connect.md), so values are looked at, not trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from heimdall_models.features import FEATURE_NAMES, FEATURE_VERSION
from heimdall_models.learning.arrow import TERMS, Flags, Floats, nulls, numbers

MANIFEST = "manifest.json"
_SHADOWS = "shadows.parquet"
_COLUMNS = (
    "request_id", "time", "bucket", "bucket_before_guardrails", "decision_type", "served_model", "p_served", "explored",
    "alpha", "candidates", "features", "feature_version", "clusters", "cost_usd_micros", "reward", "bundle",
    "reward_source", "question", "text", "r_finish", "r_refusal", "r_schema", "across", "cached_from",
)  # fmt: skip
_NESTED = ("candidates", "features", "clusters")
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

_MOMENT_US = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

NO_FEATURES = "no features: the decision is in a gap of the audit, or was taken without them"
OTHER_FEATURES = f"features of another version than {FEATURE_VERSION}: without the prompt they cannot be computed again"
NO_NUMBERS = "features that are no numbers (NaN or infinite)"
GAPS = "ranges of offsets missing from the audit: decisions in them are no random sample"
ODD_REWARD = "reward taken for unknown: not between 0 and 1"
ODD_CHANCE = "p_served taken for unknown: not above 0 and at most 1"
ODD_SHADOW = "shadows whose `share` or `p_drawn` is not above 0 and at most 1"


class DatasetError(ValueError):
    """A data set cannot be learned from: says which, what is wrong with it and what to do."""

    def __init__(self, where: Path, what: str, fix: str) -> None:
        super().__init__(f"{where}: {what}; {fix}")
        self.what = what


@dataclass(frozen=True, slots=True)
class Stored:
    """The usable rows, why how many others are not among them, the answered shadows by request id, weights of rewards."""

    table: Any
    left_out: Mapping[str, int]
    shadows: Mapping[str, Mapping[str, Any]]
    weights: Mapping[str, float]


def is_dataset(path: Path) -> bool:
    """Whether `path` is a directory that `heimdall replay` wrote, and not one of outcome tables.

    Raises DatasetError for rows by day without their manifest.
    """
    rows = (path / "rows").is_dir()
    if rows and not (path / MANIFEST).is_file() and any((path / "rows").glob("day=*")):
        raise DatasetError(
            path, f"rows of decisions without a {MANIFEST}", "put that of a replay by the same version beside them"
        )
    return rows and (path / MANIFEST).is_file()


def read_stored(dataset: Path, since: datetime | None, until: datetime | None) -> Stored:
    """The decisions with `since` ≤ time < `until`. Raises DatasetError.

    Left out and counted: rows without a decision or without features, and rows of another feature version: the numbers of
    those mean something else, and without the prompt they cannot be computed again. Rewards and probabilities that are none
    are null in the table.
    """
    manifest = _manifest(dataset)
    table = _between(_table(dataset), since, until)
    if not table.num_rows:
        span = "" if since is None and until is None else " in that range of time"
        raise DatasetError(dataset, f"it has no decisions{span}", "replay more of the audit first")
    kept, left_out = _usable(dataset, table)
    kept, odd_reward = _without(kept, "reward", _outside)
    kept, odd_chance = _without(kept, "p_served", _no_chance)
    shadows, odd_shadow = _answered_shadows(dataset)
    left_out |= {ODD_REWARD: odd_reward, ODD_CHANCE: odd_chance, ODD_SHADOW: odd_shadow}
    left_out[GAPS] = len(manifest.get("gaps", ()))
    weights = manifest.get("terms", {}).get("weights", {})
    return Stored(kept, {why: count for why, count in left_out.items() if count}, shadows, weights)


def _usable(dataset: Path, table: Any) -> tuple[Any, dict[str, int]]:
    known = ~nulls(table["features"])
    current = known & (np.array(table["feature_version"].to_pylist(), np.str_) == FEATURE_VERSION)
    kept = table.filter(pa.array(current))
    numeric = kept["features"].combine_chunks().flatten().to_numpy().reshape(-1, len(FEATURE_NAMES))
    finite = np.isfinite(numeric).all(axis=1)
    left_out = {
        NO_FEATURES: int((~known).sum()),
        OTHER_FEATURES: int((known & ~current).sum()),
        NO_NUMBERS: int((~finite).sum()),
    }
    if not finite.any():
        reasons = "; ".join(f"{count} rows: {why}" for why, count in left_out.items() if count)
        raise DatasetError(dataset, f"no row can be used ({reasons})", "replay decisions of this version's workers")
    return kept.filter(pa.array(finite)), left_out


def _without(table: Any, column: str, odd: Callable[[Floats], Flags]) -> tuple[Any, int]:
    """The table with null for the values that are odd, and how many these were. NaN is as good as null."""
    values = numbers(table[column])
    strange = odd(values)
    sane = pa.array(np.where(strange, np.nan, values), from_pandas=True)
    return table.set_column(table.schema.get_field_index(column), column, sane), int(strange.sum())


def _outside(values: Floats) -> Flags:
    return np.asarray((values < 0.0) | (values > 1.0))


def _no_chance(values: Floats) -> Flags:
    return np.asarray((values <= 0.0) | (values > 1.0))


def _answered_shadows(dataset: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """By request id, and how many have no probability; none where the data set has no file of them."""
    file = dataset / _SHADOWS
    try:
        found = pq.read_table(file).to_pylist() if file.is_file() else []
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(file, f"cannot be read ({error})", "replay into a new directory") from error
    answered = [row for row in found if row["state"] == "answered"]
    drawn = [row for row in answered if 0 < row["share"] <= 1 and 0 < row["p_drawn"] <= 1]
    return {row["request_id"]: row for row in drawn}, len(answered) - len(drawn)


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
    files = sorted((dataset / "rows").glob("day=*/*.parquet"))
    try:
        tables = [_columns_of(file) for file in files]
        return pa.concat_tables(tables) if tables else _SCHEMA.empty_table()
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(dataset, f"its rows cannot be read ({error})", "replay into a new directory") from error


def _columns_of(file: Path) -> Any:
    """The columns of one file, each of its type; one that a replay before did not write yet is null."""
    there = set(pq.read_schema(file).names)
    table = pq.read_table(file, columns=[name for name in _COLUMNS if name in there], partitioning=None)
    for name in _COLUMNS:
        kind = _TYPES.get(name, pa.string())
        if name not in there:
            table = table.append_column(name, pa.nulls(table.num_rows, kind))
        elif name not in _NESTED:
            # Spark writes moments as nanoseconds.
            plain = table[name].cast(kind, safe=False)
            table = table.set_column(table.schema.get_field_index(name), name, plain)
    return table.select(list(_COLUMNS))


def _between(table: Any, since: datetime | None, until: datetime | None) -> Any:
    moment = table["time"].cast(pa.int64()).to_numpy()
    keep = np.ones(len(moment), np.bool_)
    if since is not None:
        keep &= moment >= (since - _EPOCH) // _MOMENT_US
    if until is not None:
        keep &= moment < (until - _EPOCH) // _MOMENT_US
    return table.filter(pa.array(keep))
