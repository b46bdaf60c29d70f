"""The text model fitted to logged texts, where tenants let them be kept: the prior's, and what its words mean for each side.

Score = the prior's score + own weight · (what a text's grams say of the cheap side's reward − of the strong side's).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
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
"""With 5 % exploration on the MMLU pair so many texts win nothing yet and lose nothing; twice as many win."""

LEAST_SHARE = 0.5
"""Of the rows. Half of them with their texts teach more than all of them without; but a text model learned from a small part of
the traffic would be judged by that part and serve all of it."""

MOST_CHARS = 30_000_000
"""Of all texts that are fitted to: memory is bounded. The latest count."""

FEWEST_QUESTIONS = 4
"""A gram in fewer different questions tells of those alone; its weight stays the prior's."""

FEWEST_OF_A_SIDE = 20
FOLDS, DRAWS = 3, 3
_LEVEL_PENALTY, _LEAD_PENALTY = 0.001, 0.01
"""Of squared weights, in the mean squared error: chosen, as all of learning was, on RouteLLM's MMLU pair."""


@dataclass(frozen=True, slots=True)
class Refit:
    """`model` serves; `prior` is what it began with. `logged`: the log with its scores, in the rows that it was fitted to those
    of models that saw no row of the question; `began`: with the prior's. `rows`: those with a text; `split`: of these.
    `texts`: how many it was fitted to."""

    model: TextModel
    prior: TextModel
    logged: Logged
    began: Logged
    rows: Indices
    split: Split
    texts: int


def refit(logged: Logged, rows: Indices, sides: Sides, prior: TextModel) -> Refit | str:
    """A text model fitted to the earlier of these usable rows, or why there is none.

    Only rows whose text is known are fitted to, calibrated on and judged by: of the others nobody knows the new score.
    Own words count for as much beside the prior as own trees do.
    """
    score = scored_anew(logged, rows, prior)
    texts = rows[np.isfinite(score)]
    began = with_scores(logged, texts, score[np.isfinite(score)])
    split = split_by_time(began, texts)
    told = latest(began, split.fit)
    fit = began.rows(told)
    if (why := _too_few(fit, sides, len(texts), len(rows))) is not None:
        return why
    weight = own_weight(effective_rows(began.rows(split.fit)))
    own, lead = _own_words(fit, sides)
    model = _added(prior, weight * lead)
    scored = with_scores(began, told, fit.features[:, -1] + weight * own)
    others = np.setdiff1d(texts, told)
    scored = with_scores(scored, others, scored_anew(scored, others, model))
    return Refit(model, prior, scored, began, texts, split, len(told))


def latest(logged: Logged, rows: Indices, most_chars: int = MOST_CHARS) -> Indices:
    """The last of these rows, as many as have so many characters together."""
    sizes = np.array([len(logged.text[row] or "") for row in rows], np.int64)
    return rows[np.cumsum(sizes[::-1])[::-1] <= most_chars]


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
    width = grams.shape[1]
    question = _asked(fit)
    known = np.flatnonzero(_questions(grams, question) >= FEWEST_QUESTIONS)
    grams = grams.tocsc()[:, known].tocsr()
    fold = fold_of(question, FOLDS, 0)
    left = _unexplained(fit, sides, question)
    own, lead = np.zeros(len(fit)), np.zeros(width)
    for number in range(FOLDS):
        seen, unseen = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        own[unseen] = grams[unseen] @ _lead(fit.rows(seen), sides, grams[seen], left[seen])
    lead[known] = _lead(fit, sides, grams, left)
    return own, lead


def _unexplained(fit: Logged, sides: Sides, question: Indices) -> Floats:
    """(n,) rewards less what outcome models, which saw no row of the question, make of the numbers: the mean of several
    draws of folds, since with few explored rows a single one is a matter of luck."""
    rows, side = np.arange(len(fit)), sides.of(fit.served)
    predicted = np.zeros(len(fit))
    for draw in range(DRAWS):
        fold = fold_of(question, FOLDS, draw)
        for number in range(FOLDS):
            unseen = np.flatnonzero(fold == number)
            outcomes = fit_outcomes(fit.rows(fold != number), sides)
            predicted[unseen] += outcomes.predict(fit.features[unseen])[rows[: len(unseen)], side[unseen]] / DRAWS
    return fit.reward - predicted


def _lead(fit: Logged, sides: Sides, grams: csr_matrix, left: Floats) -> Floats:
    """(grams,) how much more each says of the cheap side's reward than of the strong side's.

    Minimises the weighted mean of (left − level · grams ∓ lead · grams)² / 2 plus penalties: what a gram says of both sides'
    rewards alike is fitted beside it, so that a subject that is hard for everybody is not taken for a lead of those who
    were not asked about it.
    """
    transposed, count = grams.T, grams.shape[1]
    side = sides.of(fit.served)
    sign = np.where(side == CHEAP, 1.0, -1.0)
    weight = fit_weights(fit.p_served)
    weight /= weight.sum()
    # What all rows of a side have in common is no word's: left in, the most frequent ones would carry it.
    common = np.bincount(side, weight * left) / np.bincount(side, weight)
    left = left - common[side]

    def loss(theta: Floats) -> tuple[float, Floats]:
        level, lead = theta[:count], theta[count:]
        error = grams @ level.astype(np.float32) + sign * (grams @ lead.astype(np.float32)) - left
        pull = weight * error
        value = (
            float(pull @ error) / 2 + (_LEVEL_PENALTY * float(level @ level) + _LEAD_PENALTY * float(lead @ lead)) / 2
        )
        slopes = transposed @ pull.astype(np.float32), transposed @ (sign * pull).astype(np.float32)
        return value, np.concatenate((slopes[0] + _LEVEL_PENALTY * level, slopes[1] + _LEAD_PENALTY * lead))

    options = {"maxiter": ITERATIONS, "maxcor": 6}
    found = minimize(loss, np.zeros(2 * count), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(2.0 * found.x[count:])


def _asked(logged: Logged) -> Indices:
    """(n,) a number for each question, equal where it was asked again with other capitals or spaces: the audit knows that
    only with `learning.question_secret`, the texts always."""
    numbers: dict[str, int] = {}
    plain = (" ".join((text or "").casefold().split()) for text in logged.text)
    return np.array([numbers.setdefault(each, len(numbers)) for each in plain], np.int64)


def _questions(grams: csr_matrix, question: Indices) -> Indices:
    """(grams,) in how many different questions each stands."""
    rows = np.arange(len(question))
    asked = csr_matrix((np.ones(len(rows), np.float32), (question, rows))) @ grams
    return np.asarray(np.bincount(asked.indices, minlength=grams.shape[1]))


def _added(prior: TextModel, lead: Floats) -> TextModel:
    """The prior with these log-odds added to its grams', as they stand in a `gram_matrix`."""
    tables = zip(prior.weights, prior.scales, GROUP_FACTORS, strict=True)
    weights = np.concatenate([table * (scale / factor) for table, scale, factor in tables])
    return rounded(TextFit(weights + lead, prior.bias, prior.slopes))
