"""A batch of texts as one byte array, and its words as hashes: the one pass that features, text model and embedding share.

Everything is arithmetic on unsigned integers of a stated width and byte order, so that a text has the same words and
hashes in every process and on every platform.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PAD_BYTES = 8
"""Zero bytes around each text: a window of up to eight bytes never sees the neighbouring text."""

_PAD = b"\0" * PAD_BYTES


def _folding() -> bytes:
    """Lower-case ASCII letters, all digits alike, white space and control characters alike."""
    table = bytearray(range(256))
    table[ord("A") : ord("Z") + 1] = bytes(range(ord("a"), ord("z") + 1))
    table[ord("0") : ord("9") + 1] = b"0" * 10
    for code in range(1, 32):
        table[code] = ord(" ")
    return bytes(table)


FOLD = _folding()
_FIRST_OPTION = re.compile(rb"\n(?:A[.):]|\(A\))")
_IS_WORD = bytes(int((chr(c).isalnum() and c < 128) or c >= 128) for c in range(256))

_MASKS = np.array([(1 << (8 * n)) - 1 for n in range(9)], dtype="<u8")
_K1 = np.uint64(0x9E3779B97F4A7C15)
_K2 = np.uint64(0xC2B2AE3D27D4EB4F)
_K3 = np.uint64(0x165667B19E3779F9)
_SHIFT = np.uint64(29)


@dataclass(frozen=True, slots=True)
class Scan:
    """`n` texts in one padded array.

    `raw`, `folded`: (bytes,) uint8. `starts`, `ends`: (n,) limits of each text in them. `row`: (bytes,) the text a
    byte belongs to. `word_start`, `word_end`, `word_row`, `word_hash`: (words,), words in order of appearance; a word
    is a run of ASCII letters and digits or of non-ASCII bytes. `word_limits`: (n + 1,) where each text's words begin.
    `stem_words`: (n,) words before the answer options, all of them where there are none.
    """

    raw: NDArray[np.uint8]
    folded: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    row: NDArray[np.uint32]
    word_start: NDArray[np.int64]
    word_end: NDArray[np.int64]
    word_row: NDArray[np.int64]
    word_hash: NDArray[np.uint64]
    word_limits: NDArray[np.int64]
    stem_words: NDArray[np.int64]

    @property
    def rows(self) -> int:
        """How many texts."""
        return len(self.starts)


def scan(texts: Sequence[str]) -> Scan:
    """Lay `texts` into one array and hash their words. Lone surrogates count as `?`, NUL as a control character."""
    encoded = [_encode(text) for text in texts]
    joined = _PAD.join((b"", *encoded, b"")) if encoded else _PAD
    sizes = np.fromiter(map(len, encoded), np.int64, len(encoded))
    spans = sizes + PAD_BYTES
    ends = np.cumsum(spans)
    starts = ends - sizes
    spans[:1] += PAD_BYTES
    row_numbers = np.arange(len(encoded))
    folded = joined.translate(FOLD)
    in_word = np.frombuffer(joined.translate(_IS_WORD), np.uint8)
    # Padding is no word, so that edges come in pairs: a beginning, then its end.
    edges = (in_word[1:] != in_word[:-1]).nonzero()[0] + 1
    word_start, word_end = np.ascontiguousarray(edges.reshape(-1, 2).T)
    limits = np.searchsorted(word_start, np.concatenate((starts, [len(joined)])))
    return Scan(
        raw=np.frombuffer(joined, np.uint8),
        folded=np.frombuffer(folded, np.uint8),
        starts=starts,
        ends=ends,
        row=np.repeat(row_numbers.astype(np.uint32), spans),
        word_start=word_start,
        word_end=word_end,
        word_row=np.repeat(row_numbers, limits[1:] - limits[:-1]),
        word_hash=_hash_words(np.frombuffer(folded, np.uint8), word_start, word_end),
        word_limits=limits,
        stem_words=np.searchsorted(word_start, _first_options(joined, starts, ends)) - limits[:-1],
    )


def windows(data: NDArray[np.uint8], width: int) -> NDArray[np.unsignedinteger]:
    """(bytes - 7,) little-endian integers of the `width` (2, 4 or 8) bytes at each position, without a copy."""
    return np.ndarray((len(data) - PAD_BYTES + 1,), f"<u{width}", data, 0, (1,))


def hash_word(word: str) -> int:
    """The hash `scan` gives to `word`, for tables made ahead of time."""
    return int(scan([word]).word_hash[0])


def _first_options(joined: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) where the answer options of each text begin ("A. …", "A) …" or "(A) …" on a line of its own), else its end."""
    first = ends.copy()
    if found := [option.end() - 2 for option in _FIRST_OPTION.finditer(joined)]:
        # Written backwards, so that the first place of a row is the one that stays.
        first[np.searchsorted(starts, found[::-1], "right") - 1] = found[::-1]
    return first


def _encode(text: str) -> bytes:
    encoded = text.encode("utf-8", "replace")
    return encoded.replace(b"\0", b"\1") if b"\0" in encoded else encoded


def _hash_words(folded: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Mix of the first eight bytes, the last eight and the length: exact up to sixteen bytes, cheap beyond."""
    eight = windows(folded, 8)
    length = end - start
    head = eight.take(start)
    head &= _MASKS.take(length, mode="clip")
    tail = head.copy()
    long = (length > 8).nonzero()[0]
    tail[long] = eight[end[long] - 8]
    tail += length.astype(np.uint64)
    tail *= _K2
    head *= _K1
    head ^= tail
    head ^= head >> _SHIFT
    head *= _K3
    head ^= head >> _SHIFT
    return np.asarray(head, np.uint64)
