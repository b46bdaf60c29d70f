from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from heimdall_models.bundle import MANIFEST, load_bundle
from heimdall_models.training.build import CARD, Plan, build, card_text, read_plan
from heimdall_models.training.evaluate import evaluate_bundle
from heimdall_models.training.tables import TableError, read_table

pytestmark = pytest.mark.slow

Built = tuple[Path, Mapping[str, Any]]


def number(value: float) -> str:
    return f"{value:.3f}"


def test_the_same_tables_and_plan_give_the_same_bytes_measurements_included(
    bundle: Built, tables: list[Path], plan: Plan, tmp_path: Path
) -> None:
    build(tables, tmp_path, plan)
    first = {path.name: path.read_bytes() for path in bundle[0].iterdir()}
    second = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert first == second
    assert {CARD, MANIFEST} <= set(first)


def test_another_seed_gives_another_bundle_that_names_its_parent(
    quick: Built, tables: list[Path], plan: Plan, tmp_path: Path
) -> None:
    manifest = build(tables, tmp_path, replace(plan, quick=True, seed=1, parent=quick[0]))
    assert manifest["parent"] == load_bundle(quick[0]).hash
    assert manifest["files"] != quick[1]["files"]


def test_a_quick_build_says_in_its_card_that_nothing_was_measured(quick: Built) -> None:
    out, manifest = quick
    assert "metrics" not in manifest
    assert "Nothing was measured" in (out / CARD).read_text("utf-8")


def test_card_manifest_and_evaluate_show_the_same_numbers(bundle: Built, fresh: Path) -> None:
    out, manifest = bundle
    card = (out / CARD).read_text("utf-8")
    recorded = evaluate_bundle(load_bundle(out), [read_table(fresh)])["recorded"]
    assert recorded == manifest["metrics"]
    for section in ("in_domain", "left_out"):
        for row in recorded[section].values():
            assert f"| {number(row['apgr'])} | {' to '.join(map(number, row['apgr_ci95']))} |" in card
            assert all(number(found["apgr"]) in card for found in row["baselines"].values())


def test_the_manifest_measures_every_table_and_every_benchmark_left_out(bundle: Built) -> None:
    _, manifest = bundle
    assert set(manifest["metrics"]["in_domain"]) == {"one"}
    assert set(manifest["metrics"]["left_out"]) == {"one", "two"}
    assert manifest["accuracy"] == pytest.approx(manifest["metrics"]["in_domain"]["one"]["apgr"])
    assert manifest["accuracy"] > 0.6


def test_a_benchmark_beside_which_no_other_question_is_left_and_a_table_of_one_question_are_not_measured(
    tables: list[Path], plan: Plan, tmp_path: Path
) -> None:
    rows = [orjson.loads(line) for line in tables[0].read_bytes().splitlines()]
    for name, change in {"again": {}, "one question": {"prompt": "Is this one and the same question?"}}.items():
        lines = (orjson.dumps({**row, "bench": "other", **change}) + b"\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_bytes(b"".join(lines))
    manifest = build([tables[0], *sorted(tmp_path.iterdir())], tmp_path / "out", plan)
    assert set(manifest["metrics"]["in_domain"]) == {"one", "again"}
    assert set(manifest["metrics"]["left_out"]) == {"one"}


def test_the_card_is_made_of_the_manifest_alone(bundle: Built) -> None:
    out, _ = bundle
    assert card_text(orjson.loads((out / MANIFEST).read_bytes())) == (out / CARD).read_text("utf-8")


def test_the_card_names_source_and_licence_of_each_table_that_has_one(quick: Built) -> None:
    card = (quick[0] / CARD).read_text("utf-8")
    assert "| one | 240 |" in card
    assert "- someone/exam (MIT): exam questions" in card


RECIPE: Mapping[str, Any] = {"traffic": "own", "seed": 0, "pools": {}, "sources": []}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"traffic": "mine"}, "traffic: Input should be 'own' or 'unseen'"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0"),
        ({"pools": []}, "pools: must be an object"),
        (
            {"pools": {"one": {"cheap": [], "strong": ["large"]}}},
            r"pools\.one\.cheap: Tuple should have at least 1 item",
        ),
        ({"sources": [{"table": "one"}]}, r"sources\[0\]\.repository: is required"),
    ],
)
def test_a_recipe_that_says_something_else_is_refused_by_the_field(
    plan: Plan, tmp_path: Path, changes: Mapping[str, Any], says: str
) -> None:
    (tmp_path / "recipe.json").write_bytes(orjson.dumps({**RECIPE, **changes}))
    with pytest.raises(TableError, match=says):
        read_plan(tmp_path / "recipe.json", plan)


def test_the_shipped_recipe_is_for_unseen_traffic_and_names_every_licence(plan: Plan) -> None:
    recipe = read_plan(None, plan)
    assert recipe.traffic == "unseen"
    assert {source["table"] for source in recipe.sources} == set(recipe.pools)
    assert all(source["licence"] for source in recipe.sources)


def test_a_file_that_is_no_recipe_is_refused_by_name(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text('{"traffic": "own"}')
    with pytest.raises(TableError, match=r"recipe\.json: not a recipe"):
        read_plan(path, plan)
