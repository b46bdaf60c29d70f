"""A decision is proved from its audit record alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdall_models.asked import DecisionInput
from heimdall_models.cache import Memory
from heimdall_models.experiment import Arm, Experiment
from heimdall_models.judge import Judge
from heimdall_models.recompute import RecomputeError, recompute
from heimdall_models.record import Decided, Refusal

One = Callable[..., Decided]
MakeInput = Callable[..., DecisionInput]
JudgeWith = Callable[..., Judge]


def _from_audit(answer: Decided) -> dict[str, Any]:
    added = {"correlation_id": "c", "time": "2026-11-21T00:00:00Z", "worker": "w"}
    record: dict[str, Any] = orjson.loads(orjson.dumps({**answer.record, **answer.decision, **added}))
    return record


_options = st.fixed_dictionaries(
    {},
    optional={
        "alpha": st.floats(0, 1),
        "candidates": st.lists(st.sampled_from(["gpt-5.5", "openai/gpt-6-luna", "nobody/x"]), min_size=1, max_size=3),
        "exclude": st.just(["anthropic/"]),
        "max_cost_usd": st.sampled_from([0.0005, 0.01, 1.0]),
        "tenant": st.sampled_from(["acme", "other"]),
        "session": st.just("s"),
    },
)
_fields = st.sampled_from(
    [
        {},
        {"max_tokens": 20},
        {"model": "claude-opus-5-5"},
        {"reasoning_effort": "low"},
        {"tools": [{"type": "function"}], "response_format": {"type": "json_object"}},
    ]
)


@settings(max_examples=80, deadline=None)
@given(
    percent=st.integers(1, 120),
    options=_options,
    fields=_fields,
    time_left_ms=st.sampled_from([None, 1.0, 1_600.0, 5_000.0, 60_000.0]),
    across=st.booleans(),
)
def test_every_decision_is_made_again_from_its_record(
    *,
    judge_with: JudgeWith,
    make_input: MakeInput,
    answer: Callable[..., list[Decided | Refusal]],
    percent: int,
    options: Mapping[str, Any],
    fields: Mapping[str, Any],
    time_left_ms: float | None,
    across: bool,
) -> None:
    judge = judge_with(exploration=0.5, across=across, tenants={"acme": ("openai/", "google/")}, switch_margin=0.3)
    memory = Memory(decisions=None)
    memory.sessions.put((options.get("tenant"), "s"), "openai/gpt-6-sol", 0.0)
    item = make_input(percent / 100, options=dict(options), time_left_ms=time_left_ms, **fields)
    (found,) = answer([item], judge, memory)
    if isinstance(found, Decided):
        again = recompute(_from_audit(found), judge)
        assert again.differences == ()
        assert again.decided.steps == found.steps
        assert again.proved


def test_a_changed_number_is_reported_by_its_path(judge: Judge, make_input: MakeInput, decided: One) -> None:
    record = _from_audit(decided(make_input(0.5), judge))
    record["candidates"][1]["quality"] += 1e-6
    record["final_score"] += 1e-10
    differences = recompute(record, judge).differences
    assert [one.field for one in differences] == ["candidates[1].quality"]


def test_another_alpha_shows_the_changed_ranking(judge: Judge, make_input: MakeInput, decided: One) -> None:
    record = _from_audit(decided(make_input(0.9), judge))
    thrifty, lavish = recompute(record, judge, alpha=0.0).decided, recompute(record, judge, alpha=1.0).decided
    assert thrifty.decision["selected_model"] != lavish.decision["selected_model"]
    assert thrifty.decision["cost_score"] < lavish.decision["cost_score"]


def test_a_decision_of_an_experiment_is_proved_by_its_arm(
    judge_with: JudgeWith, make_input: MakeInput, decided: One
) -> None:
    judge = judge_with(experiment=Experiment("thrift", (Arm("cheaper", 1.0, alpha=0.1),)))
    found = decided(make_input(0.5), judge)
    assert (found.record["experiment"], found.record["alpha"]) == ("thrift:cheaper", 0.1)
    assert recompute(_from_audit(found), judge).proved


def test_records_of_other_hands_are_refused_with_the_reason(
    judge: Judge, judge_with: JudgeWith, make_input: MakeInput, decided: One
) -> None:
    memory = Memory()
    first = decided(make_input(0.5, request_id="first"), judge, memory)
    copy = decided(make_input(0.5), judge, memory)
    with pytest.raises(RecomputeError, match="cached copy of request first"):
        recompute(_from_audit(copy), judge)
    with pytest.raises(RecomputeError, match="config 'test', here it is 'newer'"):
        recompute(_from_audit(first), judge_with(config_hash="newer"))
