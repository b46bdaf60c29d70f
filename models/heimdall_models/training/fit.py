"""Fitting the classifier: a linear text score, and gradient-boosted trees that correct it. The only module with LightGBM.

Two ways to fit. `Settings.transfer` is for prompts unlike those of the tables: what their outcomes say
beyond the work in a prompt (`workload.py`) was measured to mislead on benchmarks left out, so it is not learned. Text model and
trees learn the everyday prompts, and the tables' prompts hold them at zero; the trees see `columns.TRANSFER` only, and no more
of it makes a prompt easier. `own_settings` is for labels of the very traffic that will be served: every feature, no constraint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import lightgbm
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from heimdall_models.bundle import FORMAT
from heimdall_models.classify import Platt
from heimdall_models.conversation import Conversation
from heimdall_models.features import FEATURE_NAMES, FEATURE_VERSION, MAX_BATCH, extract
from heimdall_models.text_model import amounts
from heimdall_models.training.bend import LEAST_SLOPE, STRAIGHT, Bend, fit_bend
from heimdall_models.training.columns import TRANSFER
from heimdall_models.training.questions import fold_of
from heimdall_models.training.text_fit import TextFit, fit_text, gram_matrix

Floats = NDArray[np.float64]
Target = Literal["cheap_ok", "gain"]

MANY_LABELS = 2000
"""From so many labels on, rare grams are worth their weights: with fewer, on one kind of question, they fit chance."""

FEW_REWARDS = 4000
"""Below so many rows the trees of an outcome model are more, and smaller."""


CALIBRATION_FOLDS = 5
_DOMAIN_PRIOR_ROWS = 20.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What a fit depends on besides its data; the defaults made the shipped bundle.

    `text_penalty`: of squared text weights; `rare_grams`: a lighter one for rarer grams. `transfer`: see the module.
    """

    seed: int = 0
    trees: int = 60
    leaves: int = 15
    learning_rate: float = 0.1
    rows_per_leaf: int = 100
    ridge: float = 30.0
    text_penalty: float = 0.1
    rare_grams: bool = False
    transfer: bool = True
    inner_folds: int = 2


