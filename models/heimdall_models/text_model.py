"""A linear model over hashed words, word pairs and character 4-grams; its one number is a column of the features."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall_models.scan import Scan, windows

WORD_BITS = 17
PAIR_BITS = 18
CHAR_BITS = 17
GROUP_BITS = (WORD_BITS, PAIR_BITS, CHAR_BITS)
"""Size of each group's weight table as a power of two: words, word pairs, character 4-grams."""

_SLOTS = 2048
_PAIR_K1 = np.uint64(0x9E3779B97F4A7C15)
_PAIR_K2 = np.uint64(0xD6E8FEB86659FD93)
_CHAR_K = np.uint32(0x9E3779B1)


@dataclass(frozen=True, slots=True)
class Grams:
    """The grams of one group: `index` (grams,) into the weight table, row after row; `bounds` (n, 2) limits of each row.

    `repeated` (grams,) marks a gram that the row has again further on, where the group counts each gram once.
    """

    index: NDArray[np.integer]
    bounds: NDArray[np.int64]
    repeated: NDArray[np.bool_] | None = None

    def counts(self) -> NDArray[np.int64]:
        """(n,) how many grams of the group each row has, repeated ones left out."""
        size = self.bounds[:, 1] - self.bounds[:, 0]
        if self.repeated is None:
            return size
        return size - _row_sums(self.repeated.view(np.int8), self.bounds)


@dataclass(frozen=True, slots=True)
class TextModel:
    """`weights`: one int8 table of 2**bits for each of `GROUP_BITS`; `scales`: what one step of each is worth.

    score = bias + Σ_group scale · Σ_grams weight / √(grams of the row), in log-odds that a cheap model answers well.
    Words and pairs count once a text. `slopes`: column of the features, and log-odds for each unit of it, of the amounts
    that are added to the score.
    """

    weights: tuple[NDArray[np.int8], ...]
    scales: tuple[float, ...]
    bias: float
    slopes: tuple[tuple[int, float], ...] = ()

    def score(self, scanned: Scan) -> NDArray[np.float64]:
        """(n,) scores; the weights are whole numbers, so a row's score is the same in every batch."""
        total = np.full(scanned.rows, self.bias)
        for table, scale, grams in zip(self.weights, self.scales, text_grams(scanned), strict=True):
            values = table.take(grams.index)
            if grams.repeated is not None:
                values[grams.repeated] = 0
            total += scale * _row_sums(values, grams.bounds) / np.sqrt(np.maximum(grams.counts(), 1))
        return total

    def amounts(self, numeric: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) log-odds of the amounts in (n, features): summed column by column, so the same in every batch."""
        return amounts(numeric, self.slopes)


def amounts(numeric: NDArray[np.float32], slopes: Iterable[tuple[int, float]]) -> NDArray[np.float64]:
    """(n,) Σ slope · column over (column, slope) of (n, features)."""
    total = np.zeros(len(numeric))
    for column, slope in slopes:
        total += slope * numeric[:, column].astype(np.float64)
    return total


def text_grams(scanned: Scan) -> tuple[Grams, Grams, Grams]:
    """Words, pairs of neighbouring words, and 4-byte windows of every text, as indices into the weight tables."""
    hashes = scanned.word_hash
    limits = np.searchsorted(scanned.word_row, np.arange(scanned.rows + 1))
    word_bounds = np.stack((limits[:-1], limits[1:]), axis=1)
    words = (hashes >> np.uint64(64 - WORD_BITS)).astype(np.int64)
    mixed = (hashes[:-1] * _PAIR_K1 ^ hashes[1:]) * _PAIR_K2
    pairs = (mixed >> np.uint64(64 - PAIR_BITS)).astype(np.int64)
    # A row of w words has w - 1 pairs; the pair that would span two rows lies between their bounds.
    pair_bounds = np.stack((limits[:-1], np.maximum(limits[1:] - 1, limits[:-1])), axis=1)
    chars = ((windows(scanned.folded, 4) * _CHAR_K) >> np.uint32(32 - CHAR_BITS)).astype(np.int64)
    char_bounds = np.stack((scanned.starts, scanned.ends), axis=1)
    return (
        Grams(words, word_bounds, _repeated(words, scanned.word_row, scanned.rows)),
        Grams(pairs, pair_bounds, _repeated(pairs, scanned.word_row[:-1], scanned.rows)),
        Grams(chars, char_bounds),
    )


def _repeated(index: NDArray[np.int64], row: NDArray[np.int64], rows: int) -> NDArray[np.bool_]:
    """Whether a gram's slot in its row's table ends up with a later occurrence of the same gram.

    Two grams that share a slot can hide a repetition; that is rare, and the same in every batch. Only slots that were
    just written are read, so the table need not be cleared.
    """
    slot = row * _SLOTS + (index & (_SLOTS - 1))
    last = np.empty(rows * _SLOTS, np.int32)
    place = np.arange(len(index), dtype=np.int32)
    last[slot] = place
    later = last[slot]
    return np.asarray((later != place) & (index[later] == index), np.bool_)


def _row_sums(values: NDArray[np.int8], bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) sum of `values` between each row's bounds; 0 where they are equal."""
    if not len(values) or not len(bounds):
        return np.zeros(len(bounds), np.int64)
    padded = np.append(values, np.int8(0))
    # An empty last row may begin behind the last gram; its sum is not used.
    edges = np.minimum(bounds.reshape(-1), len(values))
    sums = np.add.reduceat(padded, edges, dtype=np.int64)[::2]
    return np.where(bounds[:, 1] > bounds[:, 0], sums, 0)
