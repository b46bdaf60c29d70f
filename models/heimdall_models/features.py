"""About ninety interpretable numbers of each conversation, for a whole batch at once; shared by serving and training.

A row depends on nothing but its own conversation: sums are of integers (exact in any order), everything else is
element by element.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall_models.conversation import Conversation, shapes_of
from heimdall_models.counts import DIGIT, WORD_SIZES, Counts, count
from heimdall_models.lexicon import BYTE_CLASSES, PAIR_CLASSES, WORD_LISTS, byte_class_table, pair_class_table
from heimdall_models.scan import Scan, scan
from heimdall_models.text_model import TextModel
from heimdall_models.tokens import estimate_tokens

FEATURE_VERSION = "2"
MAX_BATCH = 128
"""Rows of a batch; more of them would be no cheaper."""

_SHAPES = (
    "ask_chars",
    "user_chars",
    "system_chars",
    "assistant_chars",
    "tool_chars",
    "message_count",
    "user_turns",
    "tool_turns",
    "tool_definition_count",
    "tool_call_count",
    "image_count",
    "structured_output",
    "max_tokens",
)
"""Fields of `Conversation`, in the order of the columns that they become."""

_SHAPE_NAMES = (
    "ask_chars_log",
    "user_chars_log",
    "system_chars_log",
    "assistant_chars_log",
    "tool_chars_log",
    "messages_log",
    "user_turns_log",
    "tool_turns_log",
    "tool_definitions_log",
    "tool_calls_log",
    "images",
    "structured_output",
    "max_tokens_log",
)
_BYTE_NAMES = tuple(f"{name}_log" for name in BYTE_CLASSES)
_SHARED = ("letters", "upper", "digits", "punctuation", "non_ascii")
_SHARE_NAMES = tuple(f"{name}_share" for name in _SHARED)
_PAIR_NAMES = tuple(f"{name}_log" for name in PAIR_CLASSES)
_LIST_NAMES = tuple(f"{name}_words_log" for name in WORD_LISTS)
_WHOLE_NAMES = (
    "token_count_log",
    "bytes_log",
    "words_log",
    "stem_words_log",
    "mean_word_bytes",
    "long_words_log",
    "distinct_words_log",
    "number_words_log",
    "words_per_sentence_log",
    "bytes_per_line_log",
    "options",
    "ends_with_question",
    "first_word_list",
    "entropy",
    "pair_entropy",
    "has_code",
    "has_math",
)
FEATURE_NAMES: tuple[str, ...] = (
    *_SHAPE_NAMES,
    *_BYTE_NAMES,
    *_SHARE_NAMES,
    *_PAIR_NAMES,
    *_LIST_NAMES,
    *_WHOLE_NAMES,
    "text_score",
)
"""Columns of `Features.numeric`; the last is the score of the bundle's text model."""

_BYTE = {name: column for column, name in enumerate(BYTE_CLASSES)}
_PAIR = {name: column for column, name in enumerate(PAIR_CLASSES)}
_SHARE_COLUMNS = [_BYTE[name] for name in _SHARED]
_LOGGED_SHAPES = [column for column, name in enumerate(_SHAPE_NAMES) if name.endswith("_log")]
_LOGGED = [column for column, name in enumerate(_WHOLE_NAMES) if name.endswith("_log")]
_LONG_WORD_BYTES = 9
_MOST_COUNTED = 1 << 15
"""A scanned text has at most 8,192 characters of four bytes, so nothing in it is counted more often."""

_FIXED_POINT = 1 << 20


@dataclass(frozen=True, slots=True)
class Features:
    """One row for each of `n` conversations.

    `numeric`: (n, len(FEATURE_NAMES)) float32. `token_count`: (n,) int64, the whole request's estimated prompt tokens
    as context and price go by.
    `has_code`, `has_math`: (n,) bool. `entropy`: (n,) float32, bits a byte pair. `shapes`: see `shapes_of`. `scan`,
    `on_list`: the texts and their words, for the embedding.
    """

    numeric: NDArray[np.float32]
    token_count: NDArray[np.int64]
    has_code: NDArray[np.bool_]
    has_math: NDArray[np.bool_]
    entropy: NDArray[np.float32]
    shapes: Mapping[str, NDArray[np.float64]]
    scan: Scan
    on_list: NDArray[np.uint8]


def extract(conversations: Sequence[Conversation], text_model: TextModel | None = None) -> Features:
    """Features of at most `MAX_BATCH` conversations; without a text model its score is 0.

    Raises ValueError for a larger batch: the caller cuts chunks.
    """
    if len(conversations) > MAX_BATCH:
        raise ValueError(
            f"extract takes at most {MAX_BATCH} conversations, got {len(conversations)}; cut the batch in chunks"
        )
    if not conversations:
        return _nothing()
    scanned = scan([conversation.text for conversation in conversations])
    shapes = shapes_of(conversations)
    counts = count(scanned)
    tokens = estimate_tokens(shapes, scanned, counts)
    classes = counts.byte @ byte_class_table()
    pairs, options = _pair_counts(scanned, counts.pair)
    size = scanned.ends - scanned.starts
    pair_entropy = _entropy(counts.folded_pairs, size - 1)
    flags = _flags(classes, pairs)
    some = np.maximum(size, 1)
    words = _words(scanned, counts, pairs)
    whole = (
        tokens.fitted,
        some,
        *words,
        some / (classes[:, _BYTE["newlines"]] + 1.0),
        options,
        scanned.raw[scanned.ends - 1] == ord("?"),
        np.append(counts.on_list, np.uint8(0))[scanned.word_limits[:-1]] * (words[0] > 0),
        _entropy(counts.byte.astype(np.int64), size),
        pair_entropy,
        *flags,
        np.zeros(scanned.rows),
    )
    columns = (
        _logged([shapes[name] for name in _SHAPES], _LOGGED_SHAPES),
        _LOG1P.take(classes.astype(np.int64)),
        classes[:, _SHARE_COLUMNS] / some[:, None],
        _LOG1P.take(pairs),
        _LOG1P.take(counts.lists[:, 1:]),
        _logged(whole, _LOGGED),
    )
    numeric = np.concatenate(columns, axis=1, dtype=np.float32, casting="same_kind")
    if text_model is not None:
        numeric[:, -1] = text_model.score(scanned) + text_model.amounts(numeric)
    entropy = pair_entropy.astype(np.float32)
    return Features(numeric, tokens.charged, *flags, entropy, shapes, scanned, counts.on_list)


