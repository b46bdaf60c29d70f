"""About ninety interpretable numbers of each conversation, for a whole batch at once; shared by serving and training.

A row depends on nothing but its own conversation: sums are of integers (exact in any order), everything else is
element by element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall_models.conversation import Conversation
from heimdall_models.lexicon import (
    BYTE_CLASSES,
    PAIR_CLASSES,
    WORD_LISTS,
    byte_class_table,
    pair_class_table,
    word_class,
)
from heimdall_models.scan import PAD_BYTES, Scan, scan, windows
from heimdall_models.text_model import TextModel
from heimdall_models.tokens import estimate_tokens

FEATURE_VERSION = "2"
MAX_BATCH = 64

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
_DISTINCT_BUCKETS = 512
_PAIR_BUCKETS = 512
_LONG_WORD_BYTES = 9
_LOG2_TABLE_SIZE = 1 << 15
_FIXED_POINT = 1 << 20


@dataclass(frozen=True, slots=True)
class Features:
    """One row for each of `n` conversations.

    `numeric`: (n, len(FEATURE_NAMES)) float32. `token_count`: (n,) int64, the whole request's estimated prompt tokens.
    `has_code`, `has_math`: (n,) bool. `entropy`: (n,) float32, bits a byte pair. `scan`: the texts and their words, for
    the embedding.
    """

    numeric: NDArray[np.float32]
    token_count: NDArray[np.int64]
    has_code: NDArray[np.bool_]
    has_math: NDArray[np.bool_]
    entropy: NDArray[np.float32]
    scan: Scan


def extract(conversations: Sequence[Conversation], text_model: TextModel | None = None) -> Features:
    """Features of at most 64 conversations; without a text model its score is 0.

    Raises ValueError for a larger batch: the caller cuts chunks.
    """
    if len(conversations) > MAX_BATCH:
        raise ValueError(
            f"extract takes at most {MAX_BATCH} conversations, got {len(conversations)}; cut the batch in chunks"
        )
    scanned = scan([conversation.text for conversation in conversations])
    byte_counts = _byte_counts(scanned)
    classes = byte_counts @ byte_class_table()
    pairs, options = _pair_counts(scanned)
    word_lists = word_class(scanned.word_hash)
    words = _word_numbers(scanned, word_lists)
    tokens = estimate_tokens(conversations, scanned, word_lists, byte_counts)
    flags = _flags(classes, pairs)
    entropy = _entropy(byte_counts)
    pair_entropy = _entropy(_pair_histogram(scanned))
    size = np.maximum(scanned.ends - scanned.starts, 1).astype(np.float64)
    lines = classes[:, _BYTE["newlines"]] + 1.0
    whole = (
        np.log1p(tokens),
        np.log1p(size),
        *words.columns,
        np.log1p(words.count / (pairs[:, _PAIR["sentence_ends"]] + 1.0)),
        np.log1p(size / lines),
        options,
        scanned.raw[scanned.ends - 1] == ord("?"),
        words.first_list,
        entropy,
        pair_entropy,
        flags[0],
        flags[1],
        np.zeros(scanned.rows),
    )
    numeric = np.concatenate(
        (
            _shapes(conversations),
            np.log1p(classes),
            classes[:, _SHARE_COLUMNS] / size[:, None],
            np.log1p(pairs),
            np.log1p(words.lists),
            np.stack(whole, axis=1) if scanned.rows else np.zeros((0, len(whole))),
        ),
        axis=1,
    ).astype(np.float32)
    if text_model is not None:
        numeric[:, -1] = text_model.score(scanned) + text_model.amounts(numeric)
    return Features(numeric, tokens, flags[0], flags[1], pair_entropy.astype(np.float32), scanned)


def _shapes(conversations: Sequence[Conversation]) -> NDArray[np.float64]:
    rows = [
        (
            c.ask_chars,
            c.user_chars,
            c.system_chars,
            c.assistant_chars,
            c.tool_chars,
            c.message_count,
            c.user_turns,
            c.tool_turns,
            c.tool_definition_count,
            c.tool_call_count,
            c.image_count,
            c.structured_output,
            c.max_tokens,
        )
        for c in conversations
    ]
    shapes = np.array(rows, np.float64).reshape(len(rows), len(_SHAPE_NAMES))
    logs = np.log1p(shapes)
    plain = [_SHAPE_NAMES.index("images"), _SHAPE_NAMES.index("structured_output")]
    logs[:, plain] = shapes[:, plain]
    return logs


def _byte_counts(scanned: Scan) -> NDArray[np.float64]:
    """(n, 256) how often each byte stands in each text; the padding's zeros are not counted."""
    keys = scanned.row * 256 + scanned.raw
    counts = np.bincount(keys, minlength=scanned.rows * 256)[: scanned.rows * 256]
    counts = counts.reshape(scanned.rows, 256).astype(np.float64)
    counts[:, 0] = 0.0
    return np.asarray(counts, np.float64)


