from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdall_models.bundle import load_bundle
from heimdall_models.features import extract
from heimdall_models.scan import scan
from heimdall_models.training.clusters_fit import domain_numbers, fit_clusters
from heimdall_models.training.export import to_onnx
from heimdall_models.training.fit import fit_platt
from heimdall_models.training.labels import domain_offset, label_of
from heimdall_models.training.metrics import apgr, auc, calibration_error, cpt, frontier
from heimdall_models.training.questions import fold_of, question_ids
from heimdall_models.training.tables import Pools, TableError, default_pools, read_table, table_of
from heimdall_models.training.text_fit import fit_text, gram_matrix, rarity, rounded
from heimdall_models.training.train import TrainingError, train_bundle

LONG = "The committee considered whether the proposed bridge would serve the villages on both sides of the river."


@pytest.mark.slow
def test_the_same_tables_and_recipe_give_the_same_bytes(
    trained: Path, tmp_path: Path, made_table: Any, made_recipe: Any
) -> None:
    train_bundle([made_table()], tmp_path, made_recipe())
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {p.name: p.read_bytes() for p in trained.iterdir()}


@pytest.mark.parametrize(
    ("rows", "scores", "says"),
    [
        (9, [0.0, 1.0], "9 prompts have scores of both sides"),
        (20, [1.0, 1.0], "the same of every prompt"),
        (20, [0.0, 1.0], "the 20 prompts ask 1 different questions"),
    ],
)
def test_what_teaches_nothing_is_said_before_anything_is_fitted(
    tmp_path: Path, made_recipe: Any, rows: int, scores: list[float], says: str
) -> None:
    small = [scores[row % 2] for row in range(rows)]
    table = table_of("t", {"prompt": ["why?"] * rows, "s::small": small, "s::large": [1.0] * rows})
    with pytest.raises(TrainingError, match=says):
        train_bundle([table], tmp_path, made_recipe())


def test_what_was_learned_shows_on_prompts_that_were_not_trained_on(trained: Path, made_table: Any) -> None:
    bundle = load_bundle(trained)
    fresh = made_table(60, seed=9)
    difficulty = bundle.classifier.predict(extract(fresh.conversations, bundle.text_model).numeric).difficulty
    assert apgr(difficulty, fresh.score_of(["small"]), fresh.score_of(["large"])) > 0.65


def test_the_manifest_records_the_largest_difference_of_the_export(trained: Path) -> None:
    assert load_bundle(trained).manifest["export_largest_difference"] < 1e-5


def test_a_threshold_between_two_floats_sends_them_where_the_trees_do() -> None:
    threshold = 0.1
    leaf = [{"leaf_value": value} for value in (-1.0, 1.0)]
    node = {
        "split_feature": 0,
        "decision_type": "<=",
        "threshold": threshold,
        "left_child": leaf[0],
        "right_child": leaf[1],
    }
    import onnxruntime  # noqa: PLC0415

    session = onnxruntime.InferenceSession(to_onnx([{"tree_structure": node}]))
    for value in (
        np.float32(0.1),
        np.nextafter(np.float32(0.1), np.float32(0)),
        np.nextafter(np.float32(0.1), np.float32(1)),
    ):
        numeric = np.zeros((1, session.get_inputs()[0].shape[1]), np.float32)
        numeric[0, 0] = value
        assert session.run(None, {"features": numeric})[0].item() == (-1.0 if float(value) <= threshold else 1.0)


def test_the_served_text_score_is_the_fitted_one_up_to_rounding() -> None:
    texts = [f"{'hard proof' if i % 2 else 'easy greeting'} number {i % 7} of many" for i in range(60)]
    grams = gram_matrix(texts)
    fitted = fit_text(grams, np.array([i % 2 for i in range(60)], float), np.zeros(60), 1e-3)
    np.testing.assert_allclose(rounded(fitted).score(scan(texts)), fitted.score(grams), atol=0.05)


def test_by_rarity_a_rare_word_weighs_more_than_it_does_otherwise() -> None:
    texts = [f"what is known of {'saffron' if i % 10 == 0 else 'gardens'}" for i in range(100)]
    label = np.array([0.2 if i % 10 == 0 else 0.6 for i in range(100)])
    grams = gram_matrix(texts)
    plain, rare = (fit_text(grams, label, np.zeros(100), 0.02, by_rarity).score(grams) for by_rarity in (False, True))
    assert rare[1] - rare[0] > plain[1] - plain[0] > 0


def test_a_gram_that_stands_in_every_text_is_of_no_rarity_and_the_mean_square_is_one() -> None:
    texts = np.array([100, 50, 4])
    found = rarity(texts, 100)
    assert found[0] == 0 < found[1] < found[2]
    assert (texts * found**2).sum() / texts.sum() == pytest.approx(1.0)


def test_one_question_in_two_wrappings_is_one_question() -> None:
    ids = question_ids([LONG, f"Answer carefully. {LONG} Thank you.", "What is the capital of France and why?"])
    assert ids[0] == ids[1] != ids[2]


