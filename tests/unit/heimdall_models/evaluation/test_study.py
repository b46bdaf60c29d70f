from dataclasses import replace

import numpy as np
from scipy.sparse import csr_matrix

from heimdall_models.features import FEATURE_NAMES
from heimdall_models.training.fit import Examples
from heimdall_models.training.questions import fold_of
from heimdall_models.training.study import FOLDS, calibrated_by_fold

ROWS = 200


def examples() -> Examples:
    label = np.asarray(np.random.default_rng(1).random(ROWS) < 0.5, np.float64)
    numeric = np.zeros((ROWS, len(FEATURE_NAMES)), np.float32)
    zero = np.zeros(ROWS)
    return Examples(numeric, csr_matrix((ROWS, 1)), label, zero, np.arange(ROWS), zero.astype(np.int64), zero)


def test_the_calibration_of_a_fold_does_not_see_its_labels() -> None:
    known = examples()
    log_odds = np.random.default_rng(2).normal(size=ROWS)
    judged = fold_of(known.question, FOLDS, 0) == 3
    turned = replace(known, label=np.where(judged, 1.0 - known.label, known.label))
    first, second = calibrated_by_fold(log_odds, known, 0), calibrated_by_fold(log_odds, turned, 0)
    assert (first[judged] == second[judged]).all()
    assert (first[~judged] != second[~judged]).any()
