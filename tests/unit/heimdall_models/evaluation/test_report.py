import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heimdall_models.bundle import load_bundle
from heimdall_models.training.evaluate import evaluate_bundle
from heimdall_models.training.report import report_html
from heimdall_models.training.tables import read_table

pytestmark = pytest.mark.slow

Built = tuple[Path, Mapping[str, Any]]


@pytest.fixture(scope="module")
def found(bundle: Built, fresh: Path) -> dict[str, Any]:
    return evaluate_bundle(load_bundle(bundle[0]), [read_table(fresh)])


def test_the_page_needs_no_network(found: dict[str, Any]) -> None:
    text = report_html(found).replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|<script|src=|@import|url\(", text)


def test_the_frontier_runs_from_the_cheap_to_the_strong_models_mean(found: dict[str, Any]) -> None:
    assert found["frontier"][0] == pytest.approx((0.0, found["cheap_mean"]))
    assert found["frontier"][-1] == pytest.approx((1.0, found["strong_mean"]))


def test_both_plots_say_in_words_what_they_show(found: dict[str, Any]) -> None:
    text = report_html(found)
    assert re.findall(r'role="img" aria-label="(\w+)', text) == ["Cost", "Calibration", "Bucket"]
    assert f"the bundle's area is {found['apgr']:.3f}".replace("'", "&#x27;") in text


def test_what_the_cheap_side_really_scored_stands_under_the_baselines(found: dict[str, Any]) -> None:
    assert f"what the cheap side really scored</th><td>{found['apgr_known']:.3f}</td>" in report_html(found)


def test_the_page_follows_the_reader_s_colour_scheme(found: dict[str, Any]) -> None:
    assert "prefers-color-scheme:dark" in report_html(found)


def test_where_costs_are_known_the_frontier_is_drawn_over_them(found: dict[str, Any]) -> None:
    text = report_html(found)
    assert "mean cost of a prompt (USD)" in text
    assert found["frontier_usd"][0] == pytest.approx((0.001, found["cheap_mean"]))
    assert found["frontier_usd"][-1] == pytest.approx((0.03, found["strong_mean"]))
    assert "share of calls to the strong side" in report_html(found | {"frontier_usd": []})


def test_figures_on_training_data_are_called_flattering(found: dict[str, Any]) -> None:
    assert "flatter the bundle" not in report_html(found)
    assert "it was trained on one, two" in report_html(found | {"seen_in_training": ["one", "two"]})


def test_prompts_that_the_classifier_failed_on_are_told(found: dict[str, Any]) -> None:
    assert "gave no number" not in report_html(found)
    assert "gave no number for 1,200 prompts" in report_html(found | {"classifier_failed": 1200})


def test_a_part_without_data_is_left_out(found: dict[str, Any]) -> None:
    optional = ("buckets", "win_rates", "recorded", "tables", "pairs", "bundle", "baseline_frontiers")
    text = report_html({key: value for key, value in found.items() if key not in optional})
    assert "Win rates" not in text
    assert "Recorded" not in text
    assert "Calibration" in text


def test_the_headline_figures_are_those_of_the_evaluation(found: dict[str, Any]) -> None:
    text = report_html(found)
    assert f"{found['apgr']:.3f}" in text
    assert f"{found['ece']:.3f}" in text


def test_names_from_a_table_cannot_bring_markup_into_the_page(bundle: Built, fresh: Path) -> None:
    rows = read_table(fresh)
    hostile = replace(rows, name="<script>", domains=("<b onclick='x'>",) * len(rows))
    text = report_html(evaluate_bundle(load_bundle(bundle[0]), [hostile]))
    assert "<script" not in text
    assert "<b onclick" not in text


def test_a_pair_without_a_gap_is_still_a_page(bundle: Built, fresh: Path) -> None:
    rows = read_table(fresh)
    same = replace(rows, scores=np.repeat(rows.scores[:, :1], rows.scores.shape[1], axis=1))
    assert "<dt>APGR</dt><dd><b>–</b>" in report_html(
        evaluate_bundle(load_bundle(bundle[0]), [same], ["small"], ["large"])
    )
