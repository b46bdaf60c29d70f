from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heimdall_models.bundle import load_bundle
from heimdall_models.training.baselines import BASELINES
from heimdall_models.training.evaluate import Outcomes, evaluate_bundle, outcomes_of, pair_of, resampled, win_rates
from heimdall_models.training.metrics import apgr
from heimdall_models.training.tables import OutcomeTable, Pools, TableError, read_table, table_of

pytestmark = pytest.mark.slow

Built = tuple[Path, Mapping[str, Any]]


@pytest.fixture(scope="module")
def found(bundle: Built, fresh: Path) -> dict[str, Any]:
    return evaluate_bundle(load_bundle(bundle[0]), [read_table(fresh)])


def table(scores: dict[str, list[float | None]], costs: dict[str, list[float]] | None = None) -> OutcomeTable:
    rows = len(next(iter(scores.values())))
    columns: dict[str, list[Any]] = {"prompt": [f"question number {word}" for word in "abcdefgh"[:rows]]}
    columns |= {f"s::{name}": list(values) for name, values in scores.items()}
    columns |= {f"c::{name}": list(values) for name, values in (costs or {}).items()}
    return table_of("made", columns)


def outcomes(prompts: list[str], cheap: list[float], strong: list[float]) -> Outcomes:
    rows = table_of("made", {"prompt": prompts, "s::a": cheap, "s::b": strong})
    return outcomes_of([rows], ["a"], ["b"])


def test_the_documented_keys_are_there(found: dict[str, Any]) -> None:
    assert {"n", "apgr", "apgr_ci95", "cpt50", "cpt80", "auc", "baselines"} <= set(found)
    assert set(found["baselines"]) == set(BASELINES)
    assert found["n"] == 150
    low, high = found["apgr_ci95"]
    assert low < found["apgr"] < high


def test_a_bundle_beats_chance_on_prompts_like_those_it_learned(found: dict[str, Any]) -> None:
    assert found["apgr"] > 0.6
    assert found["baselines"]["always_cheap"]["apgr"] == pytest.approx(0.5)
    assert found["baselines"]["random"]["behind_ci95"][0] > 0


def test_the_order_by_what_the_cheap_side_really_scored_is_shown_beside(found: dict[str, Any]) -> None:
    assert found["apgr"] < found["apgr_known"] <= 1.5


def test_shares_of_the_buckets_and_win_rates_are_shares(found: dict[str, Any]) -> None:
    assert sum(found["buckets"].values()) == pytest.approx(1.0)
    assert set(found["win_rates"]["against"]) == {"always_cheap", "always_strong"}
    assert all(0 <= row["win_rate"] <= 1 for row in found["win_rates"]["against"].values())


def test_tables_of_the_training_data_are_named(bundle: Built, tables: list[Path], found: dict[str, Any]) -> None:
    assert found["seen_in_training"] == []
    again = evaluate_bundle(load_bundle(bundle[0]), [read_table(tables[0])])
    assert again["seen_in_training"] == ["one"]


def test_without_a_pair_the_cheapest_meets_the_best() -> None:
    costs = {"a": [1.0, 1.0], "b": [0.1, 0.1], "c": [2.0, 2.0]}
    assert pair_of(table({"a": [0, 1], "b": [0, 0], "c": [1, 1]}, costs)) == Pools(("b",), ("c",))


def test_without_costs_the_weaker_half_meets_the_better_half() -> None:
    rows = table({"a": [1, 1], "b": [0, 0], "c": [0, 1], "d": [1, 1]})
    assert pair_of(rows) == Pools(("b", "c"), ("a", "d"))


def test_one_name_is_set_against_the_best_or_the_weakest_of_the_others() -> None:
    rows = table({"a": [0, 1], "b": [0, 0], "c": [1, 1]})
    assert pair_of(rows, ["a"]) == Pools(("a",), ("c",))
    assert pair_of(rows, strong=["a"]) == Pools(("b",), ("a",))
    assert pair_of(rows, strong=["b"]) == Pools(("a",), ("b",))