def _logged(columns: Sequence[NDArray[Any]], places: list[int]) -> NDArray[np.float64]:
    """(n, columns), those at `places` as log(1 + value)."""
    table = np.array(columns, np.float64)
    table[places] = np.log1p(table[places])
    return table.T


def _pair_counts(scanned: Scan, pair: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(n, pair classes) counts, and (n,) lines that look like an answer option ("A. …", "(B) …")."""
    classes = pair_class_table().take(pair)
    places = (classes != 0).nonzero()[0]
    found, rows = classes.take(places), scanned.row.take(places + 1)
    width = len(PAIR_CLASSES) + 1
    counts = np.bincount(rows * width + found, minlength=scanned.rows * width).reshape(scanned.rows, width)
    capital = (found == _PAIR["capital_lines"] + 1).nonzero()[0]
    optional = capital[_AFTER_OPTION.take(scanned.raw.take(places.take(capital) + 2))]
    return counts[:, 1:], np.bincount(rows.take(optional), minlength=scanned.rows)


def _words(
    scanned: Scan, counts: Counts, pairs: NDArray[np.int64]
) -> tuple[NDArray[np.int64] | NDArray[np.uint64] | NDArray[np.float64], ...]:
    """(n,) columns from `words_log` to `words_per_sentence_log`, their logarithms not yet taken."""
    number = scanned.word_limits[1:] - scanned.word_limits[:-1]
    sizes = counts.words.sum(axis=1)
    total = sizes @ _WORD_BYTES + counts.beyond.sum(axis=1)
    return (
        number,
        scanned.stem_words,
        total / np.maximum(number, 1),
        sizes[:, _LONG_WORD_BYTES:].sum(axis=1),
        counts.distinct,
        counts.words[:, DIGIT].sum(axis=1),
        number / (pairs[:, _PAIR["sentence_ends"]] + 1.0),
    )


_AFTER_OPTION = np.isin(np.arange(256), list(b".):"))
_WORD_BYTES = np.arange(WORD_SIZES, dtype=np.float64)


def _flags(classes: NDArray[np.float32], pairs: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """`has_code`: a fence or several marks of a program; `has_math`: notation of mathematics."""
    (
        line_ends, operators, calls, comments, indents, snakes, fences,
        dollars, symbols, powers, latex, spaced, numbers,
    ) = pairs.T[_FLAG_PAIRS]  # fmt: skip
    program = 2 * line_ends + operators + calls / 2 + comments / 2 + np.minimum(indents, 2) + snakes / 2
    program += 2 * ((calls >= 2) & (indents >= 1))
    has_code = (fences >= 2) | (program >= 4)
    formula = 2 * (dollars + symbols) + powers * (classes[:, _BYTE["carets"]] > 0)
    arithmetic = (spaced + numbers >= 2) & (classes[:, _BYTE["digits"]] >= 2)
    return has_code, (((latex >= 1) | (formula + arithmetic >= 1)) & ~has_code) | (formula >= 4)


_FLAG_PAIRS = [
    _PAIR[name]
    for name in (
        "line_ends_code", "code_operators", "calls", "comments", "indents", "snake_case", "fences",
        "dollar_math", "math_symbols", "powers", "latex_commands", "spaced_operators", "number_operators",
    )
]  # fmt: skip


def _products() -> NDArray[np.int64]:
    """(counts,) c · log2 c in fixed point, so that a sum of them is exact."""
    counts = np.arange(_MOST_COUNTED, dtype=np.float64)
    counts[0] = 1.0
    return np.asarray(np.rint(counts * np.log2(counts) * _FIXED_POINT), np.int64)


_COUNT_LOG2_COUNT = _products()
_LOG1P = np.log1p(np.arange(_MOST_COUNTED + 2, dtype=np.float64)).astype(np.float32)


def _entropy(counts: NDArray[np.int64], total: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) bits a symbol of (n, symbols) counts that sum to `total`: log2 N − Σ c·log2 c / N."""
    products = _COUNT_LOG2_COUNT.take(counts, mode="clip").sum(axis=1)
    some = np.maximum(total, 1).astype(np.float64)
    return np.asarray(np.maximum(np.log2(some) - products / some / _FIXED_POINT, 0.0), np.float64)


def _nothing() -> Features:
    numbers, flags = np.zeros((0, len(FEATURE_NAMES)), np.float32), np.zeros(0, np.bool_)
    return Features(
        numbers, np.zeros(0, np.int64), flags, flags, numbers[:, 0], shapes_of(()), scan(()), flags.view(np.uint8)
    )