def test_the_same_stem_with_other_options_is_one_question() -> None:
    ids = question_ids(
        ["Which gas do plants take in?\nA. oxygen\nB. neon", "Which gas do plants take in?\nA. argon\nB. helium"]
    )
    assert ids[0] == ids[1]


def test_wrapping_that_many_prompts_share_makes_no_question() -> None:
    wrapped = [f"{LONG} Now answer: what about the {chr(97 + i) * 60}?" for i in range(20)]
    assert len(set(question_ids(wrapped).tolist())) == 20


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.integers(0, 5))
def test_rows_of_one_question_are_in_one_fold(questions: list[int], seed: int) -> None:
    ids = np.array(questions)
    folds = fold_of(ids, 5, seed)
    assert all(len(set(folds[ids == q].tolist())) == 1 for q in set(questions))


def test_a_router_that_knows_the_gain_beats_chance_and_its_mirror_loses() -> None:
    cheap, strong = np.array([1.0, 1, 0, 0]), np.array([1.0, 1, 1, 1])
    assert apgr(np.array([0.1, 0.2, 0.8, 0.9]), cheap, strong) == pytest.approx(0.75)
    assert apgr(np.array([0.9, 0.8, 0.2, 0.1]), cheap, strong) == pytest.approx(0.25)
    assert cpt(np.array([0.1, 0.2, 0.8, 0.9]), cheap, strong, 0.5) == pytest.approx(0.25)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40))
def test_a_constant_score_is_worth_one_half(scores: list[tuple[bool, bool]]) -> None:
    cheap, strong = np.array(scores, float).T
    if strong.sum() != cheap.sum():
        assert apgr(np.zeros(len(cheap)), cheap, strong) == pytest.approx(0.5)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.booleans()), min_size=2, max_size=40))
def test_the_frontier_ends_at_the_strong_model(rows: list[tuple[float, bool, bool]]) -> None:
    difficulty, cheap, strong = (np.array(column, float) for column in zip(*rows, strict=True))
    if strong.sum() > cheap.sum():
        curve = frontier(difficulty, cheap, strong)
        assert curve.pgr[0] == 0
        assert curve.pgr[-1] == pytest.approx(1.0)


def test_auc_counts_ties_as_half() -> None:
    assert auc(np.array([1.0, 2, 3, 4]), np.array([0.0, 0, 1, 1])) == 1.0
    assert auc(np.ones(4), np.array([0.0, 0, 1, 1])) == 0.5


def test_calibration_error_is_the_gap_within_bins() -> None:
    assert calibration_error(np.full(10, 0.9), np.array([1.0] * 9 + [0.0])) == pytest.approx(0.0)
    assert calibration_error(np.full(10, 0.9), np.zeros(10)) == pytest.approx(0.9)


def test_platt_recovers_the_slope_it_was_given() -> None:
    log_odds = np.linspace(-3, 3, 400)
    platt = fit_platt(log_odds, 1 / (1 + np.exp(-(2 * log_odds + 0.5))))
    assert platt.slope == pytest.approx(2, abs=0.02)
    assert platt.intercept == pytest.approx(0.5, abs=0.02)


def test_platt_never_turns_the_order_round() -> None:
    log_odds = np.linspace(-3, 3, 400) + 1.0
    probability = fit_platt(log_odds, 1 / (1 + np.exp(log_odds)))(log_odds)
    assert (np.diff(probability) > 0).all()
    assert np.ptp(probability) < 0.02
    assert probability.mean() == pytest.approx((1 / (1 + np.exp(log_odds))).mean(), abs=0.01)


def test_offsets_take_the_mean_of_a_domain_out() -> None:
    label = np.array([1.0] * 200 + [0.0] * 200)
    found = domain_offset(label, np.array(["easy"] * 200 + ["hard"] * 200))
    assert found[0] > 1 > -1 > found[-1]
    assert found.mean() == pytest.approx(0.0, abs=1e-9)


def test_labels_of_the_gain_are_the_chance_that_the_cheap_side_is_preferred() -> None:
    found = label_of(np.array([1.0, 0, 1, 0]), np.array([1.0, 1, 0, 0]), "gain")
    assert found.tolist() == [0.5, 0.0, 1.0, 0.5]


def test_clusters_separate_what_is_separate_and_know_their_domain() -> None:
    rng = np.random.default_rng(0)
    vectors = np.zeros((60, 384), np.float32)
    vectors[:30, 0], vectors[30:, 1] = 1, 1
    vectors += rng.normal(scale=0.01, size=vectors.shape).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = fit_clusters(vectors, domain_numbers(["math"] * 30 + ["chat"] * 30), 2, seed=0)
    np.testing.assert_allclose(found.domains.sum(axis=1), 1, atol=1e-6)
    assert set(found.domains.argmax(axis=1).tolist()) == set(domain_numbers(["math", "chat"]).tolist())


