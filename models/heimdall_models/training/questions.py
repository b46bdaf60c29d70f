"""Which prompts ask the same question, in whatever wrapping: folds are cut by question, never by row.

Two prompts ask the same question when a window of 48 letters of one stands in the other (letters only, case folded),
or when all of their text up to the answer options is equal. Windows that stand in many prompts are wrapping
("You are given a Python function and an assertion …") and tell nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

WINDOW_LETTERS = 48
MOST_PROMPTS_PER_WINDOW = 8
_MULTIPLIER = 0x9E3779B97F4A7C15
_NOT_LETTERS = re.compile(r"[\W\d_]+")
_OPTIONS = re.compile(r"\n\s*\(?A[.):]")


def question_ids(prompts: Sequence[str]) -> NDArray[np.int64]:
    """(n,) a number for each prompt, equal where two prompts ask the same question."""
    keys, owners = _keys(prompts)
    order = np.lexsort((owners, keys))
    keys, owners = keys[order], owners[order]
    fresh = np.append(True, (keys[1:] != keys[:-1]) | (owners[1:] != owners[:-1]))
    keys, owners = keys[fresh], owners[fresh]
    _, first, count = np.unique(keys, return_index=True, return_counts=True)
    telling = np.repeat(count <= MOST_PROMPTS_PER_WINDOW, count)
    anchor = np.repeat(owners[first], count)[telling]
    links = coo_matrix((np.ones(len(anchor)), (anchor, owners[telling])), shape=(len(prompts),) * 2)
    _, labels = connected_components(links, directed=False)
    return labels.astype(np.int64)


def fold_of(questions: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """(n,) fold of each row, equal for rows of one question; folds are of about equal size."""
    shuffled = np.random.default_rng(seed).permutation(int(questions.max(initial=-1)) + 1)
    return shuffled[questions] % folds


def _keys(prompts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes of all windows of all prompts, and whose each is."""
    keys: list[NDArray[np.uint64]] = []
    for prompt in prompts:
        stem = _OPTIONS.split(prompt, maxsplit=1)[0]
        whole, head = _letters(prompt), _letters(stem)
        keys.append(np.concatenate((_window_hashes(whole), _hash_whole(whole), _hash_whole(head))))
    sizes = [len(k) for k in keys]
    return np.concatenate([*keys, np.zeros(0, np.uint64)]), np.repeat(np.arange(len(prompts)), sizes)


def _letters(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(_NOT_LETTERS.sub("", text).lower().encode(), np.uint8)


def _window_hashes(letters: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Polynomial hashes (mod 2**64) of every 48-letter window, from prefix sums."""
    if len(letters) < WINDOW_LETTERS:
        return np.zeros(0, np.uint64)
    powers, inverses = _powers(len(letters) + 1)
    prefix = np.concatenate((np.zeros(1, np.uint64), np.cumsum(letters * powers[:-1], dtype=np.uint64)))
    spans = prefix[WINDOW_LETTERS:] - prefix[:-WINDOW_LETTERS]
    return spans * inverses[: len(spans)]


def _hash_whole(letters: NDArray[np.uint8]) -> NDArray[np.uint64]:
    powers, _ = _powers(len(letters))
    total = (letters * powers).sum(dtype=np.uint64) + np.uint64(len(letters))
    return np.array([total ^ np.uint64(_MULTIPLIER)], np.uint64)


def _powers(count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    inverse = pow(_MULTIPLIER, -1, 1 << 64)
    steps = np.ones(max(count, 1), np.uint64)
    back = steps.copy()
    steps[1:], back[1:] = np.uint64(_MULTIPLIER), np.uint64(inverse)
    return np.cumprod(steps)[:count], np.cumprod(back)[:count]
