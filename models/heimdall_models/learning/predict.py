"""What every model would earn in every row to be judged, by outcome models that saw neither the row nor its question."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heimdall_models.learning.logged import NOBODY, Flags, Floats, Indices, Logged
from heimdall_models.learning.outcome import fit_outcomes, usable
from heimdall_models.learning.pairs import with_shadows
from heimdall_models.learning.sides import CHEAP, STRONG, Sides
from heimdall_models.training.questions import fold_of

FOLDS = 2
FEWEST_OF_A_SIDE = 20
_PRIOR_ROWS = 20.0


@dataclass(frozen=True, slots=True)
class Predicted:
    """For n judged rows: `sides` (n, 2) mean reward of each side, `models` (n, models) of each model."""

    sides: Floats
    models: Floats


def predict(logged: Logged, judged: Indices, sides: Sides) -> Predicted | None:
    """Rewards of the rows `judged`, each predicted from earlier and other rows. None when one side hardly answered."""
    earlier = np.ones(len(logged), np.bool_)
    earlier[judged] = False
    earlier &= ~np.isin(logged.question, logged.question[judged])
    fold = np.full(len(logged), NOBODY)
    _, question = np.unique(logged.question[judged], return_inverse=True)
    fold[judged] = fold_of(question.astype(np.int64), FOLDS, 0)
    by_side = np.full((len(logged), 2), np.nan)
    by_model = np.full((len(logged), len(logged.models)), np.nan)
    for number in range(FOLDS):
        seen = logged.rows(earlier | ((fold >= 0) & (fold != number)))
        found = _fitted(seen, sides, logged.rows(fold == number))
        if found is None:
            return None
        by_side[fold == number], by_model[fold == number] = found
    return Predicted(by_side[judged], by_model[judged])


def _fitted(seen: Logged, sides: Sides, judged: Logged) -> tuple[Floats, Floats] | None:
    """Predictions for `judged` (n, 2) and (n, models) from the rows `seen`."""
    seen = with_shadows(seen)
    seen = seen.rows(usable(seen, sides))
    side = sides.of(seen.served)
    if min((side == number).sum() for number in (CHEAP, STRONG)) < FEWEST_OF_A_SIDE:
        return None
    outcomes = fit_outcomes(seen, sides)
    own = outcomes.predict(seen.features)[np.arange(len(seen)), side]
    by_side = outcomes.predict(judged.features)
    of_model = np.where((sides.of_model == NOBODY)[None, :], by_side.mean(axis=1)[:, None], by_side[:, sides.of_model])
    return by_side, of_model + _model_leads(seen, seen.reward - own)


def _model_leads(seen: Logged, left: Floats) -> Floats:
    """(models,) how much better each model is than its side, shrunk towards nothing."""
    width = len(seen.models)
    return np.asarray(np.bincount(seen.served, left, width) / (np.bincount(seen.served, minlength=width) + _PRIOR_ROWS))


def judged_rows(logged: Logged, late: Flags) -> Indices:
    """Rows that can be weighted: late enough, with a reward and a probability of who answered."""
    weighted = np.isfinite(logged.p_served) & (logged.p_served > 0) & (logged.served != NOBODY)
    return np.flatnonzero(late & weighted & np.isfinite(logged.reward))
