"""The shipped bundle's figures are the same wherever they stand."""

from pathlib import Path

import numpy as np
import orjson
import pytest

from heimdall_models.bundle import MANIFEST, load_bundle
from heimdall_models.training.build import CARD, card_text
from heimdall_models.training.card import short_table
from heimdall_models.training.evaluate import evaluate_bundle
from heimdall_models.training.tables import table_of

ROOT = Path(__file__).parents[4]
DEFAULT = ROOT / "models" / "bundles" / "default"
SHARES = {"cheap": 0.3, "mid": 0.4, "hard": 0.3}


def test_card_readme_and_evaluate_show_the_figures_of_the_manifest() -> None:
    manifest = orjson.loads((DEFAULT / MANIFEST).read_bytes())
    table = table_of("two", {"prompt": ["hi", "prove it"], "s::small": [1.0, 0.0], "s::large": [1.0, 1.0]})
    assert (DEFAULT / CARD).read_text("utf-8") == card_text(manifest)
    assert short_table(manifest["metrics"]) in (ROOT / "README.md").read_text("utf-8")
    assert evaluate_bundle(load_bundle(DEFAULT), [table])["recorded"] == manifest["metrics"]


def test_reference_traffic_falls_into_the_buckets_by_thirty_forty_thirty() -> None:
    shares = load_bundle(DEFAULT).manifest["reference_buckets"]
    assert shares == pytest.approx(SHARES, abs=0.03)


def test_left_out_benchmarks_that_difficulty_can_order_are_ordered_better_than_at_random() -> None:
    """Better than random beyond the interval wherever the order by the cheap pool's own score is."""
    for row in load_bundle(DEFAULT).manifest["metrics"]["left_out"].values():
        if row["apgr_known"] > 0.5:
            assert row["baselines"]["random"]["behind_ci95"][0] > 0


def test_calibration_on_own_labels_is_within_three_points() -> None:
    found = [row["ece"] for row in load_bundle(DEFAULT).manifest["metrics"]["in_domain"].values()]
    assert np.max(found) <= 0.03


def test_the_calibration_of_the_bundle_itself_is_within_three_points_on_questions_held_out() -> None:
    assert load_bundle(DEFAULT).manifest["calibration_error"] <= 0.03
