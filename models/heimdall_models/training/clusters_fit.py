"""k-means over the hashed embedding, and what mixture of domains each cluster is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from heimdall_models.bundle import DOMAINS, Clusters
from heimdall_models.embed import QUANTA

ROUNDS = 25
SAMPLE = 12_000
_PRIOR_ROWS = 2.0

DOMAIN_OF_WORD: dict[str, str] = {
    "math": "math",
    "algebra": "math",
    "statistics": "math",
    "gsm": "math",
    "code": "code",
    "computer": "code",
    "programming": "code",
    "machine_learning": "code",
    "engineering": "science",
    "physics": "science",
    "chemistry": "science",
    "biology": "science",
    "astronomy": "science",
    "anatomy": "science",
    "medic": "science",
    "clinical": "science",
    "virology": "science",
    "health": "science",
    "nutrition": "science",
    "genetics": "science",
    "logic": "reasoning",
    "fallacies": "reasoning",
    "moral_scenarios": "reasoning",
    "law": "reasoning",
    "reasoning": "reasoning",
    "chat": "chat",
    "creative": "chat",
    "long_context": "long_context",
    "instruction": "instruction_following",
    "multilingual": "multilingual",
    "translation": "multilingual",
}
"""Part of a table's `domain` → domain of the quality table, first match wins; anything else is knowledge."""


def domain_numbers(domains: Sequence[str]) -> NDArray[np.int64]:
    """(n,) index into `DOMAINS` for the domain names of an outcome table."""
    known = {name: _domain_number(name) for name in set(domains)}
    return np.array([known[name] for name in domains], np.int64)


def fit_clusters(vectors: NDArray[np.float32], domains: NDArray[np.int64], count: int, seed: int) -> Clusters:
    """Spherical k-means of unit rows (n, 384); each cluster's domains are those of its rows, smoothed by the overall mix."""
    rng = np.random.default_rng(seed)
    lengths = np.linalg.norm(vectors, axis=1)
    usable = np.flatnonzero(lengths > 0)
    sample = vectors[rng.permutation(usable)[:SAMPLE]]
    centres = sample[_spread_start(sample, count, rng)]
    for _ in range(ROUNDS):
        nearest = np.argmax(sample @ centres.T, axis=1)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, sample)
        empty = np.linalg.norm(sums, axis=1) == 0
        sums[empty] = centres[empty]
        centres = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    member = np.argmax(vectors @ centres.T, axis=1)
    overall = np.bincount(domains, minlength=len(DOMAINS)) / len(domains)
    counts = np.zeros((count, len(DOMAINS)))
    np.add.at(counts, (member, domains), 1.0)
    counts += _PRIOR_ROWS * overall
    mixture = (counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)
    return Clusters(np.rint(centres * QUANTA).astype(np.int16), mixture)


def _domain_number(name: str) -> int:
    folded = name.lower()
    if folded in DOMAINS:
        return DOMAINS.index(folded)
    return next(
        (DOMAINS.index(domain) for word, domain in DOMAIN_OF_WORD.items() if word in folded),
        DOMAINS.index("knowledge"),
    )


def _spread_start(sample: NDArray[np.float32], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """k-means++: each start is drawn in proportion to its distance from those before."""
    chosen = [int(rng.integers(len(sample)))]
    nearest = sample @ sample[chosen[0]]
    while len(chosen) < count:
        distance = np.clip(1.0 - nearest.astype(np.float64), 0.0, None)
        chosen.append(int(rng.choice(len(sample), p=distance / distance.sum())))
        nearest = np.maximum(nearest, sample @ sample[chosen[-1]])
    return np.array(chosen)
