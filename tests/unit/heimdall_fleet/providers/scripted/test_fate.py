"""Plans, fates and answers of the scripted providers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.providers.scripted import Behaviour, Outage, Plan, Spread
from heimdall_fleet.providers.scripted.answers import Asked, answer_to
from heimdall_fleet.providers.scripted.fate import Odds, RateWindows, draw_for
from heimdall_fleet.providers.scripted.plan import read_plan
from heimdall_schemas.failure import Failure

SHARES = st.floats(0, 0.2)
BEHAVIOURS = st.builds(
    Behaviour,
    latency_ms=st.builds(Spread, st.floats(0, 1000), st.floats(0, 1)),
    errors=st.dictionaries(st.sampled_from([400, 429, 500, 503]), SHARES, max_size=2),
    outages=st.tuples(st.builds(Outage, st.just(1.0), st.just(2.0))),
    hang=SHARES,
    cut_stream=SHARES,
    rpm=st.none() | st.integers(1, 100),
)


@given(st.builds(Plan, st.integers(0, 2**31), st.dictionaries(st.text(max_size=8), BEHAVIOURS, max_size=3)))
def test_a_plan_survives_its_json(plan: Plan) -> None:
    assert read_plan(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (b'{"sed": 1}', "sed"),
        (b'{"behaviours": {"*": {"latencyms": 1}}}', "latencyms"),
        (b"[]", "heimdall_config|plan"),
        (b"nope", "plan"),
    ],
)
def test_a_wrong_plan_names_the_field_at_fault(text: bytes, field: str) -> None:
    with pytest.raises(Failure, match=field):
        read_plan(text)


def test_the_most_specific_behaviour_holds() -> None:
    plan = Plan(1, {"*": Behaviour(hang=0.1), "a": Behaviour(hang=0.2), "a/m": Behaviour(hang=0.3)})
    assert [plan.behaviour(*name).hang for name in (("b", "m"), ("a", "x"), ("a", "m"))] == [0.1, 0.2, 0.3]
    assert Plan().behaviour("a", "m") == Behaviour()
    assert plan.models("a") == ["m"]


def test_shares_come_true_over_many_draws() -> None:
    odds = Odds(Behaviour(errors={429: 0.2, 500: 0.1}, hang=0.05, error_in_200=0.05, retry_after_s=3))
    fates = [odds.fate(draw_for(1, number), 0.0, streaming=False) for number in range(4000)]
    counts = {status: sum(fate.status == status for fate in fates) for status in (429, 500)}
    assert counts[429] == pytest.approx(800, rel=0.15)
    assert counts[500] == pytest.approx(400, rel=0.2)
    assert sum(fate.outcome == "hang" for fate in fates) == pytest.approx(200, rel=0.3)
    assert {fate.retry_after_s for fate in fates if fate.status == 429} == {3}
    assert {fate.retry_after_s for fate in fates if fate.status == 500} == {None}


def test_streams_are_cut_and_bodies_truncated() -> None:
    odds = Odds(Behaviour(cut_stream=1.0, truncated_body=1.0))
    assert odds.fate((0.5, 0.5), 0.0, streaming=True).outcome == "cut"
    assert odds.fate((0.5, 0.5), 0.0, streaming=False).outcome == "truncated"


@pytest.mark.parametrize(("elapsed_s", "status"), [(0.9, 200), (1.0, 503), (1.9, 503), (2.0, 200), (5.0, 529)])
def test_an_outage_has_a_beginning_and_an_end(elapsed_s: float, status: int) -> None:
    odds = Odds(Behaviour(outages=(Outage(1, 2), Outage(5, 6, status=529))))
    assert odds.fate((0.5, 0.5), elapsed_s, streaming=False).status == status


def test_half_the_latencies_are_below_the_median() -> None:
    odds = Odds(Behaviour(latency_ms=Spread(100, 0.5)))
    latencies = [odds.fate(draw_for(1, n), 0.0, streaming=False).latency_s for n in range(2000)]
    assert sum(latency < 0.1 for latency in latencies) == pytest.approx(1000, rel=0.1)


@given(st.integers(0, 100), st.text(max_size=10), st.integers(0, 5))
def test_a_draw_is_uniform_and_repeats_itself(seed: int, name: str, number: int) -> None:
    draw = draw_for(seed, name, number)
    assert draw == draw_for(seed, name, number)
    assert all(0 < u < 1 for u in draw)


def test_a_rate_window_counts_each_key_and_opens_again() -> None:
    windows = RateWindows()
    assert [windows.wait_s("a", 2, at) for at in (0.0, 1.0, 2.0)] == [0.0, 0.0, 58.0]
    assert windows.wait_s("b", 2, 2.0) == 0.0
    assert windows.wait_s("a", 2, 60.0) == 0.0


def asked(text: str = "why?", **fields: object) -> Asked:
    defaults: dict[str, object] = {"provider": "p", "model": "m", "stream": False, "texts": (text,)}
    return Asked(**{**defaults, **fields})  # type: ignore[arg-type]  # a test's shorthand


@given(st.text(max_size=50), st.floats(1, 5000), st.floats(0, 1))
def test_the_same_request_gets_the_same_answer(text: str, median: float, sigma: float) -> None:
    length = Spread(median, sigma)
    answer = answer_to(asked(text), length)
    assert answer == answer_to(asked(text), length)
    assert len(answer.text.split(" ")) == answer.completion_tokens


def test_another_conversation_gets_another_answer() -> None:
    assert answer_to(asked("a"), Spread(40)).text != answer_to(asked("b"), Spread(40)).text


def test_the_output_limit_cuts_the_answer() -> None:
    answer = answer_to(asked(max_tokens=5), Spread(40))
    assert (answer.completion_tokens, answer.finish_reason) == (5, "length")


def test_more_effort_is_billed_as_more_reasoning() -> None:
    tokens = [answer_to(asked(effort=effort), Spread(40)).reasoning_tokens for effort in (None, "low", "high")]
    assert tokens == [0, 20, 160]


def test_usage_follows_the_length_of_the_prompt() -> None:
    assert answer_to(asked("x" * 4000), Spread(1)).prompt_tokens == 1004
