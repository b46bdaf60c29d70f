"""Champion against challenger where the truth is known, and every reason not to conclude."""

from dataclasses import replace
from itertools import count

import numpy as np
import orjson
import pytest
from tests.unit.heimdall_models.learning.made import CHANCE, CHEAP, RULES, STRONG, features_of, hard_of, log

from heimdall_models.bundle import Bundle, load_bundle
from heimdall_models.learning.compare import Comparison, compare
from heimdall_models.learning.evaluation import evaluation_of
from heimdall_models.learning.gates import judge
from heimdall_models.learning.logged import Logged
from heimdall_models.learning.report import comparison_html
from heimdall_models.learning.train import Trained

HOUR_MS = 3_600_000


def later(logged: Logged) -> Logged:
    """The same requests, hours after anything was learned."""
    names = np.char.add("later ", logged.request_id)
    return replace(logged, time_ms=logged.time_ms + 10 * HOUR_MS, request_id=names, question=names)


@pytest.fixture(scope="module")
def found(serving: Bundle, learned: Trained) -> Comparison:
    ticks = count()
    return compare(serving.path, learned.bundle, later(log(4000, serving, seed=6)), RULES, lambda: next(ticks) * 64e-6)


def truth(bundle: Bundle) -> float:
    """Mean reward of the bundle's choices over many requests."""
    features = features_of(20_000, np.random.default_rng(77))
    strong = (bundle.classifier.predict(features).percentile > RULES.hard_above).astype(int)
    return float(CHANCE[hard_of(features).astype(int), strong].mean())


def test_estimates_hold_the_truth_and_the_better_bundle_wins(
    found: Comparison, serving: Bundle, learned: Trained
) -> None:
    assert found.conclusive
    assert found.difference is not None
    for name, bundle in (("champion", serving), ("challenger", load_bundle(learned.bundle))):
        worth = found.policies[name]
        assert worth.reward.low <= truth(bundle) <= worth.reward.high
        assert worth.snips.low <= truth(bundle) <= worth.snips.high
    gap = truth(load_bundle(learned.bundle)) - truth(serving)
    assert found.difference.reward.low <= gap <= found.difference.reward.high
    assert found.difference.lift.low > 0
    assert found.difference.win_rate == pytest.approx((1 + found.difference.reward.value) / 2)


def test_the_better_bundle_passes_every_gate(found: Comparison) -> None:
    assert [(gate.name, gate.why) for gate in judge(found) if not gate.passed] == []


def test_one_side_alone_costs_and_earns_what_that_side_does(found: Comparison) -> None:
    cheap, strong = found.policies["always_cheap"], found.policies["always_strong"]

    assert cheap.reward.low <= CHANCE[:, 0].mean() <= cheap.reward.high
    assert strong.reward.low <= CHANCE[:, 1].mean() <= strong.reward.high
    assert cheap.cost.value == pytest.approx(100.0)
    assert strong.cost.value == pytest.approx(2000.0)
    assert (cheap.strong_share, strong.strong_share) == (0.0, 1.0)
    assert cheap.lift.value == pytest.approx(0.0, abs=1e-9)


def test_time_and_size_of_the_bundle_are_measured(found: Comparison, learned: Trained) -> None:
    assert found.facts.us_per_row == pytest.approx(1.0)
    assert found.facts.bytes == sum(file.stat().st_size for file in learned.bundle.iterdir())


def test_it_prints_as_json_with_the_fields_of_every_evaluation(found: Comparison) -> None:
    printed = orjson.loads(orjson.dumps(evaluation_of(found)))

    assert printed["n"] == found.n
    assert printed["apgr"] > printed["baselines"]["champion"]["apgr"]
    assert printed["apgr_ci95"][0] < printed["apgr"] < printed["apgr_ci95"][1]
    assert {"cpt50", "cpt80", "frontier", "calibration"} <= printed.keys()
    assert printed["baselines"]["always_cheap"]["reward"]["ci95"][0] < 0.6
    assert printed["difference"]["reward_at_equal_spending"]["ci95"][0] > 0


def test_rows_that_the_challenger_learned_from_do_not_judge_it(serving: Bundle, learned: Trained) -> None:
    found = compare(serving.path, learned.bundle, log(3000, serving), RULES)

    assert found.n == learned.manifest["training_data"]["held_out"]


def test_a_bundle_against_itself_changes_nothing_and_is_not_promoted(serving: Bundle) -> None:
    found = compare(serving.path, serving.path, log(800, serving), RULES)

    assert found.conclusive
    assert found.difference is not None
    assert found.difference.reward.value == 0.0
    assert "nothing is won" in next(gate.why for gate in judge(found) if gate.name == "better")