@settings(max_examples=20)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_default_pools_put_every_model_on_one_side(means: list[float]) -> None:
    columns: dict[str, list[Any]] = {"prompt": ["a", "b"], **{f"s::m{i}": [m, m] for i, m in enumerate(means)}}
    pools = default_pools(table_of("t", columns))
    assert set(pools.cheap) | set(pools.strong) == {f"m{i}" for i in range(len(means))}
    assert not set(pools.cheap) & set(pools.strong)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"prompt": ["x"]}, "no column of scores"),
        ({"s::a": [1.0]}, "neither a column `prompt` nor `messages`"),
        (
            {"prompt": ["x", "y"], "s::b": [1.0, 1.0], "s::a": [1.0, 70.0]},
            "row 2: `s::a` is 70; scores must lie in 0..1",
        ),
        ({"prompt": ["x"], "s::a": ["yes"]}, "`s::a` holds something else than numbers .*'yes'"),
        ({"prompt": ["x"], "s::a": [1.0], "c::a": [{}]}, "`c::a` holds something else than numbers"),
        ({"prompt": ["x", None], "s::a": [1.0, 1.0]}, "row 2 has neither a text as `prompt`"),
        ({"prompt": [7], "s::a": [1.0]}, "row 1 has neither a text as `prompt`"),
        ({"messages": ['[{"role": "user", "content": "x"}]'], "s::a": [1.0]}, "row 1 has neither"),
        ({"messages": [[{"from": "human", "value": "x"}]], "prompt": ["x"], "s::a": [1.0]}, "row 1 has neither"),
        ({"prompt": ["x"], "s::a": [1.0], "contaminated": ["false"]}, "row 1: `contaminated` is 'false', neither"),
        ({"prompt": ["x"], "s::a": [1.0], "contaminated": [True]}, "no row is left"),
        ({"prompt": ["x"], "s::a": [None]}, "no row is left"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(columns: dict[str, list[Any]], says: str) -> None:
    with pytest.raises(TableError, match=says):
        table_of("t", columns)


@pytest.mark.parametrize(
    ("line", "says"),
    [("[1]", "line 2 is no JSON object"), ("{", "line 2 is not JSON"), ('"a"', "line 2 is no JSON object")],
)
def test_a_line_that_is_no_row_is_named(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "t.jsonl").write_text(f'{{"prompt":"hi","s::a":1}}\n{line}\n')
    with pytest.raises(TableError, match=rf"t\.jsonl: {says}"):
        read_table(tmp_path / "t.jsonl")


def test_contaminated_and_unanswered_rows_are_left_out() -> None:
    columns: dict[str, list[Any]] = {
        "prompt": ["a", "b", "c"],
        "s::m": [1.0, 0.0, None],
        "contaminated": [False, True, False],
    }
    assert len(table_of("t", columns)) == 1


def test_a_row_has_messages_or_else_a_prompt() -> None:
    asked: list[Any] = [[{"role": "user", "content": "one"}], None]
    columns: dict[str, list[Any]] = {"messages": asked, "prompt": [None, "two"], "s::m": [1.0, 0.0]}
    table = table_of("t", columns)
    assert [each.text for each in table.conversations] == ["one", "two"]


def test_a_row_without_a_name_is_called_as_where_the_column_is_missing() -> None:
    columns: dict[str, list[Any]] = {
        "prompt": ["a", "b"],
        "s::m": [1.0, 0.0],
        "pid": ["x", None],
        "bench": ["y", None],
        "domain": ["z", None],
    }
    table = table_of("t", columns)
    assert (table.pids, table.benches, table.domains) == (("x", "t:1"), ("y", "t"), ("z", ""))


def test_a_model_that_was_never_asked_is_none_of_the_table() -> None:
    columns: dict[str, list[Any]] = {
        "prompt": ["a", "b"],
        "contaminated": [False, True],
        "s::weak": [0.0, 0.0],
        "s::unasked": [None, 1.0],
        "s::strong": [1.0, 1.0],
    }
    table = table_of("t", columns)
    assert table.models == ("weak", "strong")
    assert default_pools(table) == Pools(("weak",), ("strong",))


def test_json_lines_are_read_like_parquet(
    tmp_path: Path, write_parquet: Callable[[Path, dict[str, list[Any]]], None]
) -> None:
    lines, parquet = tmp_path / "t.jsonl", tmp_path / "t.parquet"
    lines.write_text('{"pid":"1","prompt":"hi","s::a":1,"s::b":0.5}\n{"pid":"2","prompt":"ho","s::a":0,"s::b":1}\n')
    write_parquet(parquet, {"pid": ["1", "2"], "prompt": ["hi", "ho"], "s::a": [1.0, 0.0], "s::b": [0.5, 1.0]})
    one, other = read_table(lines), read_table(parquet)
    assert one.pids == other.pids
    assert one.conversations == other.conversations
    np.testing.assert_array_equal(one.scores, other.scores)
