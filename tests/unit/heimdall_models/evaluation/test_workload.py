import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from heimdall_models.features import FEATURE_NAMES
from heimdall_models.training.workload import AMOUNTS, FEWEST_ROWS, fit_workload, slopes_of

STEM, CHARS, COMMAS = (FEATURE_NAMES.index(name) for name in ("stem_words_log", "ask_chars_log", "commas_log"))


def prompts(rows: int, seed: int) -> NDArray[np.float32]:
    """(rows, features): amounts of language that are independent of each other."""
    numeric = np.zeros((rows, len(FEATURE_NAMES)), np.float32)
    columns = [FEATURE_NAMES.index(name) for name in AMOUNTS]
    numeric[:, columns] = np.random.default_rng(seed).normal(4.0, 1.0, (rows, len(columns)))
    return numeric


def label_from(numeric: NDArray[np.float32], column: int, sign: float, seed: int) -> NDArray[np.float64]:
    chance = 1 / (1 + np.exp(sign * 2 * (numeric[:, column] - 4.0)))
    return np.asarray(np.random.default_rng(seed).random(len(numeric)) < chance, np.float64)


def domains(rows: int) -> NDArray[np.str_]:
    return np.array(["any"] * rows)


def test_an_amount_that_helps_in_every_benchmark_gets_a_share() -> None:
    numeric = prompts(3000, 1)
    label = label_from(numeric, COMMAS, 1.0, 2)
    shares = fit_workload(numeric, label, np.arange(3000) % 3, domains(3000))
    assert shares[COMMAS] > 0.2


def test_an_amount_that_helps_in_one_benchmark_and_misleads_in_another_gets_none() -> None:
    numeric = prompts(2000, 3)
    table = np.arange(2000) % 2
    label = np.where(table == 0, label_from(numeric, COMMAS, 1.0, 4), label_from(numeric, COMMAS, -1.0, 5))
    shares = fit_workload(numeric, label, table, domains(2000))
    assert shares[COMMAS] < 0.02


def test_without_a_table_that_is_large_enough_work_is_plain_length() -> None:
    numeric = prompts(FEWEST_ROWS - 1, 6)
    shares = fit_workload(
        numeric, label_from(numeric, COMMAS, 1.0, 7), np.zeros(len(numeric), int), domains(len(numeric))
    )
    assert dict(slopes_of(shares, -1.0)) == pytest.approx({STEM: -0.5, CHARS: -0.5})


def test_what_only_tells_domains_apart_is_not_work() -> None:
    numeric = prompts(2000, 8)
    hard = np.arange(2000) % 2
    numeric[:, COMMAS] += 5.0 * hard
    label = np.asarray(np.random.default_rng(9).random(2000) < np.where(hard, 0.2, 0.8), np.float64)
    shares = fit_workload(numeric, label, np.zeros(2000, int), np.array(["easy", "hard"])[hard])
    assert shares[COMMAS] < 0.05


@given(st.integers(0, 1000))
def test_shares_are_shares_of_amounts_whatever_the_labels_say(seed: int) -> None:
    numeric = prompts(400, seed)
    label = np.asarray(np.random.default_rng(seed).random(400) < 0.5, np.float64)
    shares = fit_workload(numeric, label, np.arange(400) % 2, domains(400))
    assert shares.min() >= 0
    assert shares.sum() == pytest.approx(1.0)
    assert {FEATURE_NAMES[i] for i in np.flatnonzero(shares)} <= set(AMOUNTS)