def test_a_side_of_several_models_scores_their_mean() -> None:
    rows = table({"a": [0, 1], "b": [1, 1], "c": [1, 1]})
    assert pair_of(rows, ["a", "b"]) == Pools(("a", "b"), ("c",))
    assert outcomes_of([rows], ["a", "b"], ["c"]).cheap.tolist() == [0.5, 1.0]


def test_no_model_stands_on_both_sides() -> None:
    rows = table({"a": [0, 1], "b": [1, 1]})
    assert pair_of(rows, ["a"], ["a"]) is None
    assert pair_of(rows, ["a", "b"]) is None


def test_a_model_alone_is_compared_with_nobody_not_with_itself() -> None:
    with pytest.raises(TableError, match="two models"):
        outcomes_of([table({"a": [0, 1]})])


def test_a_table_without_the_pair_is_left_out_and_no_table_at_all_is_an_error() -> None:
    with_pair, without = table({"a": [0, 1], "b": [1, 1]}), table({"x": [0, 1], "y": [1, 1]})
    assert len(outcomes_of([with_pair, without], ["a"], ["b"]).cheap) == 2
    with pytest.raises(TableError, match="no table has scores of two models, a and b"):
        outcomes_of([without], ["a"], ["b"])


def test_prompts_that_one_side_did_not_answer_do_not_count() -> None:
    rows = table({"a": [0, 1, None], "b": [1, None, 1]})
    assert len(outcomes_of([rows], ["a"], ["b"]).cheap) == 1
    with pytest.raises(TableError, match="no prompt has scores of both sides"):
        outcomes_of([table({"a": [0, None], "b": [None, 1]})], ["a"], ["b"])


def test_intervals_are_wider_when_prompts_repeat_a_question() -> None:
    rng = np.random.default_rng(5)
    words = ["".join(rng.choice(list("abcdefghijklmnop"), size=60)) for _ in range(60)]
    cheap = rng.integers(2, size=60).astype(float).tolist()
    difficulty = rng.random(60)
    once = outcomes(words, cheap, [1.0] * 60)
    fourfold = outcomes(words * 4, cheap * 4, [1.0] * 240)
    single = resampled([difficulty], once)[:, 0]
    repeated = resampled([np.tile(difficulty, 4)], fourfold)[:, 0]
    assert np.std(repeated) == pytest.approx(np.std(single), rel=0.2)


def test_resampled_areas_lie_around_the_area_of_all_prompts() -> None:
    rng = np.random.default_rng(6)
    words = ["".join(rng.choice(list("abcdefghijklmnop"), size=60)) for _ in range(80)]
    rows = outcomes(words, rng.integers(2, size=80).astype(float).tolist(), [1.0] * 80)
    difficulty = np.round(rng.random(80) + 0.5 * (1 - rows.cheap), 1)
    areas = resampled([difficulty, np.zeros(80)], rows)
    assert np.mean(areas[:, 0]) == pytest.approx(apgr(difficulty, rows.cheap, rows.strong), abs=0.01)
    assert areas[:, 1] == pytest.approx(0.5)


def test_a_tie_is_half_a_win() -> None:
    rows = outcomes(["one thing", "two things", "three things", "four things"], [0, 1, 0, 1], [1, 1, 0, 0])
    rates = win_rates(rows, np.array([0.9, 0.1, 0.2, 0.3]))
    assert rates["strong_share"] == 0.25
    assert rates["against"]["always_cheap"] == {"win_rate": 0.625, "wins": 0.25, "losses": 0.0}
    assert rates["against"]["always_strong"] == {"win_rate": 0.625, "wins": 0.25, "losses": 0.0}


def test_two_equally_good_models_have_no_area_and_no_crash(bundle: Built, fresh: Path) -> None:
    rows = read_table(fresh)
    same = replace(rows, scores=np.repeat(rows.scores[:, :1], rows.scores.shape[1], axis=1))
    found = evaluate_bundle(load_bundle(bundle[0]), [same], ["small"], ["large"])
    assert found["apgr"] is None
    assert np.isnan(found["apgr_ci95"]).all()
