import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_models.bundle import load_bundle
from heimdall_models.classify import BUCKETS, Platt, Thresholds, bucket_of, bucket_probabilities
from heimdall_models.features import FEATURE_NAMES

SHARE = st.floats(0, 1)


@given(SHARE, SHARE, SHARE)
def test_the_likeliest_bucket_is_the_one_the_thresholds_cut(percentile: float, one: float, other: float) -> None:
    thresholds = Thresholds(min(one, other), max(one, other))
    found = bucket_probabilities(percentile, thresholds)
    assert sum(found.values()) == pytest.approx(1.0, abs=1e-9)
    chosen = found[bucket_of(percentile, thresholds)]
    assert all(chosen >= share or math.isclose(chosen, share) for share in found.values())


def test_a_percentile_that_is_not_a_number_is_mid_with_equal_shares() -> None:
    assert bucket_of(math.nan, Thresholds()) == "mid"
    assert bucket_probabilities(math.nan, Thresholds()) == dict.fromkeys(BUCKETS, 1 / 3)


def test_platt_keeps_the_order_and_stays_between_zero_and_one() -> None:
    found = Platt(1.5, -0.2)(np.array([-1e9, -1.0, 0.0, 1.0, 1e9]))
    assert (np.diff(found) > 0).all()
    assert 0 <= found[0] <= found[-1] <= 1


def test_a_row_with_nan_or_infinity_is_marked_and_the_others_are_not(trained: Path) -> None:
    classifier = load_bundle(trained).classifier
    numeric = np.zeros((3, len(FEATURE_NAMES)), np.float32)
    numeric[0, -1], numeric[2, -1] = np.nan, np.inf
    found = classifier.predict(numeric)
    assert found.ok.tolist() == [False, True, False]
    assert np.isnan(found.percentile).tolist() == [True, False, True]
    assert found.difficulty[1] == pytest.approx(1 - found.p_cheap_ok[1])


def test_rows_on_which_the_model_fails_to_run_are_marked_too(trained: Path) -> None:
    found = load_bundle(trained).classifier.predict(np.zeros((2, len(FEATURE_NAMES) + 1), np.float32))
    assert found.ok.tolist() == [False, False]
    assert np.isnan(found.percentile).all()


def test_a_rows_verdict_does_not_depend_on_the_batch(trained: Path) -> None:
    classifier = load_bundle(trained).classifier
    numeric = np.random.default_rng(0).normal(size=(64, len(FEATURE_NAMES))).astype(np.float32)
    together = classifier.predict(numeric).p_cheap_ok
    alone = [classifier.predict(numeric[i : i + 1]).p_cheap_ok[0] for i in range(64)]
    np.testing.assert_array_equal(together, alone)
