"""Which prompts ask the same question, in whatever wrapping: folds are cut by question, never by row.

Two prompts ask the same question when their text up to the answer options is equal, or when two thirds of the windows
of 48 letters of the shorter one stand in the longer one (letters only, case folded). Windows that stand in many prompts
are wrapping ("You are given a Python function and an assertion …") and tell nothing; two prompts that quote one
sentence among others ask different questions.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

WINDOW_LETTERS = 48
MOST_PROMPTS_PER_WINDOW = 8
SHARED_WINDOWS = 2 / 3
_ONE_WINDOW_IN = np.uint64(4)
_FEWEST_STEM_LETTERS = 16
_MULTIPLIER = 0x9E3779B97F4A7C15
_NOT_LETTERS = re.compile(r"[\W\d_]+")
_OPTIONS = re.compile(r"\n\s*\(?A[.):]")


def question_ids(prompts: Sequence[str]) -> NDArray[np.int64]:
    """(n,) a number for each prompt, equal where two prompts ask the same question."""
    letters = [_letters(prompt) for prompt in prompts]
    stems = [_letters(_OPTIONS.split(prompt, maxsplit=1)[0]) for prompt in prompts]
    stem_keys = np.array([_hash_whole(s) if len(s) >= _FEWEST_STEM_LETTERS else 0 for s in stems], np.uint64)
    whole_keys = np.array([_hash_whole(text) for text in letters], np.uint64)
    links = [_equal_links(whole_keys), _equal_links(stem_keys), _window_links(letters)]
    pairs = np.concatenate(links)
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(prompts),) * 2)
    _, labels = connected_components(graph, directed=False)
    return np.asarray(labels, np.int64)


def fold_of(questions: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """(n,) fold of each row, equal for rows of one question; folds are of about equal size."""
    shuffled = np.random.default_rng(seed).permutation(int(questions.max(initial=-1)) + 1)
    return np.asarray(shuffled[questions] % folds, np.int64)


def _equal_links(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """(links, 2) each prompt with the first that has the same key; key 0 links nothing."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    links = np.stack((first[inverse], np.arange(len(keys))), axis=1)
    return np.asarray(links[keys != 0], np.int64)


def _window_links(letters: Sequence[NDArray[np.uint8]]) -> NDArray[np.int64]:
    """(links, 2) pairs of prompts that share `SHARED_WINDOWS` of the shorter one's telling windows."""
    sampled = [np.unique(hashes[hashes % _ONE_WINDOW_IN == 0]) for hashes in map(_window_hashes, letters)]
    owners = np.repeat(np.arange(len(letters)), [len(s) for s in sampled])
    _, window, count = np.unique(np.concatenate(sampled), return_inverse=True, return_counts=True)
    telling = count[window] <= MOST_PROMPTS_PER_WINDOW
    owners, window = owners[telling], window[telling]
    stands = csr_matrix((np.ones(len(owners), np.int32), (owners, window)), shape=(len(letters), len(count)))
    shared = (stands @ stands.T).tocoo()
    total = np.bincount(owners, minlength=len(letters))
    enough = shared.data >= SHARED_WINDOWS * np.minimum(total[shared.row], total[shared.col])
    return np.stack((shared.row[enough], shared.col[enough]), axis=1, dtype=np.int64)


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


def _hash_whole(letters: NDArray[np.uint8]) -> int:
    return int.from_bytes(hashlib.blake2b(letters.tobytes(), digest_size=8).digest(), "little")


def _powers(count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    inverse = pow(_MULTIPLIER, -1, 1 << 64)
    steps = np.ones(max(count, 1), np.uint64)
    back = steps.copy()
    steps[1:], back[1:] = np.uint64(_MULTIPLIER), np.uint64(inverse)
    return np.cumprod(steps)[:count], np.cumprod(back)[:count]
