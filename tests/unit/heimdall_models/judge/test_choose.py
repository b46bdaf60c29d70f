"""What may overrule the best score: exploration and the session's own model; and experiments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_models.asked import DecisionInput
from heimdall_models.cache import Memory
from heimdall_models.experiment import CONTROL, Arm, Experiment, arm_of, draw
from heimdall_models.judge import Judge, Parts, make_judge
from heimdall_models.record import Decided, Refusal
from heimdall_models.rules import Rules
from heimdall_schemas.topics import Bucket

Answers = Callable[..., list[Decided | Refusal]]
One = Callable[..., Decided]
MakeInput = Callable[..., DecisionInput]
JudgeWith = Callable[..., Judge]


@given(st.text(), st.text())
def test_a_draw_lies_in_the_unit_interval_and_comes_out_the_same_again(purpose: str, unit: str) -> None:
    assert 0.0 <= draw(purpose, unit) < 1.0
    assert draw(purpose, unit) == draw(purpose, unit)


def test_draws_are_even() -> None:
    tenths = Counter(int(draw("evenness", str(unit)) * 10) for unit in range(5_000))
    assert all(400 < count < 600 for count in tenths.values())


def test_without_exploration_every_choice_was_certain(judge: Judge, make_input: MakeInput, decided: One) -> None:
    answer = decided(make_input(0.5), judge)
    assert (answer.p_chosen, answer.record["explored"]) == (1.0, False)


def test_exploration_draws_its_share_and_records_the_exact_probability(
    judge_with: JudgeWith, make_input: MakeInput, answer: Answers
) -> None:
    judge = judge_with(exploration=0.3)
    found = [one for one in answer([make_input(0.5) for _ in range(1_000)], judge) if isinstance(one, Decided)]
    explored = [one for one in found if one.record["explored"]]
    assert 230 < len(explored) < 370
    options = len(found[0].decision["alpha_scores"])
    for one in found:
        scores = one.decision["alpha_scores"]
        greedy = one.decision["selected_model"] == max(scores, key=lambda name: scores[name])
        assert one.p_chosen == pytest.approx(0.3 / options + (0.7 if greedy else 0.0))
        assert one.record["decision_type"] == ("explored" if one.record["explored"] else "scored")
        assert one.steps[0].model == one.decision["selected_model"]
    drawn = Counter(one.decision["selected_model"] for one in explored)
    assert len(drawn) == options


LISTS = {
    Bucket.CHEAP: ("openai/gpt-6-luna", "google/gemini-3.8-flash"),
    Bucket.MID: ("google/gemini-3.8-flash", "openai/gpt-6-sol"),
    Bucket.HARD: ("openai/gpt-6-sol",),
}


@pytest.mark.parametrize("hardness", [0.05, 0.5, 1.0])
def test_exploration_across_draws_from_all_buckets_and_every_probability_is_exact(
    judge_with: JudgeWith, make_input: MakeInput, answer: Answers, hardness: float
) -> None:
    """Three models in all; what is drawn stands in its own bucket, with that bucket's candidates and chain."""
    judge = judge_with(exploration=0.3, across=True, candidates=LISTS)
    found = [one for one in answer([make_input(hardness) for _ in range(2_000)], judge) if isinstance(one, Decided)]
    models = sorted({name for names in LISTS.values() for name in names})
    plain = [one for one in found if not one.record["explored"]]
    (greedy,) = {one.model for one in plain}
    (own,) = {one.bucket for one in plain}
    explored = Counter(one.model for one in found if one.record["explored"])
    assert 500 < explored.total() < 700
    assert set(explored) == set(models)
    assert min(explored.values()) > 150
    for one in found:
        assert one.record["across"] == models
        assert one.p_chosen == pytest.approx(0.1 + (0.7 if one.model == greedy else 0.0))
        assert one.record["bucket_before_guardrails"] == own
        assert one.bucket == (own if one.model in LISTS[Bucket(own)] else one.bucket)
        assert one.steps[0].model == one.model
        standing = {each["model"] for each in one.record["candidates"] if each["bucket"] == one.bucket}
        assert one.model in standing == set(LISTS[Bucket(one.bucket)])


def test_exploration_across_draws_nobody_whom_a_guardrail_takes_out(
    judge_with: JudgeWith, make_input: MakeInput, answer: Answers
) -> None:
    judge = judge_with(exploration=0.5, across=True, candidates=LISTS, tenants={"acme": ("google/",)})
    asked = [make_input(0.05, options={"tenant": "acme"}) for _ in range(200)]
    found = [one for one in answer(asked, judge) if isinstance(one, Decided)]
    assert {(one.model, one.p_chosen) for one in found} == {("google/gemini-3.8-flash", 1.0)}
    assert not any("across" in one.record for one in found)