def test_few_decisions_are_no_conclusion(serving: Bundle, learned: Trained) -> None:
    found = compare(serving.path, learned.bundle, later(log(60, serving)), RULES)

    assert not found.conclusive
    assert "60 later decisions" in str(found.why_not)
    assert "left out" not in str(found.why_not)
    assert not any(gate.passed for gate in judge(found) if gate.name in ("conclusive", "better"))
    assert evaluation_of(found)["difference"] is None


def test_what_is_left_out_says_why_each_by_itself(serving: Bundle, learned: Trained) -> None:
    rows = log(3000, serving)
    late = np.flatnonzero(rows.time_ms > learned.manifest["training_data"]["until_ms"])
    question, bundle, reward = rows.question.copy(), rows.bundle.copy(), rows.reward.copy()
    question[late[:10]], bundle[late[10:15]], reward[late[20]] = question[0], "other", np.nan

    found = compare(serving.path, learned.bundle, replace(rows, question=question, bundle=bundle, reward=reward), RULES)

    assert found.n == len(late) - 16
    assert found.left_out == {
        "decided with another text model than that of one of the two, and without the text that was scored": 5,
        "no later than what one of the two learned from": 3000 - len(late),
        "later, but their question was asked while one of the two learned": 10,
        "no reward, or nobody knows with which probability": 1,
    }


def test_logs_without_exploration_are_no_conclusion(serving: Bundle, learned: Trained) -> None:
    certain = later(log(2000, serving, exploration=0.0))

    found = compare(serving.path, learned.bundle, replace(certain, p_served=np.ones(2000)), RULES)

    assert not found.conclusive
    assert "could never have shown: overlap is too small" in str(found.why_not)


def test_a_candidate_that_was_never_drawn_from_is_no_overlap(serving: Bundle, learned: Trained) -> None:
    explored = later(log(2000, serving))
    terms = explored.candidates
    own = np.arange(2) == explored.served[:, None]
    alone = replace(terms, score=np.where(own, terms.score, np.nan))

    found = compare(serving.path, learned.bundle, replace(explored, candidates=alone), RULES)

    assert "overlap is too small" in str(found.why_not)


def test_too_little_exploration_is_no_conclusion(serving: Bundle, learned: Trained) -> None:
    found = compare(serving.path, learned.bundle, later(log(600, serving, exploration=0.04)), RULES)

    assert not found.conclusive
    assert "as say" in str(found.why_not)
    assert " times as many rated decisions" in str(found.why_not)


def test_equal_rewards_are_no_conclusion(serving: Bundle, learned: Trained) -> None:
    rows = later(log(600, serving))

    found = compare(serving.path, learned.bundle, replace(rows, reward=np.full(600, 0.5)), RULES)

    assert "all 600 rewards are 0.5" in str(found.why_not)


def test_answers_of_one_side_are_no_conclusion(serving: Bundle, learned: Trained) -> None:
    rows = later(log(600, serving))

    found = compare(serving.path, learned.bundle, replace(rows, served=np.zeros(600, np.int64)), RULES)

    assert "one of the two sides answered hardly any" in str(found.why_not)


def test_keyword_rules_and_phrases_are_compared_where_the_text_is_known(serving: Bundle, learned: Trained) -> None:
    rows = later(log(800, serving))
    texts = tuple("prove the theorem" if hard else "hello" for hard in hard_of(rows.features))

    found = compare(serving.path, learned.bundle, replace(rows, text=texts), RULES)

    for name in ("keywords", "nearest_phrase"):
        assert found.policies[name].reward.value > found.policies["champion"].reward.value
        assert name not in compare(serving.path, learned.bundle, rows, RULES).policies


def test_sides_may_be_named(serving: Bundle, learned: Trained) -> None:
    rules = replace(RULES, cheap=(STRONG,), strong=(CHEAP,))

    found = compare(serving.path, learned.bundle, later(log(800, serving)), rules)

    assert found.policies["always_cheap"].cost.value == pytest.approx(2000.0)


def test_the_page_shows_both_bundles_and_every_policy(found: Comparison) -> None:
    page = comparison_html(evaluation_of(found))

    assert "No conclusion" not in page
    assert "-0.000" not in page
    assert all(f'<th scope="row">{gate.name}</th><td>passed</td>' in page for gate in judge(found))
    assert all(
        name in page for name in ("champion", "challenger", "always cheap", "always strong", "Cost against reward")
    )
    assert f"{found.n:,} later decisions" in page


def test_the_page_of_no_conclusion_says_why_and_has_no_numbers(serving: Bundle, learned: Trained) -> None:
    page = comparison_html(evaluation_of(compare(serving.path, learned.bundle, later(log(60, serving)), RULES)))

    assert "<b>No conclusion:</b> 60 later decisions" in page
    assert "<svg" not in page
