"""The whole decision, batch by batch, on a toy classifier and the shipped catalogue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdall_models.asked import DecisionInput
from heimdall_models.cache import Memory
from heimdall_models.catalogue import Catalogue
from heimdall_models.decide import decide
from heimdall_models.judge import Judge
from heimdall_models.recompute import recompute
from heimdall_models.record import DECISION_VERSION, Decided, Refusal, audit_json
from heimdall_models.times import StepTimes
from heimdall_schemas.audit import Decision, DecisionRecord
from heimdall_schemas.failure import FailureCode

Answers = Callable[..., list[Decided | Refusal]]
One = Callable[..., Decided]
MakeInput = Callable[..., DecisionInput]
JudgeWith = Callable[..., Judge]

H44 = (
    "selected_model selected_provider bucket bucket_probabilities alpha_scores quality_score cost_score final_score "
    "decision_latency_ms cache_hit fallback_used fallback_reason guardrail_triggered decision_version"
)


def _wire(answer: Decided) -> DecisionRecord:
    """The record as triage writes it and the audit topic gives it back."""
    added = {"correlation_id": "c", "time": "2026-11-21T00:00:00Z", "worker": "w"}
    return DecisionRecord.model_validate_json(orjson.dumps({**answer.record, **answer.decision, **added}))


def test_the_decision_has_exactly_the_fourteen_names_and_the_record_all_others(
    judge: Judge, make_input: MakeInput, decided: One
) -> None:
    answer = decided(make_input(), judge)
    assert list(answer.decision) == H44.split()
    assert set(answer.decision) == set(Decision.model_fields)
    record = _wire(answer)
    assert record.decision_version == DECISION_VERSION
    assert set(DecisionRecord.model_fields) <= set(answer.record) | set(answer.decision) | {
        "correlation_id",
        "time",
        "worker",
        "question",
        "text",
        "challenger",
        "across",
        "waived",
    }
    assert not set(answer.record) & set(answer.decision)


def test_the_features_have_the_names_of_the_heimdall_api(judge: Judge, make_input: MakeInput, decided: One) -> None:
    features = decided(make_input(), judge).record["features"]
    names = "token_count has_code has_math entropy embedding_cached cluster_similarities context_ratio context_overflow"
    assert set(names.split()) | {"extraction_latency_ms", "feature_version"} <= set(features)
    assert len(features["cluster_similarities"]) == judge.rules.top_p


@pytest.mark.parametrize(("hardness", "bucket"), [(0.1, "cheap"), (0.5, "mid"), (0.9, "hard")])
def test_the_percentile_of_the_difficulty_is_cut_into_buckets(
    judge: Judge, make_input: MakeInput, decided: One, hardness: float, bucket: str
) -> None:
    answer = decided(make_input(hardness), judge)
    assert answer.bucket == answer.decision["bucket"] == answer.record["bucket_before_guardrails"] == bucket
    assert answer.decision["selected_model"] in {one["model"] for one in answer.record["candidates"]}
    assert answer.decision["guardrail_triggered"] is False
    assert answer.record["decision_type"] == "scored"


@given(percent=st.integers(0, 120))
def test_the_probabilities_sum_to_one_and_peak_at_the_bucket(
    judge: Judge, make_input: MakeInput, decided: One, percent: int
) -> None:
    decision = decided(make_input(percent / 100), judge).decision
    chances = decision["bucket_probabilities"]
    assert sum(chances.values()) == pytest.approx(1.0, abs=1e-6)
    if percent != 13:
        assert max(chances, key=lambda name: chances[name]) == decision["bucket"]


def test_thresholds_at_the_ends_send_everything_to_mid(
    judge_with: JudgeWith, make_input: MakeInput, answer: Answers
) -> None:
    judge = judge_with(cheap_below=0.0, hard_above=1.0)
    found = answer([make_input(share / 10) for share in range(1, 12)], judge)
    assert {one.bucket for one in found if isinstance(one, Decided)} == {"mid"}


def test_a_prediction_that_is_not_a_number_goes_to_mid_and_is_flagged(
    judge: Judge, make_input: MakeInput, decided: One
) -> None:
    answer = decided(make_input(0.13), judge)
    assert answer.bucket == "mid"
    assert answer.decision["fallback_used"] is True
    assert answer.decision["fallback_reason"] == "MODEL_PREDICT_FAILED"
    assert answer.record["decision_type"] == "default"
    assert answer.record["difficulty"] is None
    _wire(answer)


def test_what_is_not_read_in_time_gets_safe_defaults_and_is_flagged(
    judge_with: JudgeWith, make_input: MakeInput
) -> None:
    judge = judge_with(feature_timeout_ms=10.0, timeout_ms=60_000.0)
    times = iter([0.0, 0.0, 0.001, *[9.0] * 100])
    batch = [make_input(0.1), make_input(0.1, text="x" * 4000)]
    first, second = decide(batch, judge, Memory(decisions=None), lambda: next(times))
    assert isinstance(first, Decided)
    assert isinstance(second, Decided)
    assert first.bucket == "cheap"
    assert (second.bucket, second.decision["fallback_reason"]) == ("mid", "FEATURE_TIMEOUT")
    assert second.token_count == pytest.approx(1000, rel=0.05)


def test_what_is_not_read_in_time_is_too_long_for_the_same_models_however_it_is_written(
    judge_with: JudgeWith, make_input: MakeInput
) -> None:
    judge, now = judge_with(feature_timeout_ms=10.0, timeout_ms=60_000.0), count(step=1.0)
    text = "why? " * 200_000
    parts = [{"type": "text", "text": text}]
    batch = [make_input(messages=[{"role": "user", "content": content}]) for content in (text, parts)]
    found = [one for one in decide(batch, judge, Memory(), lambda: float(next(now))) if isinstance(one, Decided)]
    assert [one.fallback_reason for one in found] == ["FEATURE_TIMEOUT"] * 2
    assert [one.guardrails[0] for one in found] == ["context_200k"] * 2


def test_the_recorded_terms_give_the_score_again(judge_with: JudgeWith, make_input: MakeInput, answer: Answers) -> None:
    judge = judge_with(alpha=0.613)
    for one in answer([make_input(share / 10) for share in range(1, 11)], judge):
        assert isinstance(one, Decided)
        alpha = one.record["alpha"]
        for candidate in one.record["candidates"]:
            again = alpha * candidate["quality"] - (1 - alpha) * candidate["cost"]
            assert candidate["score"] == pytest.approx(again - sum(candidate["penalties"].values()), abs=1e-9)
        assert one.decision["final_score"] == one.decision["alpha_scores"][one.decision["selected_model"]]
        assert one.decision["final_score"] == max(one.decision["alpha_scores"].values())


def test_alpha_one_picks_the_best_quality_and_alpha_zero_the_cheapest(
    judge: Judge, make_input: MakeInput, decided: One
) -> None:
    for hardness in (0.1, 0.5, 0.9):
        best = decided(make_input(hardness, options={"alpha": 1.0}), judge)
        cheapest = decided(make_input(hardness, options={"alpha": 0.0}), judge)
        assert best.decision["quality_score"] == max(one["quality"] for one in best.record["candidates"])
        costs = [one["cost_usd_micros"] for one in cheapest.record["candidates"]]
        chosen = cheapest.decision["selected_model"]
        by_name = {one["model"]: one["cost_usd_micros"] for one in cheapest.record["candidates"]}
        assert by_name[chosen] == min(costs)


_batches = st.lists(
    st.tuples(
        st.integers(0, 110),
        st.sampled_from([None, {"alpha": 0.0}, {"session": "s"}, {"max_cost_usd": 0.0001}, {"exclude": ["openai/"]}]),
        st.sampled_from([{}, {"max_tokens": 50}, {"model": "openai/gpt-6-sol"}, {"tools": [{"type": "function"}]}]),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(rows=_batches, random=st.randoms(use_true_random=False))
def test_the_order_of_a_batch_changes_no_row(
    judge: Judge, make_input: MakeInput, answer: Answers, rows: Sequence[Any], random: Any
) -> None:
    batch = [
        make_input(percent / 100, options=options, request_id=f"p-{place}", **fields)
        for place, (percent, options, fields) in enumerate(rows)
    ]
    shuffled = random.sample(batch, len(batch))
    alone = {one.request_id: _stable(one) for item in batch for one in answer([item], judge)}
    assert {one.request_id: _stable(one) for one in answer(batch, judge)} == alone
    assert {one.request_id: _stable(one) for one in answer(shuffled, judge)} == alone


def _stable(answer: Decided | Refusal) -> Any:
    if isinstance(answer, Refusal):
        return answer.failure.message
    return answer.record, answer.decision, answer.steps


@settings(max_examples=40, deadline=None)
@given(
    rank=st.integers(0, 6),
    factor=st.floats(1.01, 50),
    hardness=st.sampled_from([0.1, 0.5, 0.9]),
    alpha=st.floats(0, 1),
)
def test_raising_a_price_never_raises_that_models_rank(
    *,
    shipped: Catalogue,
    judge_with: JudgeWith,
    priced: Callable[..., Catalogue],
    make_input: MakeInput,
    decided: One,
    rank: int,
    factor: float,
    hardness: float,
    alpha: float,
) -> None:
    item = make_input(hardness, options={"alpha": alpha})
    before = _ranking(decided(item, judge_with()))
    model = before[rank % len(before)]
    price = shipped.models[model].price
    assert price is not None
    old = price.standard.input / 1e6, price.standard.output / 1e6
    plain = priced(shipped, {model: old})
    dearer = priced(shipped, {model: (old[0] * factor, old[1] * factor)})
    ranks = [_ranking(decided(item, judge_with(catalogue))).index(model) for catalogue in (plain, dearer)]
    assert ranks[1] >= ranks[0]


def _ranking(answer: Decided) -> list[str]:
    return [
        one["model"]
        for one in sorted(
            answer.record["candidates"], key=lambda one: (-one["score"], one["cost_usd_micros"], one["model"])
        )
    ]


def test_the_chain_is_the_bucket_by_score_and_then_the_bucket_above(
    judge: Judge, make_input: MakeInput, decided: One
) -> None:
    answer = decided(make_input(0.5), judge)
    in_bucket = [step.model for step in answer.steps if step.bucket == "mid"]
    assert in_bucket == _ranking(answer)[:6]
    assert [step.bucket for step in answer.steps] == ["mid"] * len(in_bucket) + ["hard"] * 4
    assert answer.record["chain"] == [step.model for step in answer.steps]
    assert len(set(answer.record["chain"])) == len(answer.steps)
    assert all(step.bucket == "hard" for step in decided(make_input(0.9), judge).steps)


def test_bucket_defaults_travel_in_the_words_of_the_models_family(
    judge: Judge, make_input: MakeInput, decided: One
) -> None:
    def settings_of(answer: Decided) -> dict[tuple[str, str], Any]:
        return {(step.model, step.bucket): dict(step.settings) for step in answer.steps}

    only = ["openai/gpt-6-sol", "google/gemini-3.8-flash", "anthropic/claude-sonnet-5.5"]
    mid = settings_of(decided(make_input(0.5, options={"candidates": only}), judge))
    hard = settings_of(decided(make_input(0.9, options={"candidates": only}), judge))
    assert mid[("openai/gpt-6-sol", "mid")] == {"reasoning_effort": "medium"}
    assert mid[("google/gemini-3.8-flash", "mid")] == {"thinking_budget": 15_000}
    assert mid[("anthropic/claude-sonnet-5.5", "mid")] == {}
    assert hard[("openai/gpt-6-sol", "hard")] == {"reasoning_effort": "high"}
    assert hard[("google/gemini-3.8-flash", "hard")] == {"thinking_budget": 30_000}
    own = decided(make_input(0.9, reasoning_effort="low", options={"candidates": only}), judge)
    assert not any(step.settings for step in own.steps)
    unsaid = decided(make_input(0.9, reasoning_effort=None, options={"candidates": only}), judge)
    assert settings_of(unsaid) == hard


def test_a_concrete_name_bypasses_the_choice_and_is_recorded(judge: Judge, make_input: MakeInput, decided: One) -> None:
    answer = decided(make_input(0.5, model="claude-3-5-sonnet-20241022"), judge)
    assert answer.pinned
    assert answer.decision["selected_model"] == "anthropic/claude-3.5-sonnet"
    assert [step.model for step in answer.steps] == ["anthropic/claude-3.5-sonnet"]
    assert (answer.record["decision_type"], answer.p_chosen) == ("pinned", 1.0)
    _wire(answer)


def test_an_unknown_name_is_refused_and_the_rest_of_the_batch_is_not(
    judge: Judge, make_input: MakeInput, answer: Answers
) -> None:
    refused, fine = answer([make_input(model="nobody/nothing"), make_input()], judge)
    assert isinstance(refused, Refusal)
    assert refused.failure.code is FailureCode.CALLER_UNKNOWN_MODEL
    assert "nobody/nothing" in refused.failure.message
    assert isinstance(fine, Decided)


def test_who_pins_an_unknown_name_is_told_the_names_that_come_nearest(
    judge: Judge, make_input: MakeInput, answer: Answers
) -> None:
    (refused,) = answer([make_input(model="claude-hiaku-5.5")], judge)
    assert isinstance(refused, Refusal)
    assert "anthropic/claude-haiku-5.5" in refused.failure.message


def test_candidates_without_provider_price_or_entry_are_left_out_and_said_once(
    judge_with: JudgeWith, make_input: MakeInput, decided: One
) -> None:
    served = {"openai/gpt-6-sol": "openai", "openai/gpt-6-luna": "openai"}
    judge = judge_with(served=served)
    assert "anthropic/claude-haiku-5.5" in judge.left_out
    answer = decided(make_input(0.1), judge)
    assert set(answer.decision["alpha_scores"]) == {"openai/gpt-6-luna"}
    assert answer.decision["selected_provider"] == "openai"


def test_a_candidate_of_the_caller_that_nobody_serves_stands_in_the_record_with_the_reason(
    judge: Judge, make_input: MakeInput, decided: One
) -> None:
    answer = decided(make_input(options={"candidates": ["openai/gpt-6-sol", "nobody/nothing"]}), judge)
    assert answer.decision["selected_model"] == "openai/gpt-6-sol"
    (fallen,) = [one for one in answer.record["candidates"] if one.get("fell_out")]
    assert fallen["model"] == "nobody/nothing"
    assert "not in the catalogue" in fallen["fell_out"]
    assert not answer.decision["guardrail_triggered"]
    assert recompute(answer.record | answer.decision, judge).proved


def test_a_bucket_without_any_model_escalates(judge_with: JudgeWith, make_input: MakeInput, decided: One) -> None:
    judge = judge_with(served={"openai/gpt-6-sol": "openai"})
    assert decided(make_input(0.1), judge).bucket == "mid"
    assert decided(make_input(0.9), judge).bucket == "mid"


def test_a_batch_of_any_size_is_answered_in_order(judge: Judge, make_input: MakeInput, answer: Answers) -> None:
    batch = [make_input(0.1 * (place % 11), request_id=f"n-{place}") for place in range(150)]
    assert [one.request_id for one in answer(batch, judge)] == [item.request_id for item in batch]
    assert answer([], judge) == []


def test_a_budget_that_reading_has_used_up_leaves_no_time_to_classify(
    judge_with: JudgeWith, make_input: MakeInput
) -> None:
    judge = judge_with(feature_timeout_ms=60_000.0, timeout_ms=25.0)
    now_s = [0.0]

    def clock() -> float:
        now_s[0] += 0.010
        return now_s[0]

    times = StepTimes()
    (answer,) = decide([make_input(0.9)], judge, Memory(), clock, times)
    assert isinstance(answer, Decided)
    assert (answer.bucket, answer.decision_type, answer.fallback_reason) == ("mid", "default", "PREHOOK_TIMEOUT")
    assert answer.kept is None
    assert answer.record["difficulty"] is None
    assert recompute(orjson.loads(audit_json(answer, {})), judge).proved
    _wire(answer)


def test_a_batch_has_as_many_budgets_as_requests(judge_with: JudgeWith, make_input: MakeInput) -> None:
    judge = judge_with(timeout_ms=25.0, feature_timeout_ms=25.0)
    instants = iter([0.0, *[0.2] * 1000])
    answers = decide([make_input(0.9) for _ in range(10)], judge, Memory(), lambda: next(instants))
    assert {one.fallback_reason for one in answers if isinstance(one, Decided)} == {None}


def test_the_steps_of_a_batch_are_timed_and_cached_rows_take_none(judge: Judge, make_input: MakeInput) -> None:
    now_s, memory, times = [0.0], Memory(), StepTimes()

    def clock() -> float:
        now_s[0] += 0.001
        return now_s[0]

    decide([make_input(0.1), make_input(0.9)], judge, memory, clock, times)
    assert times.rows == 2
    assert min(times.features_s, times.embedding_s, times.classifier_s, times.scores_s) > 0
    assert times.decision_s >= times.classifier_s + times.scores_s
    decide([make_input(0.1), make_input(0.9)], judge, memory, clock, times)
    assert times.rows == 2


def test_the_json_of_a_record_is_that_of_its_fields(judge: Judge, make_input: MakeInput, decided: One) -> None:
    answer = decided(make_input(0.5, options={"tenant": 'a"%b\\', "session": "%s"}), judge)
    added = {"correlation_id": "c%", "time": "2026-11-21T00:00:00Z", "worker": "w"}
    whole = orjson.loads(audit_json(answer, added))
    assert whole == {**answer.record, **answer.decision, **added}
    assert (whole["tenant"], whole["session"]) == ('a"%b\\', "%s")
