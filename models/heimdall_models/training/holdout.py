"""How good the *recipe* is on rows it was not fitted on: the figures of the model card.

Every split is by question (`training.questions`): no wrapping of a question is on both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from heimdall_models.training.figures import Floats, Judged, calibration, figures, plain, rivals_of
from heimdall_models.training.fit import Fitted, Settings, fit, fit_platt, own_settings
from heimdall_models.training.labels import Labelled, labelled, training_rows
from heimdall_models.training.metrics import BOOTSTRAP_ROUNDS, apgr
from heimdall_models.training.questions import fold_of
from heimdall_models.training.tables import OutcomeTable

FOLDS = 5
DRAWS = 5
LABEL_COUNTS = (100, 200, 500, 1000, 2000, 5000)
_CALIBRATION_FOLDS = 2
_FEWEST_TRAINING_ROWS = 50
_CURVE_DRAWS = 3

Say = Callable[[str], None]


def in_domain(rows: Labelled, settings: Settings, folds: int = FOLDS, rounds: int = BOOTSTRAP_ROUNDS) -> dict[str, Any]:
    """Figures over all rows and by table, each row judged by a fit on the folds that do not hold its question.

    Calibration and percentiles of a fold are those of the other folds' rows.
    """
    log_odds = _held_out(rows, settings, folds)
    fold = fold_of(rows.examples.question, folds, settings.seed)
    p_cheap_ok, percentile = np.zeros(len(rows)), np.zeros(len(rows))
    for number in range(folds):
        inside, outside = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        if len(outside):
            placed = _placed(log_odds[inside], rows.examples.label[inside], log_odds[outside])
            p_cheap_ok[outside], percentile[outside] = placed
    judged = _judged(rows, p_cheap_ok, percentile)
    return plain(
        {
            "folds": folds,
            **figures(judged, rounds),
            "calibration": calibration(judged),
            "tables": _by_table(judged, rounds),
        }
    )


def leave_one_bench_out(
    rows: Labelled, settings: Settings, rounds: int = BOOTSTRAP_ROUNDS, say: Say = lambda _: None
) -> dict[str, Any]:
    """For each bench the figures by table of a fit that saw neither the bench nor any of its questions elsewhere."""
    found: dict[str, Any] = {}
    for bench in sorted(set(rows.benches.tolist())):
        held = np.flatnonzero(rows.benches == bench)
        asked = np.isin(rows.examples.question, rows.examples.question[held])
        train = rows.rows(np.flatnonzero((rows.benches != bench) & ~asked))
        if len(train) < _FEWEST_TRAINING_ROWS:
            continue
        say(f"left out: {bench} ({len(held):,} rows; fitted on {len(train):,})")
        left = rows.rows(held)
        log_odds = _fitted(train, settings).log_odds(left.examples)
        reference = _held_out(train, settings, _CALIBRATION_FOLDS)
        judged = _judged(left, *_placed(reference, train.examples.label, log_odds))
        found[bench] = {"fitted_on": len(train), "tables": _by_table(judged, rounds)}
    return plain(found)


def with_few_labels(table: OutcomeTable, n: int = 500, seed: int = 0, draws: int = DRAWS) -> dict[str, Any]:
    """APGR on the rest of the table of fits on `n` of its rows and nothing else, for several draws of them."""
    return few_labels(labelled([table], {}, "cheap_ok"), n, seed, draws)


def few_labels(rows: Labelled, n: int, seed: int, draws: int = DRAWS) -> dict[str, Any]:
    """As `with_few_labels`, for rows already labelled: `apgr` is the mean over draws, `apgr_range` their range."""
    areas = []
    for draw in range(draws):
        drawn = np.random.default_rng(seed + draw).permutation(len(rows))[:n]
        asked = np.isin(rows.examples.question, rows.examples.question[drawn])
        rest = rows.rows(np.flatnonzero(~asked))
        if len(rest) and len(drawn):
            fitted = _fitted(rows.rows(drawn), own_settings(len(drawn), seed))
            areas.append(apgr(-fitted.log_odds(rest.examples), rest.cheap, rest.strong))
    mean, low, high = (float(np.mean(areas)), min(areas), max(areas)) if areas else (None, None, None)
    return plain({"labels": n, "draws": len(areas), "apgr": mean, "apgr_range": [low, high]})


def labels_to_beat(rows: Labelled, reference: float, seed: int) -> dict[str, Any]:
    """The fewest labels of `LABEL_COUNTS` whose mean APGR passes `reference`: when own labels beat a foreign bundle."""
    steps: list[dict[str, Any]] = []
    for count in LABEL_COUNTS:
        if count > len(rows) // 2:
            break
        steps.append(few_labels(rows, count, seed, _CURVE_DRAWS))
        if (steps[-1]["apgr"] or 0.0) > reference:
            return {"reference": reference, "labels": count, "steps": steps}
    return {"reference": reference, "labels": None, "steps": steps}


def _fitted(rows: Labelled, settings: Settings) -> Fitted:
    return fit(training_rows(rows, settings.transfer), settings)


def _held_out(rows: Labelled, settings: Settings, folds: int) -> Floats:
    """(n,) log-odds of each row by a fit on the other folds alone, the means of their domains included."""
    fold = fold_of(rows.examples.question, folds, settings.seed)
    log_odds = np.zeros(len(rows))
    for number in range(folds):
        inside, outside = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        if len(outside):
            log_odds[outside] = _fitted(rows.rows(inside), settings).log_odds(rows.examples.rows(outside))
    return log_odds


def _placed(reference: Floats, label: Floats, log_odds: Floats) -> tuple[Floats, Floats]:
    """p_cheap_ok and percentile of `log_odds`, calibrated and ranked by the held-out `reference` of other rows."""
    platt = fit_platt(reference, label)
    p_cheap_ok = platt(log_odds)
    known = np.sort(1.0 - platt(reference))
    return p_cheap_ok, np.searchsorted(known, 1.0 - p_cheap_ok) / len(known)


def _judged(rows: Labelled, p_cheap_ok: Floats, percentile: Floats) -> Judged:
    return Judged(
        difficulty=1.0 - p_cheap_ok,
        p_cheap_ok=p_cheap_ok,
        percentile=percentile,
        cheap=rows.cheap,
        strong=rows.strong,
        question=rows.examples.question,
        groups={"table": np.array(rows.tables, np.str_)[rows.source]},
        rivals=rivals_of(rows.conversations),
    )


def _by_table(judged: Judged, rounds: int) -> dict[str, Any]:
    names = judged.groups["table"]
    return {name: figures(judged.rows(np.flatnonzero(names == name)), rounds) for name in sorted(set(names.tolist()))}