def test_callers_who_name_models_are_not_drawn_elsewhere(
    judge_with: JudgeWith, make_input: MakeInput, answer: Answers
) -> None:
    judge = judge_with(exploration=0.5, across=True, candidates=LISTS)
    named = ["openai/gpt-6-luna", "google/gemini-3.8-flash"]
    found = answer([make_input(1.0, options={"candidates": named}) for _ in range(100)], judge)
    assert {one.model for one in found if isinstance(one, Decided)} <= set(named)
    pinned = answer([make_input(0.5, model="openai/gpt-6-luna") for _ in range(50)], judge)
    assert {(one.model, one.p_chosen) for one in pinned if isinstance(one, Decided)} == {("openai/gpt-6-luna", 1.0)}


def test_a_session_keeps_its_model_for_small_gains_and_leaves_it_for_large_ones(
    judge_with: JudgeWith, make_input: MakeInput, decided: One
) -> None:
    ranked = [step.model for step in decided(make_input(0.5), judge_with()).steps]
    for margin, expected, kind in ((5.0, ranked[1], "sticky"), (0.0, ranked[0], "scored")):
        memory = Memory(decisions=None)
        memory.sessions.put((None, "s"), ranked[1], 0.0)
        answer = decided(make_input(0.5, options={"session": "s"}), judge_with(switch_margin=margin), memory)
        assert (answer.decision["selected_model"], answer.record["decision_type"]) == (expected, kind)
        assert answer.steps[0].model == expected


def test_a_session_stays_where_the_gain_is_the_very_margin(
    judge_with: JudgeWith, make_input: MakeInput, decided: One
) -> None:
    scores = decided(make_input(0.5), judge_with()).decision["alpha_scores"]
    best, *others = sorted(scores, key=lambda name: -scores[name])
    for other in others:
        memory, margin = Memory(decisions=None), round(scores[best] - scores[other], 10)
        memory.sessions.put((None, "s"), other, 0.0)
        answer = decided(make_input(0.5, options={"session": "s"}), judge_with(switch_margin=margin), memory)
        assert (answer.model, answer.decision_type) == (other, "sticky")


def test_a_session_remembers_the_model_that_was_chosen_for_it(
    judge_with: JudgeWith, make_input: MakeInput, decided: One
) -> None:
    judge, memory = judge_with(switch_margin=5.0), Memory(decisions=None)
    first = decided(make_input(0.5, options={"session": "s", "alpha": 0.0}), judge, memory)
    then = decided(make_input(0.5, options={"session": "s", "alpha": 1.0}), judge, memory)
    other = decided(make_input(0.5, options={"session": "s", "alpha": 1.0, "tenant": "t"}), judge, memory)
    assert first.decision["selected_model"] == then.decision["selected_model"]
    assert other.decision["selected_model"] != first.decision["selected_model"]


def test_an_arm_is_kept_by_a_session_and_shares_hold() -> None:
    experiment = Experiment("e", (Arm("a", 0.2), Arm("b", 0.3)))
    arms = Counter(arm_of(experiment, None, str(unit)) for unit in range(5_000))
    assert arms["a"] == pytest.approx(1_000, abs=120)
    assert arms["b"] == pytest.approx(1_500, abs=150)
    assert arms[CONTROL] == pytest.approx(2_500, abs=150)
    assert len({arm_of(experiment, "session", str(unit)) for unit in range(50)}) == 1


def test_shares_over_one_are_refused() -> None:
    with pytest.raises(ValueError, match="sum to at most 1"):
        Experiment("e", (Arm("a", 0.7), Arm("b", 0.4)))


def test_arms_change_alpha_candidates_or_bundle_and_are_named_in_the_record(
    bundle: Parts, another_bundle: Parts, judge: Judge, make_input: MakeInput, answer: Answers
) -> None:
    only = {Bucket.MID: ("openai/gpt-6-sol", "nobody/nothing")}
    experiment = Experiment("e", (Arm("only", 0.4, candidates=only), Arm("new", 0.4, bundle="next", alpha=0.2)))
    rules = Rules(served=judge.rules.served, experiment=experiment)
    tried = make_judge(bundle, judge.book.catalogue, rules, bundles={"next": another_bundle})
    found = [one for one in answer([make_input(0.5) for _ in range(60)], tried) if isinstance(one, Decided)]
    by_arm = {str(one.record["experiment"]): one for one in found}
    assert set(by_arm) == {"e:only", "e:new", "e:control"}
    assert set(by_arm["e:only"].decision["alpha_scores"]) == {"openai/gpt-6-sol"}
    assert set(tried.left_out) == {"nobody/nothing"}
    assert (by_arm["e:new"].record["bundle"], by_arm["e:new"].record["alpha"]) == (another_bundle.hash, 0.2)
    assert (by_arm["e:control"].record["bundle"], by_arm["e:control"].record["alpha"]) == (bundle.hash, 0.7)
