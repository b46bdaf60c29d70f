"""What each signal says, and how they become one reward."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.learn import rewards

ONES = dict.fromkeys(rewards.SIGNALS, 1.0)


def signals(**known: float) -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    return {name: np.array([known.get(name, np.nan)]) for name in rewards.SIGNALS}


@pytest.mark.parametrize(
    ("said", "bucket", "expected"),
    [("hard", "cheap", 0.0), ("mid", "mid", 1.0), ("cheap", "hard", 1.0), (None, "mid", None), ("mid", None, None)],
)
def test_a_label_is_bad_only_where_a_harder_bucket_was_right(
    said: str | None, bucket: str | None, expected: float | None
) -> None:
    assert rewards.label(said, bucket) == expected


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("stop", 1.0), ("tool_calls", 1.0), ("length", 0.0), ("content_filter", None), (None, None)],
)
def test_an_answer_that_its_limit_cut_did_not_finish(reason: str | None, expected: float | None) -> None:
    assert rewards.finish(reason) == expected


def test_yes_no_and_unknown() -> None:
    assert [rewards.accepted(said) for said in (True, False, None)] == [1.0, 0.0, None]
    assert [rewards.refusal(said) for said in (True, False, None)] == [0.0, 1.0, None]
    assert [rewards.retry(said) for said in (True, False, None)] == [0.0, 1.0, None]
    assert [rewards.schema(said) for said in (True, False, None)] == [1.0, 0.0, None]
    assert [rewards.followup(said) for said in (0.25, None)] == [0.25, None]


def test_where_a_person_spoke_nothing_else_is_counted() -> None:
    reward, source = rewards.combine(signals(score=0.2, finish=1.0, refusal=1.0), ONES)
    assert (reward.tolist(), source) == ([0.2], ["explicit"])


def test_the_mean_is_by_weight_and_weight_0_leaves_a_signal_out() -> None:
    known = signals(finish=1.0, refusal=0.0, schema=0.0)
    reward, source = rewards.combine(known, {**ONES, "refusal": 3.0, "schema": 0.0})
    assert (reward.tolist(), source) == ([0.25], ["implicit"])


@given(st.dictionaries(st.sampled_from(rewards.SIGNALS), st.floats(0, 1)), st.floats(0.1, 5))
def test_a_reward_lies_between_0_and_1_or_is_unknown(known: dict[str, float], weight: float) -> None:
    reward, source = rewards.combine(signals(**known), dict.fromkeys(rewards.SIGNALS, weight))
    assert (source[0] is None) == (not known)
    assert np.isnan(reward[0]) if not known else -1e-9 <= reward[0] <= 1 + 1e-9
