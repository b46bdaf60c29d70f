"""Fitting the classifier: gradient-boosted trees on the features and on an out-of-fold text score. The only module with LightGBM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import lightgbm
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from heimdall_models.classify import Platt
from heimdall_models.conversation import Conversation
from heimdall_models.features import FEATURE_NAMES, MAX_BATCH, extract
from heimdall_models.training.questions import fold_of
from heimdall_models.training.text_fit import TextFit, fit_text, gram_matrix

Floats = NDArray[np.float64]
Target = Literal["cheap_ok", "gain"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a fit depends on besides its data; the defaults made the shipped bundle."""

    seed: int = 0
    trees: int = 240
    leaves: int = 15
    learning_rate: float = 0.04
    rows_per_leaf: int = 40
    text_penalty: float = 3e-6
    inner_folds: int = 4


@dataclass(frozen=True, slots=True)
class Examples:
    """`n` labelled prompts. `numeric` (n, features), its text score column still 0; `grams` (n, …) of the text model.

    `label` (n,) 0..1: how well a cheap model answers; `weight` (n,); `question` (n,) equal for one question.
    """

    numeric: NDArray[np.float32]
    grams: csr_matrix
    label: Floats
    weight: Floats
    question: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.label)

    def rows(self, keep: NDArray[np.integer[Any]]) -> Examples:
        """These rows only."""
        return Examples(
            self.numeric[keep], self.grams[keep], self.label[keep], self.weight[keep], self.question[keep]
        )


@dataclass(frozen=True, slots=True)
class Fitted:
    """A text model and trees that belong together."""

    text: TextFit
    trees: Any

    def log_odds(self, examples: Examples) -> Floats:
        """(n,) raw log-odds that a cheap model answers well."""
        numeric = with_text_score(examples.numeric, self.text.score(examples.grams))
        return native_log_odds(self.trees, numeric)


def examples_of(
    conversations: Sequence[Conversation], label: Floats, weight: Floats, question: NDArray[np.int64]
) -> Examples:
    """Features and grams of these conversations."""
    chunks = [
        extract(conversations[at : at + MAX_BATCH]).numeric for at in range(0, len(conversations), MAX_BATCH)
    ]
    grams = gram_matrix([conversation.text for conversation in conversations])
    return Examples(np.concatenate(chunks), grams, label, weight, question)


def fit(examples: Examples, settings: Settings) -> Fitted:
    """The text model on all rows, and trees that saw only out-of-fold scores of it, so they do not trust it too much."""
    folds = fold_of(examples.question, settings.inner_folds, settings.seed + 1)
    score = np.zeros(len(examples))
    for fold in range(settings.inner_folds):
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if len(inside) and len(outside):
            score[outside] = _fit_text(examples.rows(inside), settings).score(examples.grams[outside])
    trees = _fit_trees(with_text_score(examples.numeric, score), examples, settings)
    return Fitted(_fit_text(examples, settings), trees)


def out_of_fold(examples: Examples, settings: Settings, folds: int) -> Floats:
    """(n,) raw log-odds of every row by a model that saw no row of its question."""
    fold = fold_of(examples.question, folds, settings.seed)
    result = np.zeros(len(examples))
    for number in range(folds):
        inside, outside = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        if len(outside):
            result[outside] = fit(examples.rows(inside), settings).log_odds(examples.rows(outside))
    return result


def fit_platt(log_odds: Floats, label: Floats, weight: Floats) -> Platt:
    """Slope and intercept that minimise the weighted cross-entropy to soft labels (Platt 1999)."""
    share = weight / weight.sum()

    def loss(theta: Floats) -> tuple[float, Floats]:
        z = theta[0] * log_odds + theta[1]
        residual = share * (1 / (1 + np.exp(-z)) - label)
        value = float((share * (np.logaddexp(0, z) - label * z)).sum())
        return value, np.array([(residual * log_odds).sum(), residual.sum()])

    slope, intercept = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B").x
    return Platt(float(slope), float(intercept))


def with_text_score(numeric: NDArray[np.float32], score: Floats) -> NDArray[np.float32]:
    """`numeric` with its last column set."""
    filled = numeric.copy()
    filled[:, -1] = score
    return filled


def native_log_odds(trees: Any, numeric: NDArray[np.float32]) -> Floats:
    """(n,) text score plus what LightGBM itself predicts."""
    return numeric[:, -1] + np.asarray(trees.predict(numeric, raw_score=True, num_threads=1), np.float64)


def dumped_trees(trees: Any) -> list[dict[str, Any]]:
    """The trees as LightGBM's own nested JSON."""
    return cast("list[dict[str, Any]]", trees.dump_model()["tree_info"])


def framework_version() -> str:
    """LightGBM's version."""
    return str(lightgbm.__version__)


def small(settings: Settings, rows: int) -> Settings:
    """Settings for few labels: shallower trees with fewer of them, so that 500 rows do not overfit."""
    if rows >= 5000:
        return settings
    return replace(settings, trees=120, leaves=7, rows_per_leaf=max(10, rows // 40))


def _fit_text(examples: Examples, settings: Settings) -> TextFit:
    return fit_text(examples.grams, examples.label, examples.weight, settings.text_penalty)


def _fit_trees(numeric: NDArray[np.float32], examples: Examples, settings: Settings) -> Any:
    parameters = {
        "objective": "cross_entropy",
        "num_leaves": settings.leaves,
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": settings.rows_per_leaf,
        "feature_fraction": 0.5,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 5.0,
        "seed": settings.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbose": -1,
    }
    data = lightgbm.Dataset(
        numeric,
        examples.label,
        weight=examples.weight,
        init_score=numeric[:, -1].astype(np.float64),
        feature_name=list(FEATURE_NAMES),
    )
    return lightgbm.train(parameters, data, settings.trees)
