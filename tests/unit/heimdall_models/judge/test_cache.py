"""The decision cache: what counts as the same request, how long, how many."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_models.asked import DecisionInput
from heimdall_models.cache import Entry, Memory, RecentMap, decision_cache
from heimdall_models.decide import decide
from heimdall_models.judge import Judge
from heimdall_models.record import Decided
from heimdall_schemas.request import NO_OPTIONS

One = Callable[..., Decided]
MakeInput = Callable[..., DecisionInput]


def _at(item: DecisionInput, judge: Judge, memory: Memory, now_s: float) -> Decided:
    (found,) = decide([item], judge, memory, lambda: now_s)
    assert isinstance(found, Decided)
    return found


def test_a_repeat_within_the_time_to_live_is_a_hit_and_after_it_is_not(judge: Judge, make_input: MakeInput) -> None:
    memory = Memory()
    first = _at(make_input(0.5, request_id="first"), judge, memory, 0.0)
    hit = _at(make_input(0.5, request_id="second"), judge, memory, 299.0)
    late = _at(make_input(0.5), judge, memory, 301.0)
    assert [one.decision["cache_hit"] for one in (first, hit, late)] == [False, True, False]
    assert hit.decision == {**first.decision, "cache_hit": True}
    assert hit.steps == first.steps
    assert (hit.record["decision_type"], hit.record["cached_from"]) == ("cached", "first")
    assert [one.record["features"]["embedding_cached"] for one in (first, hit)] == [False, True]
    assert hit.record["request_id"] == hit.request_id == "second"
    assert (memory.counts.hits, memory.counts.misses) == (1, 2)


def test_a_hit_says_the_time_that_it_took_itself(judge: Judge, make_input: MakeInput) -> None:
    memory, now_s = Memory(), count(step=0.001)
    slow = decide([make_input(0.5)], judge, memory, lambda: float(next(now_s)))[0]
    hits = decide([make_input(0.5)] * 2, judge, memory, lambda: float(next(now_s)))
    assert isinstance(slow, Decided)
    assert slow.decision["decision_latency_ms"] > 2
    assert [one.decision["decision_latency_ms"] for one in hits if isinstance(one, Decided)] == [1.0, 1.0]


def test_a_hit_has_read_nothing_and_says_so(judge: Judge, make_input: MakeInput) -> None:
    memory = Memory()
    first, hit = (_at(make_input(0.5), judge, memory, 0.0) for _ in range(2))
    assert hit.record["features"]["extraction_latency_ms"] == 0.0
    assert first.record["features"].keys() - hit.record["features"].keys() == {
        "numeric",
        "clusters",
        "cluster_similarities",
    }


@pytest.mark.parametrize(
    "other",
    [
        {"text": "something else entirely"},
        {"options": {"alpha": 0.2}},
        {"options": {"tenant": "acme"}},
        {"options": {"candidates": ["openai/gpt-5.5"]}},
        {"model": "openai/gpt-5.5"},
        {"max_tokens": 5},
        {"reasoning_effort": "low"},
        {"tools": [{"type": "function"}]},
    ],
)
def test_what_decides_is_part_of_the_key(
    judge: Judge, make_input: MakeInput, decided: One, other: dict[str, object]
) -> None:
    memory = Memory()
    decided(make_input(0.5), judge, memory)
    assert decided(make_input(0.5, **other), judge, memory).decision["cache_hit"] is False


@pytest.mark.parametrize("other", [{"options": {"tags": {"a": "b"}}}, {"temperature": 0.3}, {"time_left_ms": 60_000.0}])
def test_what_does_not_decide_is_not(
    judge: Judge, make_input: MakeInput, decided: One, other: dict[str, object]
) -> None:
    memory = Memory()
    decided(make_input(0.5, options={}), judge, memory)
    assert decided(make_input(0.5, **{"options": {}, **other}), judge, memory).decision["cache_hit"] is True


def test_a_copy_names_no_session_but_its_own(judge: Judge, make_input: MakeInput, decided: One) -> None:
    memory = Memory()
    first, other = (make_input(0.5, options=options) for options in ({"session": "first"}, {"alpha": None}))
    records = [decided(item, judge, memory).record for item in (first, other)]
    assert [(record["decision_type"], record["session"]) for record in records] == [
        ("scored", "first"),
        ("cached", None),
    ]
    assert [record["asked"] for record in records] == [{}, {}]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"model": "auto", "heimdall": {}}),
        ({"model": "gpt-5.5"}, {"model": "openai/gpt-5.5"}),
        ({"tools": [{"type": "function", "function": {}}]}, {"tools": [{"function": {}, "type": "function"}]}),
    ],
)
def test_requests_that_mean_the_same_share_a_decision(
    judge: Judge, decided: One, one: dict[str, object], other: dict[str, object]
) -> None:
    memory = Memory()
    bodies = (
        {"messages": [{"role": "user", "content": "why?"}], **one},
        {**other, "messages": [{"content": "why?", "role": "user"}]},
    )
    hits = [decided(DecisionInput("r", NO_OPTIONS, body), judge, memory).decision["cache_hit"] for body in bodies]
    assert hits == [False, True]


def test_other_rules_do_not_see_each_others_entries(
    judge: Judge, judge_with: Callable[..., Judge], make_input: MakeInput, decided: One
) -> None:
    memory = Memory()
    decided(make_input(0.5), judge, memory)
    assert decided(make_input(0.5), judge_with(top_p=1), memory).decision["cache_hit"] is False


def test_a_cached_decision_keeps_the_propensity_it_was_drawn_with(
    judge_with: Callable[..., Judge], make_input: MakeInput, decided: One
) -> None:
    judge, memory = judge_with(exploration=1.0), Memory()
    first = decided(make_input(0.5), judge, memory)
    hit = decided(make_input(0.5), judge, memory)
    assert (hit.p_chosen, hit.record["explored"]) == (first.p_chosen, True)
    assert hit.decision["selected_model"] == first.decision["selected_model"]


def test_stand_ins_and_decisions_forced_by_a_deadline_are_not_kept(
    judge: Judge, make_input: MakeInput, decided: One
) -> None:
    memory = Memory()
    decided(make_input(0.13), judge, memory)
    decided(make_input(0.9, time_left_ms=1.0), judge, memory)
    assert memory.decisions is not None
    assert len(memory.decisions) == 0


def test_a_hit_whose_model_is_too_slow_for_the_deadline_is_judged_anew(
    judge: Judge, make_input: MakeInput, decided: One
) -> None:
    memory = Memory()
    decided(make_input(0.9), judge, memory)
    assert decided(make_input(0.9, time_left_ms=10.0), judge, memory).decision["cache_hit"] is False


class _FullStore:
    """A store on a volume without room."""

    def __len__(self) -> int:
        return 0

    def get(self, key: bytes, now_s: float) -> Entry | None:
        return None

    def put(self, key: bytes, value: Entry, now_s: float) -> None:
        raise OSError("no space left")


def test_a_store_that_fails_is_counted_and_the_decision_stands(
    judge: Judge, make_input: MakeInput, decided: One
) -> None:
    memory = Memory(decisions=_FullStore())
    assert decided(make_input(0.5), judge, memory).decision["selected_model"]
    assert memory.counts.failed_writes == 1


def test_an_entry_is_small(judge: Judge, make_input: MakeInput, decided: One) -> None:
    kept = decision_cache()
    memory = Memory(decisions=kept)
    answer = decided(make_input(0.5), judge, memory)
    assert len(kept) == 1
    slim = {**answer.record, "features": {}, "candidates": []}
    assert len(orjson.dumps([answer.decision, slim])) < 2_000


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=60), st.integers(1, 5))
def test_the_bounds_hold_whatever_is_put(steps: list[tuple[int, int]], max_size: int) -> None:
    recent, now_s, put_at = RecentMap[int, int](max_size, 4.0), 0.0, dict[int, float]()
    for key, wait_s in steps:
        now_s += wait_s
        found = recent.get(key, now_s)
        assert found is None or now_s - put_at[key] <= 4.0
        recent.put(key, key, now_s)
        put_at[key] = now_s
        assert recent.get(key, now_s) == key
        assert len(recent) <= max_size
