"""The classifier itself: two outcome models joined to the prior's trees, exported, calibrated on later rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heimdall_models.classify import Classifier, Platt
from heimdall_models.learning.logged import Floats, Logged
from heimdall_models.learning.outcome import Outcomes, corrected, effective_rows, fit_outcomes, own_weight
from heimdall_models.learning.prior import Prior, add_trees
from heimdall_models.learning.sides import CHEAP, STRONG, Sides
from heimdall_models.learning.split import Split
from heimdall_models.training.export import largest_difference, to_onnx
from heimdall_models.training.fit import dumped_trees, fit_platt
from heimdall_models.training.train import LARGEST_EXPORT_DIFFERENCE, TrainingError, percentile_table

FEWEST_OF_A_SIDE = 20

_CALIBRATION_ROWS = 200.0


class TooLittle(ValueError):
    """The rows cannot teach anything: says what is missing, what that means and where it would come from."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The parts of the new classifier, and what they were made of. `model`: ONNX."""

    logged: Logged
    sides: Sides
    split: Split
    outcomes: Outcomes
    effective_rows: float
    model: bytes
    export_difference: float
    platt: Platt
    percentiles: Floats
    prior: Prior
    trees: int


def fitted(logged: Logged, sides: Sides, split: Split, prior: Prior, seed: int) -> Fit:
    """Fit to the earlier rows, calibrate on the later ones. Raises TooLittle or TrainingError."""
    fit, later = logged.rows(split.fit), logged.rows(split.calibrate)
    _both_sides(fit, sides)
    outcomes = fit_outcomes(fit, sides, seed)
    effective = effective_rows(fit)
    factor = own_weight(effective)
    model, trees = _joined(prior, outcomes, factor)
    difference = export_difference(model, prior.model, outcomes, factor, fit)
    if difference > LARGEST_EXPORT_DIFFERENCE:
        raise TrainingError(
            f"the exported model differs from the fitted one by {difference:.2g} in probability; "
            "the bundle was not written: report it with the versions of lightgbm, onnx and onnxruntime"
        )
    log_odds = raw(model).log_odds
    platt = fit_platt(log_odds(later.features), _soft_labels(outcomes, later, sides))
    reference = 1.0 - platt(log_odds(np.concatenate((fit.features, later.features))))
    return Fit(
        logged, sides, split, outcomes, effective, model, difference, platt, percentile_table(reference), prior, trees
    )


def raw(model: bytes) -> Classifier:
    """The classifier without calibration and percentiles."""
    return Classifier(model, Platt(1.0, 0.0), np.zeros(2))


def _joined(prior: Prior, outcomes: Outcomes, factor: float) -> tuple[bytes, int]:
    """The ONNX model of all trees, and how many they are."""
    cheap, strong = dumped_trees(outcomes.cheap), dumped_trees(outcomes.strong)
    with_cheap = add_trees(prior.model, to_onnx(cheap), factor, first=prior.trees)
    first = prior.trees + len(cheap)
    return add_trees(with_cheap, to_onnx(strong), -factor, first=first), first + len(strong)


def _soft_labels(outcomes: Outcomes, later: Logged, sides: Sides) -> Floats:
    """What later rows say of the preference; while they are few, mostly what was predicted of them."""
    predicted = outcomes.predict(later.features)
    trust = len(later) / (len(later) + _CALIBRATION_ROWS)
    return preference(predicted + trust * (corrected(predicted, later, sides) - predicted))


def preference(scores: Floats) -> Floats:
    """(n,) chance that the cheap side is preferred, from (n, 2) scores: (1 + cheap − strong) / 2."""
    return np.asarray((1.0 + scores[:, 0] - scores[:, 1]) / 2.0)


def _both_sides(fit: Logged, sides: Sides) -> None:
    """Raises TooLittle when one side answered (nearly) nothing, or neither side's rewards differ."""
    side = sides.of(fit.served)
    counts = [int((side == number).sum()) for number in (CHEAP, STRONG)]
    if min(counts) < FEWEST_OF_A_SIDE:
        few, names = ("cheap", sides.cheap) if counts[0] < counts[1] else ("strong", sides.strong)
        raise TooLittle(
            f"only {min(counts)} answers by the {few} side ({', '.join(names) or 'no model'}) in the first "
            f"{len(fit)} rows: with one side only nobody knows what the other would have been worth. "
            "Set router.exploration.share and let the buckets' candidates overlap, or record shadow pairs"
        )


def export_difference(joined: bytes, prior: bytes, outcomes: Outcomes, factor: float, rows: Logged) -> float:
    """Largest difference in probability between LightGBM's own prediction over the prior and the one ONNX file."""
    predicted = outcomes.predict(rows.features)
    native = raw(prior).log_odds(rows.features) + factor * (predicted[:, 0] - predicted[:, 1])
    return largest_difference(native, raw(joined).log_odds(rows.features))
