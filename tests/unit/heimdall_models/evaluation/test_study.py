from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from heimdall_models.features import FEATURE_NAMES
from heimdall_models.training.fit import CALIBRATION_FOLDS, Examples, Scored, Settings, calibrated_by_fold
from heimdall_models.training.questions import fold_of

ROWS = 200


def examples() -> Examples:
    label = np.asarray(np.random.default_rng(1).random(ROWS) < 0.5, np.float64)
    numeric = np.zeros((ROWS, len(FEATURE_NAMES)), np.float32)
    zero = np.zeros(ROWS)
    return Examples(numeric, csr_matrix((ROWS, 1)), label, zero, np.arange(ROWS), zero.astype(np.int64), zero)


@pytest.mark.parametrize("transfer", [False, True])
def test_the_calibration_of_a_fold_does_not_see_its_labels(transfer: bool) -> None:
    known = examples()
    settings = Settings(transfer=transfer)
    log_odds = np.random.default_rng(2).normal(size=ROWS)
    held_out = Scored(log_odds.astype(np.float32), log_odds)
    judged = fold_of(known.question, CALIBRATION_FOLDS, 0) == 3
    turned = replace(known, label=np.where(judged, 1.0 - known.label, known.label))
    first, second = calibrated_by_fold(held_out, known, settings), calibrated_by_fold(held_out, turned, settings)
    assert (first[judged] == second[judged]).all()
    assert (first[~judged] != second[~judged]).any()
