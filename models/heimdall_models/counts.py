"""How often each byte, byte pair and kind of word stands in each text: what the features and the token estimate share.

All of it is whole numbers, exact in any order, so that a text has the same counts in every batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall_models.lexicon import WORD_LISTS, word_class
from heimdall_models.scan import PAD_BYTES, Scan, windows

LETTER, DIGIT, OTHER = range(3)
"""What a word begins with."""

WORD_SIZES = 32
"""Words of at least WORD_SIZES - 1 bytes stand together; what they have beyond is counted apart."""

_KINDS = 3
_LISTS = len(WORD_LISTS) + 1
_PAIR_BUCKETS = 512
_DISTINCT_BUCKETS = 512


def _first_size() -> NDArray[np.int64]:
    """(256,) where the sizes of words begin whose first byte, folded, is this one."""
    kind = np.full(256, OTHER, np.int64)
    kind[ord("a") : ord("z") + 1] = LETTER
    kind[ord("0")] = DIGIT
    return kind * WORD_SIZES


_FIRST_SIZE = _first_size()


@dataclass(frozen=True, slots=True)
class Counts:
    """Of `n` texts.

    `byte`: (n, 256). `pair`: (bytes - 7,) the byte pair at each place of the scan, read as a little-endian number.
    `folded_pairs`: (n, buckets) byte pairs, case and digits folded, hashed. `on_list`: (words,) the list each word is on,
    0 for none. `lists`: (n, lists + 1) words on each. `words`: (n, kinds, sizes) words by what they begin with and by
    length. `beyond`: (n, kinds) bytes of longer words beyond the last size. `distinct`: (n,) distinct words, by hash
    bucket, so that long texts level off.
    """

    byte: NDArray[np.float32]
    pair: NDArray[np.int64]
    folded_pairs: NDArray[np.int64]
    on_list: NDArray[np.uint8]
    lists: NDArray[np.int64]
    words: NDArray[np.float64]
    beyond: NDArray[np.float64]
    distinct: NDArray[np.uint64]


def count(scanned: Scan) -> Counts:
    """The counts of at least one text."""
    rows, row = scanned.rows, scanned.word_row
    on_list = word_class(scanned.word_hash)
    lists = np.bincount(row * _LISTS + on_list, minlength=rows * _LISTS)
    words, beyond = _word_sizes(scanned)
    return Counts(
        byte=_bytes(scanned),
        pair=windows(scanned.raw, 2).astype(np.int64),
        folded_pairs=_folded_pairs(scanned),
        on_list=on_list,
        lists=lists.reshape(rows, _LISTS),
        words=words,
        beyond=beyond,
        distinct=_distinct(scanned),
    )


def _bytes(scanned: Scan) -> NDArray[np.float32]:
    keys = scanned.row * np.uint32(256)
    keys += scanned.raw
    counts = np.bincount(keys, minlength=scanned.rows * 256).reshape(scanned.rows, 256).astype(np.float32)
    counts[:, 0] = 0.0  # padding: a text has no NUL
    return np.asarray(counts)


def _folded_pairs(scanned: Scan) -> NDArray[np.int64]:
    """A pair with a byte of padding is none."""
    pairs = windows(scanned.folded, 2)
    keys = scanned.row[: len(pairs)] * np.uint32(_PAIR_BUCKETS)
    keys += (pairs * np.uint16(0x9E37)) >> np.uint16(16 - _PAIR_BUCKETS.bit_length() + 1)
    nowhere = scanned.rows * _PAIR_BUCKETS
    keys[:PAD_BYTES] = nowhere
    # From the last byte of each text to the first of the next; the array ends with the first place behind the last text.
    padded = np.minimum(scanned.ends[:, None] + np.arange(-1, PAD_BYTES), len(keys) - 1)
    keys[padded.reshape(-1)] = nowhere
    return np.bincount(keys, minlength=nowhere)[:nowhere].reshape(scanned.rows, _PAIR_BUCKETS)


def _word_sizes(scanned: Scan) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rows, row = scanned.rows, scanned.word_row
    length = scanned.word_end - scanned.word_start
    first = _FIRST_SIZE.take(scanned.folded.take(scanned.word_start))
    keys = row * (_KINDS * WORD_SIZES) + first + np.minimum(length, WORD_SIZES - 1)
    words = np.bincount(keys, minlength=rows * _KINDS * WORD_SIZES).reshape(rows, _KINDS, WORD_SIZES)
    long = (length >= WORD_SIZES).nonzero()[0]
    kind = row[long] * _KINDS + first[long] // WORD_SIZES
    beyond = np.bincount(kind, weights=length[long] - (WORD_SIZES - 1), minlength=rows * _KINDS)
    return words.astype(np.float64), beyond.reshape(rows, _KINDS).astype(np.float64)


def _distinct(scanned: Scan) -> NDArray[np.uint64]:
    seen = np.zeros(scanned.rows * _DISTINCT_BUCKETS, np.bool_)
    bucket = (scanned.word_hash & np.uint64(_DISTINCT_BUCKETS - 1)).view(np.int64)
    seen[scanned.word_row * _DISTINCT_BUCKETS + bucket] = True
    return np.asarray(np.bitwise_count(seen.view(np.uint64)).reshape(scanned.rows, -1).sum(axis=1, dtype=np.uint64))
