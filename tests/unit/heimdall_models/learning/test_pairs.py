"""Requests with two answers: read from a data set, learned from, and judged on without any overlap of candidates."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.heimdall_fleet.learn.made import Desk, decision, feedback, outcome, shadow
from tests.unit.heimdall_models.learning.made import CHANCE, CHEAP, RULES, STRONG, log, shadowed
from tests.unit.heimdall_models.learning.test_compare import later, truth

from heimdall_models.bundle import Bundle, load_bundle
from heimdall_models.learning.compare import Comparison, compare
from heimdall_models.learning.evaluation import evaluation_of
from heimdall_models.learning.gates import judge
from heimdall_models.learning.logged import FEWEST_RATED, NOBODY, Logged, read_logged
from heimdall_models.learning.offpolicy import matches, possible
from heimdall_models.learning.pairs import pairs_of, shown, with_shadows
from heimdall_models.learning.train import Options, TooLittle, Trained, train_logged


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def read(desk: Desk, *records: dict[str, Any]) -> Logged:
    desk.run(decision("r1"), outcome("r1"), decision("r2", 1), outcome("r2", 1.1), *records)
    return read_logged(desk.out)


def test_the_second_answer_of_a_request_stands_beside_the_first(desk: Desk) -> None:
    logged = read(desk, shadow("r2", finish_reason="length", model="c/other"))
    assert logged.models == ("a/small", "b/large", "c/other")
    second = logged.shadows
    assert second.model.tolist() == [NOBODY, 2]
    assert (second.share[1], second.p_drawn[1], second.cost_usd_micros[1]) == (0.5, 0.25, 700.0)
    assert (second.beside[1], second.reward[1]) == (1.0, 0.5)
    assert np.isnan(second.reward[0])


def test_both_count_by_the_signals_that_both_have(desk: Desk) -> None:
    """Only the second one shows whether it kept its schema, and only the first was rated: neither of that counts."""
    logged = read(
        desk, shadow("r2", schema_valid=False), {"request_id": "r2", "score": 0.1, "time": "2026-11-21T13:00:00Z"}
    )
    assert logged.reward[1] == 0.1
    assert (logged.shadows.beside[1], logged.shadows.reward[1]) == (1.0, 1.0)


def test_where_a_judge_scored_both_its_scores_stand_alone(desk: Desk) -> None:
    judged = {"model": "j/judge", "score_served": 0.25, "score_shadow": 0.75}
    logged = read(desk, shadow("r2", judge=judged, refused=True))
    assert (logged.shadows.beside[1], logged.shadows.reward[1]) == (0.25, 0.75)


def test_signs_measure_no_pair_where_enough_answers_were_rated(desk: Desk) -> None:
    judged = {"model": "j/judge", "score_served": 0.25, "score_shadow": 0.75}
    rated = [feedback(f"q{at}", score=0.5) for at in range(FEWEST_RATED)]
    asked = [record for at in range(FEWEST_RATED) for record in (decision(f"q{at}", 2), outcome(f"q{at}", 2.1))]
    logged = read(desk, shadow("r1", judge=judged), shadow("r2"), *asked, *rated)
    assert logged.request_id[logged.shadows.model != NOBODY].tolist() == ["r1"]


@pytest.mark.parametrize(
    "fields",
    [{"state": "failed"}, {"served_model": "b/large"}, {"model": "a/small"}, {"finish_reason": None, "refused": None}],
)
def test_what_is_no_second_answer_to_the_same_is_no_pair(desk: Desk, fields: dict[str, Any]) -> None:
    assert read(desk, shadow("r2", **fields)).shadows.model.tolist() == [NOBODY, NOBODY]


def test_to_learn_from_a_shadow_is_one_answer_more(serving: Bundle) -> None:
    logged = shadowed(log(100, serving), 0.5)
    half = replace(logged.shadows, beside=logged.shadows.beside - 0.25, reward=logged.shadows.reward - 0.25)
    logged = replace(logged, shadows=half)
    rows = with_shadows(logged)
    pairs = int((logged.shadows.model != NOBODY).sum())
    assert len(rows) == 100 + pairs
    assert np.all(np.diff(rows.time_ms) >= 0)
    at = int(np.flatnonzero(logged.shadows.model != NOBODY)[0])
    first, second = np.flatnonzero(rows.request_id == logged.request_id[at])
    assert rows.served[[first, second]].tolist() == [logged.served[at], logged.shadows.model[at]]
    assert rows.reward[[first, second]].tolist() == [logged.reward[at], logged.shadows.reward[at] + 0.25]
    assert rows.p_served[[first, second]].tolist() == [logged.p_served[at], 0.5]
    silent = with_shadows(replace(logged, reward=np.full(100, np.nan)))
    assert silent.reward[[first, second]].tolist() == [logged.shadows.beside[at], logged.shadows.reward[at]]
    assert with_shadows(log(100, serving)).reward.tolist() == log(100, serving).reward.tolist()


def test_of_a_pair_both_answers_are_shown_and_a_third_one_only_if_it_could_be_drawn(serving: Bundle) -> None:
    pairs = pairs_of(shadowed(log(200, serving, exploration=0.0), 1.0))
    rows = np.arange(len(pairs))
    for choice in (pairs.served, pairs.shadows.model):
        assert matches(choice, pairs).tolist() == [1.0] * len(pairs)
        assert possible(choice, pairs).all()
    assert (
        shown(pairs.shadows.model, pairs, pairs.reward, pairs.shadows.reward).tolist() == pairs.shadows.reward.tolist()
    )
    third = replace(pairs, models=(CHEAP, STRONG, "c/third"))
    assert not possible(np.full(len(rows), 2), third).any()
    drawn = third.shadows.model.copy()
    drawn[third.served == third.served[0]] = np.where(rows[third.served == third.served[0]] % 2, 2, drawn[0])
    even = replace(third, shadows=replace(third.shadows, model=drawn, p_drawn=np.full(len(rows), 0.5)))
    same = (even.served == even.served[0]) & (even.bucket == even.bucket[0])
    assert possible(np.full(len(rows), 2), even)[same].all()
    assert set(matches(drawn, even).tolist()) == {2.0}


@pytest.fixture(scope="module")
def apart(serving: Bundle) -> Logged:
    """No exploration, no candidate in two buckets: a log of one arm."""
    return log(4000, serving, seed=5, exploration=0.0)


@pytest.fixture(scope="module")
def by_pairs(serving: Bundle, learned: Trained, apart: Logged) -> Comparison:
    return compare(serving.path, learned.bundle, shadowed(later(apart), 0.5), RULES)


def test_lists_without_overlap_are_compared_by_pairs_and_the_interval_holds_the_truth(
    by_pairs: Comparison, serving: Bundle, learned: Trained, apart: Logged
) -> None:
    assert not compare(serving.path, learned.bundle, later(apart), RULES).conclusive
    assert (by_pairs.conclusive, by_pairs.basis, evaluation_of(by_pairs)["basis"]) == (True, "pairs", "pairs")
    assert by_pairs.difference is not None
    gap = truth(load_bundle(learned.bundle)) - truth(serving)
    assert by_pairs.difference.reward.low <= gap <= by_pairs.difference.reward.high
    assert by_pairs.difference.lift.low > 0
    assert [gate.name for gate in judge(by_pairs) if not gate.passed] == []
    for name, side in (("always_cheap", 0), ("always_strong", 1)):
        worth = by_pairs.policies[name]
        assert worth.reward.low <= CHANCE[:, side].mean() <= worth.reward.high
        assert worth.snips.low <= CHANCE[:, side].mean() <= worth.snips.high
        assert worth.cost.value == pytest.approx((100.0, 2000.0)[side])


def test_where_neither_decisions_nor_pairs_tell_the_reason_names_both(serving: Bundle, learned: Trained) -> None:
    few = shadowed(later(log(600, serving, seed=5, exploration=0.0)), 0.1)

    why_not = str(compare(serving.path, learned.bundle, few, RULES).why_not)

    decisions, _, pairs = why_not.partition(". By pairs: ")
    assert "overlap is too small" in decisions
    assert f"{(few.shadows.model >= 0).sum()} later pairs have a reward" in pairs


@pytest.mark.slow
def test_intervals_by_pairs_hold_the_truth_in_nine_of_ten_logs(serving: Bundle, learned: Trained) -> None:
    gap = truth(load_bundle(learned.bundle)) - truth(serving)
    held = []
    for seed in range(20):
        rows = shadowed(later(log(600, serving, seed=100 + seed, exploration=0.0)), 1.0, seed=seed)
        found = compare(serving.path, learned.bundle, rows, RULES)
        assert found.difference is not None
        held.append(found.difference.reward.low <= gap <= found.difference.reward.high)
    assert sum(held) >= 17


def test_few_pairs_conclude_nothing(serving: Bundle, learned: Trained, apart: Logged) -> None:
    found = compare(serving.path, learned.bundle, shadowed(later(apart), 0.02), RULES)
    assert (found.conclusive, found.basis) == (False, "decisions")


def test_a_log_of_one_arm_teaches_by_its_pairs(
    serving: Bundle, options: Options, apart: Logged, tmp_path: Path
) -> None:
    one_arm = apart.rows(apart.served == 0)
    with pytest.raises(TooLittle):
        train_logged(one_arm, serving.path, tmp_path / "alone", options)
    trained = train_logged(shadowed(one_arm, 0.5), serving.path, tmp_path / "pairs", options)
    assert truth(load_bundle(trained.bundle)) > truth(serving) + 0.05
