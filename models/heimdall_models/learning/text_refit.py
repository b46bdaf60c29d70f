"""The text model fitted to logged texts, where tenants let them be kept: the prior's, and what its words mean for each side.

Score = the prior's score + own weight · (what a text's grams say of the cheap side's reward − of the strong side's).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from heimdall_models.learning.lineage import scored_anew, with_scores
from heimdall_models.learning.logged import Floats, Indices, Logged
from heimdall_models.learning.outcome import effective_rows, fit_outcomes, fit_weights, own_weight
from heimdall_models.learning.sides import CHEAP, STRONG, Sides
from heimdall_models.learning.split import Split, split_by_time
from heimdall_models.text_model import TextModel
from heimdall_models.training.questions import fold_of
from heimdall_models.training.text_fit import GROUP_FACTORS, ITERATIONS, TextFit, gram_matrix, rounded

FEWEST_TEXTS = 1000
"""Fewer teach no word that the numbers do not show better."""

LEAST_SHARE = 0.5
"""Of the rows: a text model learned from fewer would be judged by a part of the traffic and serve all of it."""

FEWEST_QUESTIONS = 4
"""A gram in fewer different questions tells of those alone; its weight stays the prior's."""

FEWEST_OF_A_SIDE = 20
FOLDS = 3
_LEVEL_PENALTY, _LEAD_PENALTY = 0.001, 0.01
"""Of squared weights, in the mean squared error: chosen, as all of learning was, on RouteLLM's MMLU pair."""


@dataclass(frozen=True, slots=True)
class Refit:
    """`model` serves; `prior` is what it began with. `logged`: the log with its scores, in the rows that it was fitted to those
    of models that saw no row of the question; `began`: with the prior's. `rows`: those with a text; `split`: of these."""

    model: TextModel
    prior: TextModel
    logged: Logged
    began: Logged
    rows: Indices
    split: Split


def refit(logged: Logged, rows: Indices, sides: Sides, prior: TextModel) -> Refit | str:
    """A text model fitted to the earlier of these usable rows, or why there is none.

    Only rows whose text is known are fitted to, calibrated on and judged by: of the others nobody knows the new score.
    Own words count for as much beside the prior as own trees do.
    """
    score = scored_anew(logged, rows, prior)
    texts = rows[np.isfinite(score)]
    began = with_scores(logged, texts, score[np.isfinite(score)])
    split = split_by_time(began, texts)
    if (why := _too_few(began.rows(split.fit), sides, len(texts), len(rows))) is not None:
        return why
    fit = began.rows(split.fit)
    weight = own_weight(effective_rows(fit))
    own, lead = _own_words(fit, sides)
    model = _added(prior, weight * lead)
    scored = with_scores(began, split.fit, fit.features[:, -1] + weight * own)
    later = np.concatenate((split.calibrate, split.held_out))
    scored = with_scores(scored, later, scored_anew(scored, later, model))
    return Refit(model, prior, scored, began, texts, split)


def _too_few(fit: Logged, sides: Sides, texts: int, rows: int) -> str | None:
    side = sides.of(fit.served)
    asked = min(len(np.unique(fit.question[side == number])) for number in (CHEAP, STRONG))
    if texts >= max(FEWEST_TEXTS, LEAST_SHARE * rows) and asked >= FEWEST_OF_A_SIDE:
        return None
    return (
        f"{texts} of {rows} usable rows have the text that was scored, and the earlier ones {asked} questions to the side that "
        f"was asked less; {FEWEST_TEXTS} texts, half of the rows and {FEWEST_OF_A_SIDE} questions are needed: the text model "
        "stays the parent's. Name the tenants that agreed in learning.keep_text_of, or wait for more"
    )


def _own_words(fit: Logged, sides: Sides) -> tuple[Floats, Floats]:
    """(n,) the lead of each row's text by a fit to the rows of other questions, and (grams,) of each gram by all rows."""
    grams = gram_matrix([text or "" for text in fit.text])
    _, question = np.unique(fit.question, return_inverse=True)
    fold = fold_of(question.astype(np.int64), FOLDS, 1)
    left = _unexplained(fit, sides, fold)
    own = np.zeros(len(fit))
    for number in range(FOLDS):
        seen, unseen = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        own[unseen] = grams[unseen] @ _lead(fit.rows(seen), sides, grams[seen], left[seen])
    return own, _lead(fit, sides, grams, left)


def _unexplained(fit: Logged, sides: Sides, fold: Indices) -> Floats:
    """(n,) rewards less what outcome models, which saw no row of the question, make of the numbers."""
    side, left = sides.of(fit.served), fit.reward.copy()
    for number in range(FOLDS):
        unseen = np.flatnonzero(fold == number)
        outcomes = fit_outcomes(fit.rows(fold != number), sides)
        left[unseen] -= outcomes.predict(fit.features[unseen])[np.arange(len(unseen)), side[unseen]]
    return left


def _lead(fit: Logged, sides: Sides, grams: csr_matrix, left: Floats) -> Floats:
    """(grams,) how much more each says of the cheap side's reward than of the strong side's.

    Minimises the weighted mean of (left − level · grams ∓ lead · grams)² / 2 plus penalties: what a gram says of both sides'
    rewards alike is fitted beside it, so that a subject that is hard for everybody is not taken for a lead of those who
    were not asked about it.
    """
    known = np.flatnonzero(_questions(grams, fit.question) >= FEWEST_QUESTIONS)
    used = grams.tocsc()[:, known].tocsr()
    transposed = used.T.tocsr()
    sign = np.where(sides.of(fit.served) == CHEAP, 1.0, -1.0)
    weight = fit_weights(fit.p_served)
    weight /= weight.sum()
    count = len(known)

    def loss(theta: Floats) -> tuple[float, Floats]:
        level, lead = theta[:count], theta[count:]
        error = used @ level.astype(np.float32) + sign * (used @ lead.astype(np.float32)) - left
        pull = weight * error
        value = (
            float(pull @ error) / 2 + (_LEVEL_PENALTY * float(level @ level) + _LEAD_PENALTY * float(lead @ lead)) / 2
        )
        slopes = transposed @ pull.astype(np.float32), transposed @ (sign * pull).astype(np.float32)
        return value, np.concatenate((slopes[0] + _LEVEL_PENALTY * level, slopes[1] + _LEAD_PENALTY * lead))

    options = {"maxiter": ITERATIONS, "maxcor": 6}
    found = minimize(loss, np.zeros(2 * count), jac=True, method="L-BFGS-B", options=options)
    lead = np.zeros(grams.shape[1])
    lead[known] = 2.0 * found.x[count:]
    return lead


def _questions(grams: csr_matrix, question: NDArray[np.str_]) -> Indices:
    """(grams,) in how many different questions each stands."""
    _, group = np.unique(question, return_inverse=True)
    rows = np.arange(len(group))
    asked = csr_matrix((np.ones(len(group), np.float32), (group, rows))) @ grams
    return np.asarray(np.bincount(asked.indices, minlength=grams.shape[1]))


def _added(prior: TextModel, lead: Floats) -> TextModel:
    """The prior with these log-odds added to its grams', as they stand in a `gram_matrix`."""
    tables = zip(prior.weights, prior.scales, GROUP_FACTORS, strict=True)
    weights = np.concatenate([table * (scale / factor) for table, scale, factor in tables])
    return rounded(TextFit(weights + lead, prior.bias, prior.slopes))
