import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from heimdall_models.bundle import load_bundle
from heimdall_models.training.card import number
from heimdall_models.training.evaluate import evaluate_bundle
from heimdall_models.training.report import HEIGHT, WIDTH, report_html
from heimdall_models.training.tables import read_table

Built = tuple[Path, Mapping[str, Any]]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def found(bundle: Built, fresh: Path) -> dict[str, Any]:
    return evaluate_bundle(load_bundle(bundle[0]), [read_table(fresh)])


@pytest.fixture(scope="module")
def page(found: dict[str, Any]) -> ElementTree.Element:
    return ElementTree.fromstring(report_html(found).removeprefix("<!DOCTYPE html>\n"))


def test_the_page_is_well_formed_and_needs_no_network(found: dict[str, Any], page: ElementTree.Element) -> None:
    text = report_html(found).replace("http://www.w3.org/2000/svg", "")
    assert page.tag == "html"
    assert not re.search(r"https?:|<script|src=|@import|url\(", text)


def test_every_plot_has_a_title_and_all_points_inside_its_frame(page: ElementTree.Element) -> None:
    plots = list(page.iter(f"{SVG}svg"))
    assert len(plots) == 2
    for plot in plots:
        title = plot.find(f"{SVG}title")
        assert title is not None
        assert plot.get("aria-labelledby") == title.get("id")
        places = [place.split(",") for line in plot.iter(f"{SVG}polyline") for place in str(line.get("points")).split()]
        places += [[str(dot.get("cx")), str(dot.get("cy"))] for dot in plot.iter(f"{SVG}circle")]
        assert all(0 <= float(x) <= WIDTH and 0 <= float(y) <= HEIGHT for x, y in places)


def test_the_frontier_runs_from_the_cheap_to_the_strong_models_mean(
    found: dict[str, Any], page: ElementTree.Element
) -> None:
    assert found["frontier"][0] == pytest.approx((0.0, found["cheap_mean"]))
    assert found["frontier"][-1] == pytest.approx((1.0, found["strong_mean"]))
    own = next(line for line in page.iter(f"{SVG}polyline") if line.get("class") == "own")
    assert len(str(own.get("points")).split()) == len(found["frontier"])


def test_the_headline_figures_are_those_of_the_evaluation(found: dict[str, Any], page: ElementTree.Element) -> None:
    shown = ["".join(item.itertext()) for item in page.iter("li")]
    assert f"APGR{number(found['apgr'])}" in shown
    assert f"ECE, 15 bins{number(found['ece'])}" in shown


def test_names_from_a_table_cannot_bring_markup_into_the_page(bundle: Built, fresh: Path) -> None:
    rows = read_table(fresh)
    hostile = replace(rows, name="<script>", domains=("<b onclick='x'>",) * len(rows))
    text = report_html(evaluate_bundle(load_bundle(bundle[0]), [hostile]))
    assert "<script" not in text
    assert "<b onclick" not in text


def test_a_pair_without_a_gap_is_still_a_page(bundle: Built, fresh: Path) -> None:
    rows = read_table(fresh)
    same = replace(rows, scores=np.repeat(rows.scores[:, :1], rows.scores.shape[1], axis=1))
    text = report_html(evaluate_bundle(load_bundle(bundle[0]), [same], "small", "large"))
    assert "APGR<b>–</b>" in text
