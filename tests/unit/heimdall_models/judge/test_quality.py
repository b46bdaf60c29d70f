"""The quality table: built, read, looked up by cluster, merged with outcomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_models.quality import (
    OUTCOME_PRIOR_WEIGHT,
    Outcomes,
    QualityError,
    QualityTable,
    build_quality,
    merge_outcomes,
    parse_quality,
    quality_document,
    read_quality,
)

DOMAINS = ["knowledge", "math"]


def _cell(quality: float, scores: int) -> dict[str, Any]:
    return {"quality": quality, "quality_sd": 0.1, "scores": scores}


def _source(overall_scores: int = 30) -> dict[str, Any]:
    estimate = {"overall": _cell(0.6, overall_scores), "knowledge": _cell(0.6, 0), "math": _cell(0.8, 2)}
    return {"date": "2026-11", "domains": DOMAINS, "models": {"a/one": {"estimate": estimate}}}


def _table(overall_scores: int = 30) -> QualityTable:
    return parse_quality(orjson.dumps(build_quality(_source(overall_scores))))


def test_thin_cells_are_shrunk_towards_the_models_mean() -> None:
    assert _table().quality.tolist() == [[0.6, 0.7]]


def test_a_model_with_few_scores_counts_lower_by_its_uncertainty() -> None:
    assert _table(5).quality.tolist() == [[0.5, pytest.approx(0.6)]]


def test_no_single_score_is_shipped() -> None:
    assert set(build_quality(_source())["models"]["a/one"]) == {"quality", "sd", "samples"}


def test_a_cluster_is_a_mixture_of_domains_and_the_last_row_is_their_mean() -> None:
    table = _table()
    by_cluster = table.by_cluster(np.array([[1.0, 0.0], [0.25, 0.75]]), ["a/one"])
    assert by_cluster[:, 0].tolist() == pytest.approx([0.6, 0.675, 0.65])
    assert table.output_by_cluster(np.array([[1.0, 0.0]])).tolist() == [120.0, 185.0]


def test_a_model_nobody_scored_is_never_preferred_for_its_quality() -> None:
    by_cluster = _table().by_cluster(np.array([[0.5, 0.5]]), ["a/one", "b/unknown"])
    assert (by_cluster[:, 1] <= by_cluster[:, 0]).all()


@given(count=st.floats(0, 1e6), mean=st.floats(0, 1))
def test_outcomes_pull_a_cell_towards_what_was_measured(count: float, mean: float) -> None:
    merged = merge_outcomes(_table(), [Outcomes("a/one", "math", count, mean)])
    expected = (count * mean + OUTCOME_PRIOR_WEIGHT * 0.7) / (count + OUTCOME_PRIOR_WEIGHT)
    assert merged.quality[0, 1] == pytest.approx(expected)
    assert merged.quality[0, 0] == 0.6
    assert merged.sd[0, 1] <= 0.1


def test_outcomes_of_a_new_model_begin_at_the_mean_and_survive_being_written() -> None:
    merged = merge_outcomes(_table(), [Outcomes("b/new", "math", 20.0, 0.9)])
    assert merged.models == ("a/one", "b/new")
    assert merged.quality[1].tolist() == pytest.approx([0.6, 0.8])
    again = parse_quality(orjson.dumps(quality_document(merged)))
    assert again.models == merged.models
    assert np.array_equal(again.quality, merged.quality)


def test_an_unknown_domain_is_refused_by_name() -> None:
    with pytest.raises(QualityError, match="no domain poetry"):
        merge_outcomes(_table(), [Outcomes("a/one", "poetry", 1.0, 1.0)])


@pytest.mark.parametrize(
    "damage",
    [
        {"format": 2},
        {"models": {"a/one": {"quality": [0.5], "sd": [0.1, 0.1], "samples": [1, 1]}}},
        {"models": {"a/one": {"quality": [0.5, 7.0], "sd": [0.1, 0.1], "samples": [1, 1]}}},
        {"models": {"a/one": {"quality": [0.5, 0.5], "sd": [0.1, 0.1], "samples": [1, None]}}},
        {"models": ["a/one"]},
        {"models": "a/one"},
        {"models": {}},
        {"output_tokens": "many"},
        {"output_tokens": [None, 100]},
        {"output_tokens": ["inf", 100]},
        {"output_tokens": [-1, 100]},
        {"output_tokens": [1e18, 100]},
        {"domains": None},
    ],
)
def test_a_damaged_table_is_refused(damage: dict[str, Any]) -> None:
    with pytest.raises(QualityError, match="quality table"):
        parse_quality(orjson.dumps({**build_quality(_source()), **damage}))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QualityError, match="needs its quality table"):
        read_quality(tmp_path / "quality.json")