def own_settings(rows: int, seed: int = 0) -> Settings:
    """Settings for `rows` labels of one's own traffic; the fewer, the simpler the model."""
    return Settings(
        seed=seed,
        learning_rate=0.03,
        rows_per_leaf=min(150, max(10, rows // 8)),
        ridge=50.0,
        text_penalty=min(0.02, max(0.001, 20.0 / max(rows, 1))),
        rare_grams=rows >= MANY_LABELS,
        transfer=False,
        inner_folds=3,
    )


@dataclass(frozen=True, slots=True)
class Examples:
    """`n` labelled prompts. `numeric` (n, features), its text score column still 0; `grams` (n, …) of the text model.

    `label` (n,) 0..1: how well a cheap model answers. `offset` (n,): log-odds that are explained away in training and
    unknown in serving. `question` (n,) equal for one question. `domain` (n,) a number for each domain of a table, and
    `noise` (n,) 0..1: how far the trees take the mean label of the domain for a row's own. `slopes`: (column, log-odds
    per unit), given, not fitted.
    """

    numeric: NDArray[np.float32]
    grams: csr_matrix
    label: Floats
    offset: Floats
    question: NDArray[np.int64]
    domain: NDArray[np.int64]
    noise: Floats
    slopes: tuple[tuple[int, float], ...] = ()

    def __len__(self) -> int:
        return len(self.label)

    def rows(self, keep: NDArray[np.integer[Any]]) -> Examples:
        """These rows only."""
        return replace(
            self,
            numeric=self.numeric[keep],
            grams=self.grams[keep],
            label=self.label[keep],
            offset=self.offset[keep],
            question=self.question[keep],
            domain=self.domain[keep],
            noise=self.noise[keep],
        )


@dataclass(frozen=True, slots=True)
class Fitted:
    """A text model, trees and a bend that belong together."""

    text: TextFit
    trees: Any
    bend: Bend = STRAIGHT

    def numeric(self, examples: Examples) -> NDArray[np.float32]:
        """(n, features) with the text score in the last column."""
        return with_text_score(examples.numeric, text_score(self.text, examples))

    def log_odds(self, examples: Examples) -> Floats:
        """(n,) raw log-odds that a cheap model answers well."""
        return self.native_log_odds(self.numeric(examples))

    def native_log_odds(self, numeric: NDArray[np.float32]) -> Floats:
        """(n,) text score plus what LightGBM itself predicts plus the bend, of (n, features)."""
        correction = self.trees.predict(numeric, raw_score=True, num_threads=1)
        return numeric[:, -1].astype(np.float64) + np.asarray(correction, np.float64) + self.bend.of(numeric[:, -1])

    def dumped(self) -> list[dict[str, Any]]:
        """Trees and bend as LightGBM's own nested JSON."""
        return [*dumped_trees(self.trees), *self.bend.trees()]


def features_of(conversations: Sequence[Conversation]) -> tuple[NDArray[np.float32], csr_matrix]:
    """(n, features) and (n, …) grams of these conversations."""
    starts = range(0, len(conversations), MAX_BATCH)
    chunks = [extract(conversations[at : at + MAX_BATCH]).numeric for at in starts]
    return np.concatenate(chunks), gram_matrix([conversation.text for conversation in conversations])


def fit(examples: Examples, settings: Settings) -> Fitted:
    """The text model on all rows, and trees that saw only out-of-fold scores of it, so that they correct what it is worth."""
    folds = fold_of(examples.question, settings.inner_folds, settings.seed + 1)
    score = np.zeros(len(examples))
    for fold in range(settings.inner_folds):
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if len(inside) and len(outside):
            score[outside] = text_score(_fit_text(examples.rows(inside), settings), examples.rows(outside))
    trees = _fit_trees(with_text_score(examples.numeric, score), examples, settings)
    return Fitted(_fit_text(examples, settings), trees)


@dataclass(frozen=True, slots=True)
class Scored:
    """The text score (n,) of `n` rows, and their raw log-odds (n,), to calibrate on."""

    score: NDArray[np.float32]
    log_odds: Floats

    def rows(self, keep: NDArray[Any]) -> Scored:
        """These rows only."""
        return Scored(self.score[keep], self.log_odds[keep])


def scored(fitted: Fitted, examples: Examples) -> Scored:
    """What a fitted model says of these rows."""
    numeric = fitted.numeric(examples)
    return Scored(numeric[:, -1], fitted.native_log_odds(numeric))


def out_of_fold(examples: Examples, settings: Settings, folds: int) -> Scored:
    """Every row by a model that saw no row of its question."""
    fold = fold_of(examples.question, folds, settings.seed)
    score, log_odds = np.zeros(len(examples), np.float32), np.zeros(len(examples))
    for number in range(folds):
        inside, outside = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        if len(outside):
            found = scored(fit(examples.rows(inside), settings), examples.rows(outside))
            score[outside], log_odds[outside] = found.score, found.log_odds
    return Scored(score, log_odds)


def calibration(held_out: Scored, label: Floats, settings: Settings) -> tuple[Bend, Platt]:
    """Line and bend for raw log-odds without a bend; of one's own traffic the line alone is a fair picture."""
    line = fit_platt(held_out.log_odds, label)
    return fit_bend(held_out.score, held_out.log_odds, label, line) if settings.transfer else (STRAIGHT, line)


def calibrated_by_fold(held_out: Scored, examples: Examples, settings: Settings) -> Floats:
    """(n,) probabilities of held-out rows, the calibration of each fold fitted to the rows of the other folds."""
    fold = fold_of(examples.question, CALIBRATION_FOLDS, settings.seed)
    result = np.zeros(len(examples))
    for number in range(CALIBRATION_FOLDS):
        inside, outside = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        if len(outside):
            bend, platt = calibration(held_out.rows(inside), examples.label[inside], settings)
            judged = held_out.rows(outside)
            result[outside] = platt(judged.log_odds + bend.of(judged.score))
    return result


def fit_platt(log_odds: Floats, label: Floats) -> Platt:
    """Slope, of `LEAST_SLOPE` or more, and intercept that minimise the cross-entropy to soft labels (Platt 1999)."""

    def loss(theta: Floats) -> tuple[float, Floats]:
        z = theta[0] * log_odds + theta[1]
        residual = 1 / (1 + np.exp(-z)) - label
        value = float((np.logaddexp(0, z) - label * z).mean())
        return value, np.array([(residual * log_odds).mean(), residual.mean()])

    slope, intercept = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B").x
    if slope >= LEAST_SLOPE:
        return Platt(float(slope), float(intercept))
    mean = float(np.clip(label.mean(), 0.01, 0.99))
    return Platt(LEAST_SLOPE, float(np.log(mean / (1.0 - mean))) - LEAST_SLOPE * float(log_odds.mean()))


def text_score(text: TextFit, examples: Examples) -> Floats:
    """(n,) the text model's log-odds, the amounts included."""
    return text.score(examples.grams) + amounts(examples.numeric, text.slopes)


def with_text_score(numeric: NDArray[np.float32], score: Floats) -> NDArray[np.float32]:
    """`numeric` with its last column set."""
    filled = numeric.copy()
    filled[:, -1] = score
    return filled


def dumped_trees(trees: Any) -> list[dict[str, Any]]:
    """The trees as LightGBM's own nested JSON."""
    return cast("list[dict[str, Any]]", trees.dump_model()["tree_info"])


def made_with() -> dict[str, Any]:
    """What every manifest begins with: the format, the features, and LightGBM's version."""
    return {
        "format": FORMAT,
        "feature_version": FEATURE_VERSION,
        "feature_count": len(FEATURE_NAMES),
        "framework": "lightgbm",
        "version": str(lightgbm.__version__),
    }


def _fit_text(examples: Examples, settings: Settings) -> TextFit:
    given = examples.offset + amounts(examples.numeric, examples.slopes)
    fitted = fit_text(examples.grams, examples.label, given, settings.text_penalty, settings.rare_grams)
    return TextFit(fitted.weights, fitted.bias, examples.slopes)


def _fit_trees(numeric: NDArray[np.float32], examples: Examples, settings: Settings) -> Any:
    parameters: dict[str, Any] = {
        "objective": "cross_entropy",
        "num_leaves": settings.leaves,
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": settings.rows_per_leaf,
        "feature_fraction": 0.4,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": settings.ridge,
        "seed": settings.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbose": -1,
    }
    seen = numeric.copy()
    if settings.transfer:
        # A constant column is never split on.
        seen[:, [name not in TRANSFER for name in FEATURE_NAMES]] = 0.0
        parameters["monotone_constraints"] = [-int(name in TRANSFER) for name in FEATURE_NAMES]
    start = examples.offset + numeric[:, -1].astype(np.float64)
    data = lightgbm.Dataset(seen, levelled(examples), init_score=start, feature_name=list(FEATURE_NAMES))
    return lightgbm.train(parameters, data, settings.trees)


def levelled(examples: Examples) -> Floats:
    """(n,) labels moved towards the mean of their domain, by `noise`: less to learn by heart, and the same on average.

    The domain is known in training only (privileged information: Vapnik and Vashist 2009, Lopez-Paz et al. 2016).
    """
    rows = np.bincount(examples.domain)
    total = np.bincount(examples.domain, examples.label)
    mean = (total + _DOMAIN_PRIOR_ROWS * examples.label.mean()) / (rows + _DOMAIN_PRIOR_ROWS)
    return np.asarray(examples.label + examples.noise * (mean[examples.domain] - examples.label))


def fit_reward(numeric: NDArray[np.float32], reward: Floats, weight: Floats, seed: int = 0) -> Any:
    """Trees for the mean of `reward` (n,) given (n, features); least squares, since rewards lie anywhere in 0..1.

    With 5 % exploration on the MMLU pair, small trees beat larger ones while a side has fewer than `FEW_REWARDS` rows.
    """
    rows = len(reward)
    few = rows < FEW_REWARDS
    parameters: dict[str, Any] = {
        "objective": "regression",
        "num_leaves": 4 if few else 15,
        "learning_rate": 0.05,
        "min_data_in_leaf": min(100, max(10, rows // 20)),
        "feature_fraction": 0.4,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 100.0 if few else 50.0,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbose": -1,
    }
    data = lightgbm.Dataset(numeric, reward, weight=weight / weight.mean(), feature_name=list(FEATURE_NAMES))
    return lightgbm.train(parameters, data, 100 if few else 60)


def mean_reward(trees: Any, numeric: NDArray[np.float32]) -> Floats:
    """(n,) what the trees of `fit_reward` predict; a little outside of 0..1 at times."""
    return np.asarray(trees.predict(numeric, num_threads=1), np.float64)
