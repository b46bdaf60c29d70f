import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from heimdall_models.classify import Classifier, Platt
from heimdall_models.features import FEATURE_NAMES
from heimdall_models.training.bend import KEPT_SLOPE, STEPS, STRAIGHT, fit_bend
from heimdall_models.training.export import to_onnx
from heimdall_models.training.fit import fit_platt
from heimdall_models.training.metrics import calibration_error

Floats = NDArray[np.float64]


def bent(rows: int = 4000, seed: int = 0) -> tuple[NDArray[np.float32], Floats, Floats]:
    """Scores below 0 say little, those above a lot: no line is a fair picture of that."""
    rng = np.random.default_rng(seed)
    score = rng.uniform(-2, 2, rows)
    label = 1 / (1 + np.exp(-np.where(score > 0, 3.0, 0.9) * score))
    return score.astype(np.float32), score, label


def test_a_bend_calibrates_where_a_line_cannot_on_rows_it_did_not_see() -> None:
    line = fit_platt(*bent()[1:])
    bend, platt = fit_bend(*bent(), line)
    score, log_odds, label = bent(seed=1)
    assert calibration_error(platt(log_odds + bend.of(score)), label) < calibration_error(line(log_odds), label) / 2


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_a_higher_score_is_always_a_higher_probability(seed: int) -> None:
    rng = np.random.default_rng(seed)
    score = np.unique(rng.normal(size=200).astype(np.float32))
    log_odds = score.astype(np.float64)
    label = rng.random(len(score))
    bend, platt = fit_bend(score, log_odds, label, Platt(0.5, 0.0))
    assert platt.slope == KEPT_SLOPE * 0.5
    assert (np.diff(platt(log_odds + bend.of(score))) > 0).all()


def test_the_exported_steps_are_the_fitted_ones_at_their_edges_too() -> None:
    bend, _ = fit_bend(*bent(), Platt(0.5, 0.0))
    edges = bend.edges
    score = np.concatenate((edges, np.nextafter(edges, np.float32(9)), np.nextafter(edges, np.float32(-9))))
    numeric = np.zeros((len(score), len(FEATURE_NAMES)), np.float32)
    numeric[:, -1] = score
    served = Classifier(to_onnx(bend.trees()), Platt(1.0, 0.0), np.zeros(2)).log_odds(numeric)
    assert len(edges) == STEPS - 1
    np.testing.assert_allclose(served, score + bend.of(score), atol=1e-6)


def test_a_line_that_does_not_rise_is_not_bent() -> None:
    assert fit_bend(*bent(), Platt(-0.1, 0.3)) == (STRAIGHT, Platt(-0.1, 0.3))
    assert STRAIGHT.trees() == []
