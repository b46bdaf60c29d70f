"""Prompt tokens without a tokenizer: a linear estimate fitted to a real one.

The coefficients are non-negative least squares of the Tekken vocabulary (131k entries, cut much like the vocabularies of
the larger providers) on exam questions, source code, documentation and eighteen languages. The unit test that compares
them with that tokenizer is the command that reproduces the error.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from heimdall_models.conversation import Conversation
from heimdall_models.scan import Scan

TOKENS_PER_IMAGE = 1000
TOKENS_PER_EXTRA_MESSAGE = 4
TOKENS_PER_JSON_CHAR = 0.28
_CHARS_PER_TOKEN = 4.0

_PER_MILLE = 1000
_LONGEST_WORD = 64


def _byte_costs() -> NDArray[np.int64]:
    """(256,) thousandths of a token for each byte outside ASCII words; a non-ASCII character counts by its lead byte."""
    cost = np.zeros(256, np.int64)
    cost[[c for c in range(33, 127) if not chr(c).isalnum()]] = 410
    cost[list(b"0123456789")] = 1540
    cost[ord("\n")] = 1141
    cost[ord("A") : ord("Z") + 1] = 182
    leads = {
        (0xC2, 0xC2): 500,
        (0xC3, 0xC3): 577,
        (0xC4, 0xC6): 1791,
        (0xC7, 0xCC): 1000,
        (0xCD, 0xCF): 425,
        (0xD0, 0xD5): 295,
        (0xD6, 0xD7): 511,
        (0xD8, 0xDF): 348,
        (0xE0, 0xE0): 472,
        (0xE1, 0xE1): 300,
        (0xE2, 0xE2): 1866,
        (0xE3, 0xE3): 663,
        (0xE4, 0xE9): 882,
        (0xEA, 0xED): 659,
        (0xEE, 0xEF): 1521,
        (0xF0, 0xF4): 3588,
    }
    for (low, high), value in leads.items():
        cost[low : high + 1] = value
    return cost


def _word_costs() -> NDArray[np.int64]:
    """(65,) thousandths of a token for an ASCII word of so many bytes, the last entry for longer ones."""
    length = np.arange(_LONGEST_WORD + 1)
    return np.select([length <= 6, length <= 9, length <= 13], [1067, 1434, 1213], 218 * length)


_BYTE_COST = _byte_costs()
_WORD_COST = _word_costs()


def estimate_tokens(
    conversations: Sequence[Conversation], scanned: Scan, byte_counts: NDArray[np.float64]
) -> NDArray[np.int64]:
    """(n,) prompt tokens of the whole request.

    `byte_counts`: (n, 256) of the scanned text. The scanned text's tokens a character stand for the text that was not
    scanned; messages after the first, tool definitions and images are charged by count.
    """
    per_mille = byte_counts @ _BYTE_COST + _word_tokens(scanned)
    characters = np.array([len(c.text) for c in conversations], np.float64)
    rate = np.where(characters > 0, per_mille / np.maximum(characters, 1) / _PER_MILLE, 1 / _CHARS_PER_TOKEN)
    prose = np.array([c.total_chars - c.tool_definition_chars for c in conversations], np.float64)
    extra = np.array(
        [
            c.tool_definition_chars * TOKENS_PER_JSON_CHAR
            + c.image_count * TOKENS_PER_IMAGE
            + max(c.message_count - 1, 0) * TOKENS_PER_EXTRA_MESSAGE
            for c in conversations
        ],
        np.float64,
    )
    return np.asarray(np.ceil(prose * rate + extra), np.int64)


def _word_tokens(scanned: Scan) -> NDArray[np.float64]:
    length = np.minimum(scanned.word_end - scanned.word_start, _LONGEST_WORD)
    first = scanned.folded[scanned.word_start]
    is_ascii_word = (first >= ord("a")) & (first < 128)
    costs = _WORD_COST[length] * is_ascii_word
    return np.asarray(np.bincount(scanned.word_row, weights=costs, minlength=scanned.rows), np.float64)
