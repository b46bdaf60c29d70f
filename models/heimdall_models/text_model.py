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

    `repeated` (grams,) marks a gram that the row has again further on, where the group counts each gram once; `count`
    (n,) leaves those out.
    """

    index: NDArray[np.integer]
    bounds: NDArray[np.int64]
    repeated: NDArray[np.bool_] | None
    count: NDArray[np.int64]

    def counts(self) -> NDArray[np.int64]:
        """(n,) how many grams of the group each row has, repeated ones left out."""
        return self.count


@dataclass(frozen=True, slots=True)
class _Laid:
    """The grams of all groups, one group after the other.

    `index`: of each group, into its weight table. `limits` (groups, n, 2): of each row among all grams. `repeated`:
    places of the words and pairs that their row has again further on. `counts` (groups, n): those left out.
    """

    index: tuple[NDArray[np.integer], ...]
    limits: NDArray[np.int64]
    repeated: NDArray[np.int64]
    counts: NDArray[np.int64]


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
        laid = _lay(scanned)
        values = [table.take(index) for table, index in zip(self.weights, laid.index, strict=True)]
        # A last 0, since an empty last row may begin behind the last gram.
        steps = np.concatenate((*values, np.zeros(1, np.int8)))
        steps[laid.repeated] = 0
        sums = np.add.reduceat(steps, laid.limits.reshape(-1), dtype=np.int64)[::2].reshape(laid.counts.shape)
        sums[laid.counts == 0] = 0
        scores = np.array(self.scales)[:, None] * sums / np.sqrt(np.maximum(laid.counts, 1))
        return np.asarray(self.bias + scores[0] + scores[1] + scores[2], np.float64)

    def amounts(self, numeric: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) log-odds of the amounts in (n, features): summed column by column, so the same in every batch."""
        return amounts(numeric, self.slopes)


def amounts(numeric: NDArray[np.float32], slopes: Iterable[tuple[int, float]]) -> NDArray[np.float64]:
    """(n,) Σ slope · column over (column, slope) of (n, features)."""
    total = np.zeros(len(numeric))
    for column, slope in slopes:
        total += slope * numeric[:, column].astype(np.float64)
    return total


def text_grams(scanned: Scan) -> tuple[Grams, ...]:
    """Words, pairs of neighbouring words, and 4-byte windows of every text, as indices into the weight tables."""
    laid = _lay(scanned)
    sizes = [len(index) for index in laid.index]
    begins = (0, sizes[0], sizes[0] + sizes[1])
    marked = np.zeros(begins[2], np.bool_)
    marked[laid.repeated] = True
    repeated = (marked[: sizes[0]], marked[sizes[0] :], None)
    return tuple(
        Grams(index.astype(np.int64), limits - begin, again, count)
        for index, limits, begin, again, count in zip(
            laid.index, laid.limits, begins, repeated, laid.counts, strict=True
        )
    )


def _lay(scanned: Scan) -> _Laid:
    hashes, row = scanned.word_hash, scanned.word_row
    words = (hashes >> np.uint64(64 - WORD_BITS)).view(np.int64)
    mixed = (hashes[:-1] * _PAIR_K1 ^ hashes[1:]) * _PAIR_K2
    pairs = (mixed >> np.uint64(64 - PAIR_BITS)).view(np.int64)
    chars = (windows(scanned.folded, 4) * _CHAR_K) >> np.uint32(32 - CHAR_BITS)
    begin, end = scanned.word_limits[:-1], scanned.word_limits[1:]
    # A row of w words has w - 1 pairs; the pair that would span two rows lies between their limits.
    pair_limits = begin, np.maximum(end - 1, begin)
    limits = np.array(((begin, end), pair_limits, (scanned.starts, scanned.ends))).transpose(0, 2, 1).copy()
    limits[1] += len(words)
    limits[2] += len(words) + len(pairs)
    counts = limits[:, :, 1] - limits[:, :, 0]
    tables = 2 * scanned.rows
    # What spans two rows has a table of its own: it must not count as a repetition of a pair of either.
    table = np.concatenate((row, np.where(row[:-1] == row[1:], row[:-1] + scanned.rows, tables)))
    repeated = _repeated(np.concatenate((words, pairs)), table, tables + 1)
    counts[:2] -= np.bincount(table.take(repeated), minlength=tables)[:tables].reshape(2, -1)
    return _Laid((words, pairs, chars), limits, repeated, counts)


def _repeated(index: NDArray[np.int64], table: NDArray[np.int64], tables: int) -> NDArray[np.int64]:
    """Where grams stand whose slot in their table ends up with a later occurrence of the same gram.

    Two grams that share a slot can hide a repetition; that is rare, and the same in every batch. Only slots that were
    just written are read, so the tables need not be cleared.
    """
    slot = table * _SLOTS + (index & (_SLOTS - 1))
    # As narrow as can be: the tables are most of the memory that a batch goes through.
    place = np.arange(len(index), dtype=np.min_scalar_type(len(index)))
    last = np.empty(tables * _SLOTS, place.dtype)
    last[slot] = place
    later = last.take(slot)
    return np.asarray(((later != place) & (index.take(later) == index)).nonzero()[0])
