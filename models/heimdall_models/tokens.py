"""Prompt tokens without a tokenizer: a linear estimate fitted to a real one.

What a text costs is a sum over its byte pairs (a table says what the second byte of each pair begins: a digit, a run of
punctuation, a character of some script), over its ASCII words by length, and over the letters of prose that is not
English, whose words are cut into more pieces. The costs are non-negative least squares of the error relative to the
Tekken vocabulary (131k entries, cut much like the vocabularies of the larger providers), reweighted so that a kind of
text far off does not draw the others; fitted on exam questions, sources in nine languages, documentation, and prompts,
manual pages and interface texts in some thirty languages, then rounded by hand. The unit test that compares them with
that tokenizer, on texts that were not among these, is the command that reproduces the error. Scripts without spaces
other than Chinese and Japanese, and short texts of rare words, may be further off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heimdall_models.counts import LETTER, WORD_SIZES, Counts
from heimdall_models.lexicon import WORD_LISTS
from heimdall_models.scan import Scan

TOKENS_PER_IMAGE = 1000
TOKENS_PER_ATTACHMENT = 1000
"""Half a minute of sound, or a page or two as text and picture."""
TOKENS_PER_EXTRA_MESSAGE = 4
TOKENS_PER_JSON_CHAR = 0.28
_CHARS_PER_TOKEN = 4.0

_PER_MILLE = 1000
_LONG_WORD_BYTES, _LONG_WORD_BYTE = 14, 145
_NO_WORD_BYTES, _NO_WORD_BYTE = 28, 600
"""Bytes from which a run of letters and digits counts as long, or as no word at all (keys, encoded data), and thousandths
of a token for each further byte."""

_FOREIGN_LETTER = 50
"""Thousandths of a token more for an ASCII letter of prose that is not English."""

_FEWEST_WORDS = 6
_ENGLISH_SHARE = 0.2
_ACCENTED_SHARE = 0.05
_PROSE_MARKS_SHARE = 0.12
_FUNCTION_WORDS = 1 + list(WORD_LISTS).index("function_words")

_UPPER, _LOWER = range(ord("A"), ord("Z") + 1), range(ord("a"), ord("z") + 1)
_MARKS = [c for c in range(33, 127) if not chr(c).isalnum()]
_LINE_ENDS = b"\r\n"
_EVERY = range(256)


@cache
def _pair_costs() -> NDArray[np.int16]:
    """(65536,) thousandths of a token for a byte pair read as a little-endian number: what its second byte adds."""
    table = np.zeros((256, 256), np.int16)

    def add(first: Iterable[int], second: Iterable[int], cost: int) -> None:
        table[np.ix_(list(second), list(first))] += np.int16(cost)

    add(_EVERY, b"0123456789", 1140)
    add(b" \t", b"0123456789", 1000)
    add([c for c in _EVERY if c not in _MARKS], _MARKS, 790)
    add(b" \t", _MARKS, 220)
    add(_MARKS, _MARKS, 150)
    for mark in _MARKS:
        add([mark], [mark], -130)
    add([c for c in _EVERY if c not in _LINE_ENDS], _LINE_ENDS, 740)
    add(_LINE_ENDS, b" \t", 470)
    add(_LOWER, _UPPER, 300)
    add(b" \n\0", range(0xEA, 0xEE), 280)
    for (low, high), cost in _LEAD_COSTS.items():
        add(_EVERY, range(low, high + 1), cost)
    for lead, low, high, cost in _SECOND_BYTE_COSTS:
        add([lead], range(low, high + 1), cost)
    return table.reshape(-1)


_LEAD_COSTS = {
    (0xC2, 0xC2): 1000,
    (0xC4, 0xC5): 1290,
    (0xC6, 0xC6): 300,
    (0xC7, 0xCC): 1000,
    (0xCD, 0xCF): 450,
    (0xD0, 0xD5): 325,
    (0xD6, 0xD7): 540,
    (0xD8, 0xDF): 325,
    (0xE4, 0xE9): 800,
    (0xEA, 0xED): 540,
    (0xEE, 0xEF): 1980,
    (0xF0, 0xF4): 3740,
}
"""Cost of a character by the range of its first byte, which tells the script."""

_SECOND_BYTE_COSTS = (
    (0xC3, 0xA4, 0xA6, 500),
    (0xC3, 0xB6, 0xBC, 500),
    (0xE0, 0x80, 0xA3, 500),
    (0xE0, 0xA4, 0xA5, 450),
    (0xE0, 0xA6, 0xBF, 515),
    (0xE1, 0x80, 0xB9, 500),
    (0xE1, 0xBA, 0xBB, 100),
    (0xE1, 0xBC, 0xBF, 500),
    (0xE2, 0x80, 0x80, 1200),
    (0xE2, 0x81, 0xBF, 3500),
    (0xE3, 0x80, 0x80, 1500),
    (0xE3, 0x81, 0x81, 480),
    (0xE3, 0x82, 0x82, 1050),
    (0xE3, 0x83, 0x83, 520),
    (0xE3, 0x84, 0xBF, 1000),
)
"""First byte, range of the second, cost: where one first byte stands for several scripts or for punctuation."""


def _word_costs() -> NDArray[np.float64]:
    """(sizes, 3): thousandths of a token, bytes, and 1 for an ASCII word of so many bytes."""
    length = np.arange(WORD_SIZES)
    costs = [960, 930, 1350, 1540]
    each = np.select(
        [length <= 4, length <= 6, length <= 9, length < _LONG_WORD_BYTES],
        costs,
        _LONG_WORD_BYTE * np.minimum(length, _NO_WORD_BYTES - 1)
        + _NO_WORD_BYTE * np.maximum(length - _NO_WORD_BYTES, 0),
    )
    return np.stack((each, length, np.ones(WORD_SIZES)), axis=1).astype(np.float64)


_WORD_COSTS = _word_costs()


_LEAST = {
    (0x01, 0x7F): 15,
    (0xC2, 0xDF): 250,
    (0xC3, 0xC5): 500,
    (0xE0, 0xEF): 375,
    (0xF0, 0xF4): 500,
}
"""By ranges of first bytes, as `_LEAD_COSTS`, and below them: no run of spaces or of accented letters is free."""


def _byte_groups() -> NDArray[np.float32]:
    """(256, 3): 1.0 where a byte is a mark or a digit, 1.0 where it begins an accented letter, and the least that a text
    costs for it, in thousandths of a token."""
    table = np.zeros((256, 3), np.float32)
    table[[*_MARKS, *b"0123456789"], 0] = 1.0
    table[0xC3:0xC6, 1] = 1.0
    for (low, high), least in _LEAST.items():
        table[low : high + 1, 2] = least
    return table


_BYTE_GROUPS = _byte_groups()


class Estimate(NamedTuple):
    """(n,) prompt tokens of each whole request. `fitted`: as the default bundle's classifier was trained on them.

    `charged`: what context and price go by. It has a floor by bytes, for texts unlike those of the fit, and audio and
    files, which the classifier knows nothing of.
    """

    fitted: NDArray[np.int64]
    charged: NDArray[np.int64]


def estimate_tokens(shapes: Mapping[str, NDArray[np.float64]], scanned: Scan, counts: Counts) -> Estimate:
    """The tokens of at least one request.

    `shapes`: see `shapes_of`. The scanned text's tokens a character stand for the text that was not scanned; messages
    after the first, tool definitions, images and attachments are charged by count.
    """
    marks, accents, least = (counts.byte @ _BYTE_GROUPS).T.astype(np.float64)
    per_mille = _pair_tokens(scanned, counts) + _word_tokens(counts, marks, accents)
    characters = shapes["text"]
    per_text = np.stack((per_mille, np.maximum(per_mille, least)))
    rate = np.where(characters > 0, per_text / np.maximum(characters, 1) / _PER_MILLE, 1 / _CHARS_PER_TOKEN)
    prose = shapes["user_chars"] + shapes["system_chars"] + shapes["assistant_chars"] + shapes["tool_chars"]
    extra = (
        shapes["tool_definition_chars"] * TOKENS_PER_JSON_CHAR
        + shapes["image_count"] * TOKENS_PER_IMAGE
        + np.maximum(shapes["message_count"] - 1, 0) * TOKENS_PER_EXTRA_MESSAGE
    )
    fitted, charged = np.ceil(prose * rate + extra).astype(np.int64)
    return Estimate(fitted, charged + TOKENS_PER_ATTACHMENT * shapes["attachment_count"].astype(np.int64))


def _pair_tokens(scanned: Scan, counts: Counts) -> NDArray[np.int64]:
    costs = _pair_costs().take(counts.pair)
    # From the pair of the padding and the first byte on; pairs of padding cost nothing.
    return np.asarray(np.add.reduceat(costs, scanned.starts - 1, dtype=np.int64))


def _word_tokens(counts: Counts, marks: NDArray[np.float64], accents: NDArray[np.float64]) -> NDArray[np.float64]:
    beyond = counts.beyond[:, LETTER]
    costs, letters, words = (counts.words[:, LETTER] @ _WORD_COSTS).T
    costs, letters = costs + _NO_WORD_BYTE * beyond, letters + beyond
    # Prose without the little words of English, or with accents.
    prose = (words >= _FEWEST_WORDS) & (marks < _PROSE_MARKS_SHARE * letters)
    english = counts.lists[:, _FUNCTION_WORDS]
    without = prose * np.maximum(1 - english / np.maximum(words, 1) / _ENGLISH_SHARE, 0)
    accented = accents / np.maximum(letters, 1) / _ACCENTED_SHARE
    foreign = np.maximum(without, np.minimum(accented, 1))
    return np.asarray(costs + np.rint(_FOREIGN_LETTER * letters * foreign), np.float64)