def _pair_counts(scanned: Scan) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, pair classes) counts, and (n,) lines that look like an answer option ("A. …", "(B) …")."""
    classes = pair_class_table().take(windows(scanned.raw, 2))
    places = np.flatnonzero(classes)
    found = classes[places]
    width = len(PAIR_CLASSES) + 1
    counts = np.bincount(scanned.row[places + 1] * width + found, minlength=scanned.rows * width)
    capital = places[found == _PAIR["capital_lines"] + 1]
    after = scanned.raw[capital + 2]
    option_rows = scanned.row[capital + 1][(after == ord(".")) | (after == ord(")")) | (after == ord(":"))]
    options = np.bincount(option_rows, minlength=scanned.rows).astype(np.float64)
    table = counts[: scanned.rows * width].reshape(scanned.rows, width)[:, 1:]
    return table.astype(np.float64), options


def _pair_histogram(scanned: Scan) -> NDArray[np.float64]:
    """(n, buckets) byte pairs of each text, case and digits folded, hashed; a pair with a byte of padding is none."""
    pairs = windows(scanned.folded, 2)
    hashed = (pairs * np.uint16(0x9E37)) >> np.uint16(16 - _PAIR_BUCKETS.bit_length() + 1)
    keys = scanned.row[: len(pairs)] * _PAIR_BUCKETS + hashed
    size = scanned.rows * _PAIR_BUCKETS
    # Counting all pairs and taking those with padding out again is cheaper than picking the others first.
    counts = np.bincount(keys, minlength=size) - np.bincount(keys[_padded_pairs(scanned)], minlength=size)
    return np.asarray(counts[:size], np.float64).reshape(scanned.rows, _PAIR_BUCKETS)


def _padded_pairs(scanned: Scan) -> NDArray[np.int64]:
    """Where the byte pairs with a byte of padding begin, each once."""
    behind = (scanned.ends[:, None] + np.arange(PAD_BYTES)).reshape(-1)
    last = scanned.ends[scanned.ends > scanned.starts] - 1
    places = np.concatenate((np.arange(PAD_BYTES), behind, last))
    return np.asarray(places[places <= len(scanned.folded) - PAD_BYTES])


@dataclass(frozen=True, slots=True)
class _Words:
    count: NDArray[np.float64]
    lists: NDArray[np.float64]
    first_list: NDArray[np.float64]
    columns: tuple[NDArray[np.float64], ...]


def _word_numbers(scanned: Scan, on_list: NDArray[np.uint8]) -> _Words:
    rows, row = scanned.rows, scanned.word_row
    width = len(WORD_LISTS) + 1
    lists = np.bincount(row * width + on_list, minlength=rows * width).reshape(rows, width).astype(np.float64)
    length = scanned.word_end - scanned.word_start
    count = np.bincount(row, minlength=rows).astype(np.float64)
    is_number = scanned.folded[scanned.word_start] == ord("0")
    first = np.searchsorted(row, np.arange(rows))
    first_list = np.append(on_list, 0)[first] * (count > 0)
    columns = (
        np.log1p(count),
        np.log1p(scanned.stem_words),
        np.bincount(row, weights=length, minlength=rows) / np.maximum(count, 1.0),
        np.log1p(np.bincount(row[length >= _LONG_WORD_BYTES], minlength=rows)),
        np.log1p(_distinct(scanned)),
        np.log1p(np.bincount(row[is_number], minlength=rows)),
    )
    return _Words(count, lists[:, 1:], first_list.astype(np.float64), columns)


def _distinct(scanned: Scan) -> NDArray[np.float64]:
    """(n,) distinct words, counted by hash bucket, so that long texts level off."""
    seen = np.zeros((scanned.rows, _DISTINCT_BUCKETS), np.bool_)
    seen[scanned.word_row, (scanned.word_hash & np.uint64(_DISTINCT_BUCKETS - 1)).astype(np.int64)] = True
    return np.asarray(seen.sum(axis=1), np.float64)


def _flags(classes: NDArray[np.float64], pairs: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """`has_code`: a fence or several marks of a program; `has_math`: notation of mathematics."""

    def pair(name: str) -> NDArray[np.float64]:
        return pairs[:, _PAIR[name]]

    program = 2 * pair("line_ends_code") + pair("code_operators") + pair("calls") / 2 + pair("comments") / 2
    program += np.minimum(pair("indents"), 2) + pair("snake_case") / 2
    program += 2 * ((pair("calls") >= 2) & (pair("indents") >= 1))
    has_code = (pair("fences") >= 2) | (program >= 4)
    formula = 2 * pair("dollar_math") + 2 * pair("math_symbols") + pair("powers") * (classes[:, _BYTE["carets"]] > 0)
    latex = (pair("latex_commands") >= 1) & ~has_code
    arithmetic = (pair("spaced_operators") + pair("number_operators") >= 2) & (classes[:, _BYTE["digits"]] >= 2)
    return has_code, latex | ((formula + arithmetic >= 1) & ~has_code) | (formula >= 4)


def _log2_products() -> NDArray[np.int64]:
    counts = np.arange(_LOG2_TABLE_SIZE, dtype=np.float64)
    counts[0] = 1.0
    return np.asarray(np.rint(counts * np.log2(counts) * _FIXED_POINT), np.int64)


_COUNT_LOG2_COUNT = _log2_products()


def _entropy(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) bits a symbol: log2 N − Σ c·log2 c / N, in fixed point so that the sum is exact."""
    whole = counts.astype(np.int64)
    total = whole.sum(axis=1)
    products = _COUNT_LOG2_COUNT.take(np.minimum(whole, _LOG2_TABLE_SIZE - 1)).sum(axis=1)
    some = np.maximum(total, 1).astype(np.float64)
    return np.asarray(np.maximum(np.log2(some) - products / some / _FIXED_POINT, 0.0), np.float64)


def _safe_defaults() -> Features:
    empty = scan([""])
    return Features(
        numeric=np.zeros((1, len(FEATURE_NAMES)), np.float32),
        token_count=np.zeros(1, np.int64),
        has_code=np.zeros(1, np.bool_),
        has_math=np.zeros(1, np.bool_),
        entropy=np.zeros(1, np.float32),
        scan=empty,
    )


SAFE_DEFAULTS = _safe_defaults()
"""One row for a request whose features did not come in time; its bucket is `mid`, flagged, not predicted."""
