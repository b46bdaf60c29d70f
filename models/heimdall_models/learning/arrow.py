"""Columns of a replayed data set, as Arrow has them, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]

NOBODY = -1
"""In place of a model's number: nobody answered, or it is not known who."""

TERMS = ("score", "quality", "cost", "cost_usd_micros")


def flat_candidates(column: Any) -> tuple[Indices, list[str], dict[str, Floats]]:
    """The row and the model of every candidate, and its terms."""
    flat, lengths = _flattened(column)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    return rows, flat.field("model").to_pylist(), {name: numbers(flat.field(name)) for name in TERMS}


def spread(count: int, width: int, rows: Indices, columns: Indices, values: Floats) -> Floats:
    matrix = np.full((count, width), np.nan)
    matrix[rows, columns] = values
    return matrix


def flags_of(listed: Sequence[Sequence[str]], number: Mapping[str, int]) -> Flags:
    matrix = np.zeros((len(listed), len(number)), np.bool_)
    for row, names in enumerate(listed):
        matrix[row, [number[name] for name in names]] = True
    return matrix


def _flattened(column: Any) -> tuple[Any, Indices]:
    """The members of all lists one behind the other, and how many each row has; none where it is null."""
    joined = column.combine_chunks()
    return joined.flatten(), joined.value_lengths().fill_null(0).to_numpy().astype(np.int64)


def clusters_of(column: Any) -> tuple[Indices, Floats]:
    """(n, k) numbers and weights, `NOBODY` and 0 where a row has fewer."""
    flat, lengths = _flattened(column)
    width = int(lengths.max(initial=0))
    rows = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    ids, weights = np.full((len(lengths), width), NOBODY), np.zeros((len(lengths), width))
    ids[rows, place] = flat.field("id").to_numpy()
    weights[rows, place] = flat.field("weight").to_numpy()
    return ids, weights


def texts(column: Any) -> NDArray[np.str_]:
    return np.array([value or "" for value in column.to_pylist()], np.str_)


def numbers(column: Any) -> Floats:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)


def nulls(column: Any) -> Flags:
    return np.asarray(column.is_null().to_numpy(), np.bool_)
