"""What the way of fitting is worth on prompts that the fitted model never saw: the numbers of a model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall_models.training.evaluate import Outcomes, measured
from heimdall_models.training.fit import (
    Examples,
    Settings,
    calibrated_by_fold,
    calibration,
    fit,
    fit_platt,
    out_of_fold,
    own_settings,
    scored,
)
from heimdall_models.training.labels import Labelled, label_of, training_rows
from heimdall_models.training.metrics import apgr, calibration_error
from heimdall_models.training.questions import fold_of
from heimdall_models.training.train import FEWEST_ROWS

FOLDS = 5
FEW_LABELS = (100, 500, 2000)
"""Sizes of the samples of own labels that are compared with the shipped bundle."""


def left_out(rows: Labelled, settings: Settings) -> dict[str, Any]:
    """Each benchmark left out of training in turn, with every prompt elsewhere that asks one of its questions.

    Measured for each table of the benchmark by itself; tables whose two pools are equally good are skipped, and so are
    benchmarks beside which too little is left to fit to. `apgr_known`: the same for the order by what the cheap pool really
    scored, which no prediction of that score can be expected to beat.
    """
    found: dict[str, Any] = {}
    for bench in sorted(set(rows.benches.tolist())):
        held = rows.benches == bench
        inside = np.flatnonzero(~held & ~np.isin(rows.examples.question, rows.examples.question[held]))
        if len(inside) < FEWEST_ROWS:
            continue
        kept = rows.rows(inside)
        examples = training_rows(kept, settings.transfer)
        fitted = fit(examples, settings)
        bend, platt = calibration(scored(fitted, kept.examples), kept.examples.label, settings)
        fitted = replace(fitted, bend=bend)
        for source in np.unique(rows.source[held]):
            table = np.flatnonzero(held & (rows.source == source))
            if rows.strong[table].mean() > rows.cheap[table].mean():
                difficulty = 1.0 - platt(fitted.log_odds(rows.examples.rows(table)))
                known = apgr(-rows.cheap[table], rows.cheap[table], rows.strong[table])
                found[rows.tables[source]] = measured(_outcomes(rows, table), difficulty) | {
                    "bench": bench,
                    "apgr_known": known,
                }
    return found


def in_domain(rows: Labelled, table: str, seed: int = 0) -> dict[str, Any]:
    """Five folds by question within one table, fitted to its own labels (the chance that the cheap side is preferred).

    The calibration of a fold is fitted to the other folds, so that the calibration error is judged on rows it never saw.
    """
    place = np.flatnonzero(rows.source == rows.tables.index(table))
    examples = _own_examples(rows, place)
    settings = own_settings(len(place) * (FOLDS - 1) // FOLDS, seed)
    held_out = out_of_fold(examples, settings, FOLDS)
    # Lines that differ by fold would shuffle the order of prompts of different folds; one line for all moves nothing.
    difficulty = 1.0 - fit_platt(held_out.log_odds, examples.label)(held_out.log_odds)
    preferred = calibrated_by_fold(held_out, examples, settings)
    return measured(_outcomes(rows, place), difficulty) | {"ece": calibration_error(preferred, examples.label)}


def few_labels(rows: Labelled, table: str, sizes: Sequence[int] = FEW_LABELS) -> Mapping[str, float]:
    """APGR on one table after fitting to so many of its own labels; each fold draws its own sample."""
    place = np.flatnonzero(rows.source == rows.tables.index(table))
    examples = _own_examples(rows, place)
    found: dict[str, float] = {}
    for size in sizes:
        if size <= len(place) * (FOLDS - 1) // FOLDS:
            found[str(size)] = apgr(-_from_sample(examples, size), rows.cheap[place], rows.strong[place])
    return found


def _from_sample(examples: Examples, size: int) -> NDArray[np.float64]:
    """(n,) log-odds of every row, by a model fitted to `size` rows of the other folds."""
    fold = fold_of(examples.question, FOLDS, 0)
    result = np.zeros(len(examples))
    for number in range(FOLDS):
        outside = np.flatnonzero(fold == number)
        drawn = np.random.default_rng(number).permutation(np.flatnonzero(fold != number))[:size]
        log_odds = fit(examples.rows(drawn), own_settings(size)).log_odds(examples.rows(outside))
        # Each fold's model has its own scale; ranks within the fold are what can be compared.
        result[outside] = np.argsort(np.argsort(log_odds)) / len(outside)
    return result


def _own_examples(rows: Labelled, place: NDArray[np.int64]) -> Examples:
    examples = rows.examples.rows(place)
    label = label_of(rows.cheap[place], rows.strong[place], "gain")
    return replace(examples, label=label)


def _outcomes(rows: Labelled, place: NDArray[np.int64]) -> Outcomes:
    return Outcomes(
        tuple(rows.conversations[i] for i in place),
        tuple(rows.domains[place].tolist()),
        rows.cheap[place],
        rows.strong[place],
    )
