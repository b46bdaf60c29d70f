"""Weights, estimates and their intervals, by numbers that can be worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.heimdall_models.learning.made import features_of, rows_of

from heimdall_models.learning.logged import Logged
from heimdall_models.learning.offpolicy import doubly_robust, function_of, matches, mean_of, possible, snips
from heimdall_models.learning.outcome import effective_size, fit_weights


def four() -> Logged:
    served, reward = np.array([0, 1, 0, 1]), np.array([1.0, 0.0, 0.5, 1.0])
    made = rows_of(features_of(4, np.random.default_rng(0)), served, reward)
    return replace(made, p_served=np.array([0.5, 0.25, 1.0, 0.5]))


def test_a_row_weighs_one_over_its_probability_where_the_policy_agrees() -> None:
    assert matches(np.array([0, 0, 0, 1]), four()).tolist() == [2.0, 0.0, 1.0, 2.0]


def test_snips_is_the_weighted_mean() -> None:
    logged = four()

    found = snips(matches(np.array([0, 0, 0, 1]), logged), logged.reward, logged.question)

    assert found.value == pytest.approx((2.0 * 1.0 + 1.0 * 0.5 + 2.0 * 1.0) / 5.0)
    assert found.effective == pytest.approx(25.0 / 9.0)


def test_a_policy_that_the_log_never_shows_has_no_value() -> None:
    found = snips(np.zeros(4), np.ones(4), np.arange(4).astype(str))

    assert np.isnan(found.value)
    assert (found.low, found.high) == (float("-inf"), float("inf"))


def test_a_doubly_robust_score_is_the_prediction_corrected_where_it_was_shown() -> None:
    predicted = np.tile(np.array([0.6, 0.8]), (4, 1))
    logged = four()

    scores = doubly_robust(np.array([0, 0, 0, 1]), predicted, logged, logged.reward)

    assert scores == pytest.approx([0.6 + 2 * 0.4, 0.6, 0.6 - 0.1, 0.8 + 2 * 0.2])


def test_what_was_not_drawn_from_was_not_possible() -> None:
    logged = four()

    assert possible(np.array([1, 0, 1, 1]), logged).tolist() == [True, True, False, True]


def test_rows_of_one_question_are_one_draw() -> None:
    scores = np.array([0.0, 0.0, 1.0, 1.0] * 25)
    apart, together = np.arange(100).astype(str), np.repeat(np.arange(50), 2).astype(str)

    wide, narrow = mean_of(scores, together, 100.0), mean_of(scores, apart, 100.0)

    assert wide.high - wide.low == pytest.approx(2**0.5 * (narrow.high - narrow.low), rel=0.03)


def test_few_effective_rows_make_a_wide_interval() -> None:
    scores = np.linspace(0.0, 1.0, 100)
    question = np.arange(100).astype(str)

    few, many = mean_of(scores, question, 4.0), mean_of(scores, question, 100.0)

    assert few.high - few.low > 1.5 * (many.high - many.low)
    assert mean_of(scores, question, 1.0).interval == (float("-inf"), float("inf"))


def test_the_interval_of_a_ratio_is_that_of_its_slope() -> None:
    rng = np.random.default_rng(1)
    above, below = 2.0 + rng.normal(0, 0.1, 2000), np.full(2000, 4.0)
    question = np.arange(2000).astype(str)

    ratio = function_of(lambda m: float(m[0] / m[1]), (above, below), question, 2000.0)
    mean = mean_of(above, question, 2000.0)

    assert ratio.value == pytest.approx(mean.value / 4.0)
    assert ratio.high - ratio.low == pytest.approx((mean.high - mean.low) / 4.0, rel=1e-4)


def test_weights_in_fitting_are_capped_and_one_where_nothing_is_known() -> None:
    assert fit_weights(np.array([0.5, 0.01, np.nan, 0.0])).tolist() == [2.0, 5.0, 1.0, 1.0]


def test_equal_weights_are_worth_their_number() -> None:
    assert effective_size(np.full(7, 3.0)) == pytest.approx(7.0)
    assert effective_size(np.zeros(3)) == 0.0
