"""Fitting the hashed n-gram model: logistic regression with soft labels, weights rounded to int8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix, diags, hstack

from heimdall_models.features import MAX_BATCH
from heimdall_models.scan import scan
from heimdall_models.text_model import GROUP_BITS, Grams, TextModel, text_grams

ITERATIONS = 25
FEWEST_TEXTS = 4
"""A gram in fewer texts tells of those texts only; its weight stays 0."""

GROUP_FACTORS = (1.0, 2.0, 0.5)
"""How much more the penalty lets words, pairs and character 4-grams weigh."""

_LARGEST_WEIGHT = 127


@dataclass(frozen=True, slots=True)
class TextFit:
    """The fitted weights before rounding: `weights` (Σ 2**bits,), `bias`, and the given `slopes` on columns of features."""

    weights: NDArray[np.float64]
    bias: float
    slopes: tuple[tuple[int, float], ...] = ()

    def score(self, grams: csr_matrix) -> NDArray[np.float64]:
        """(n,) log-odds of the rows of `gram_matrix`, without the amounts."""
        return np.asarray(grams @ self.weights + self.bias)


def gram_matrix(texts: Sequence[str]) -> csr_matrix:
    """(n, Σ 2**bits) float32: factor of the group · occurrences of each gram / √(grams of the group in the text)."""
    blocks: list[list[csr_matrix]] = [[] for _ in GROUP_BITS]
    for at in range(0, len(texts), MAX_BATCH):
        groups = text_grams(scan(texts[at : at + MAX_BATCH]))
        for block, bits, factor, grams in zip(blocks, GROUP_BITS, GROUP_FACTORS, groups, strict=True):
            block.append(_rows(grams, factor / np.sqrt(np.maximum(grams.counts(), 1)), 1 << bits))
    return hstack([_stacked(block) for block in blocks], format="csr", dtype=np.float32)


def fit_text(
    grams: csr_matrix,
    label: NDArray[np.float64],
    offset: NDArray[np.float64],
    penalty: float,
    by_rarity: bool = False,
) -> TextFit:
    """Minimise the mean cross-entropy to soft labels (n,), given log-odds `offset` (n,), plus penalty · |w|² / 2.

    `by_rarity`: the penalty is on w / `rarity`, so that what a subject is about may weigh more than what all prompts say.
    """
    texts = np.bincount(grams.indices, minlength=grams.shape[1])
    known = np.flatnonzero(texts >= FEWEST_TEXTS)
    scale = rarity(texts, grams.shape[0])[known] if by_rarity else np.ones(len(known))
    used = (grams.tocsc()[:, known] @ diags(scale.astype(np.float32))).tocsr()
    transposed = used.T.tocsr()

    def loss(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        w, bias = theta[:-1], theta[-1]
        log_odds = np.asarray(used @ w.astype(np.float32), np.float64) + bias + offset
        residual = (1 / (1 + np.exp(-log_odds)) - label) / len(label)
        value = float((np.logaddexp(0, log_odds) - label * log_odds).mean()) + penalty * float(w @ w) / 2
        slope = np.asarray(transposed @ residual.astype(np.float32), np.float64) + penalty * w
        return value, np.append(slope, residual.sum())

    start = np.zeros(len(known) + 1)
    result = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS, "maxcor": 6})
    weights = np.zeros(grams.shape[1])
    weights[known] = result.x[:-1] * scale
    return TextFit(weights, float(result.x[-1]))


def rarity(texts: NDArray[np.int64], rows: int) -> NDArray[np.float64]:
    """Inverse document frequency log((1 + rows) / (1 + texts)) (Spärck Jones 1972) of grams that stand in so many `texts`.

    Divided by its root mean square over all occurrences, so that a penalty means the same with and without it.
    """
    inverse = np.log((1.0 + rows) / (1.0 + texts))
    return np.asarray(inverse / np.sqrt((texts * inverse**2).sum() / max(int(texts.sum()), 1) or 1.0))


def rounded(fit: TextFit) -> TextModel:
    """The serving model: each group's weights as int8 steps of the largest / 127."""
    tables: list[NDArray[np.int8]] = []
    scales: list[float] = []
    groups = np.split(fit.weights, np.cumsum([1 << bits for bits in GROUP_BITS])[:-1])
    for factor, fitted in zip(GROUP_FACTORS, groups, strict=True):
        weights = fitted * factor
        scale = (float(np.abs(weights).max()) or 1.0) / _LARGEST_WEIGHT
        tables.append(np.clip(np.rint(weights / scale), -_LARGEST_WEIGHT, _LARGEST_WEIGHT).astype(np.int8))
        scales.append(scale)
    return TextModel(tuple(tables), tuple(scales), fit.bias, fit.slopes)


def _rows(grams: Grams, value: NDArray[np.float64], width: int) -> csr_matrix:
    """One row a text with `value` (n,) at each of its grams, those of repeated ones added up or left out."""
    wanted = np.zeros(len(grams.index), np.bool_)
    for low, high in grams.bounds:
        wanted[low:high] = True
    if grams.repeated is not None:
        wanted &= ~grams.repeated
    counts = grams.counts()
    limits = np.concatenate(([0], np.cumsum(counts)))
    values = np.repeat(value, counts).astype(np.float32)
    rows = csr_matrix((values, grams.index[wanted].astype(np.int32), limits), shape=(len(counts), width))
    rows.sum_duplicates()
    return rows


def _stacked(blocks: Sequence[csr_matrix]) -> csr_matrix:
    data = np.concatenate([block.data for block in blocks])
    indices = np.concatenate([block.indices for block in blocks])
    counts = np.concatenate([np.diff(block.indptr) for block in blocks])
    limits = np.concatenate(([0], np.cumsum(counts)))
    return csr_matrix((data, indices, limits), shape=(len(counts), blocks[0].shape[1]))
