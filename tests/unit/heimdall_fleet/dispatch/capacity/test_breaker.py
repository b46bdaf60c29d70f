from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.dispatch.capacity.breaker import Breaker, BreakerState
from heimdall_fleet.dispatch.settings import BreakerSettings

SETTINGS = BreakerSettings()
OPEN_FOR = SETTINGS.open_for_ms


def calls(breaker: Breaker, *results: bool | None, now_ms: float = 0.0) -> None:
    for healthy in results:
        breaker.end(breaker.start(now_ms), healthy, now_ms)


def opened(now_ms: float = 0.0) -> Breaker:
    breaker = Breaker(SETTINGS)
    calls(breaker, False, False, False, now_ms=now_ms)
    return breaker


def test_three_failures_in_a_row_open_it_while_there_are_few_calls() -> None:
    breaker = Breaker(SETTINGS)
    calls(breaker, True, False, False)
    assert breaker.state(0) is BreakerState.CLOSED
    calls(breaker, False)
    assert breaker.state(0) is BreakerState.OPEN
    assert breaker.ready_at(0) == OPEN_FOR


def test_with_many_calls_only_the_share_of_failures_counts() -> None:
    breaker = Breaker(SETTINGS)
    calls(breaker, *[True] * 40, *[False] * 4)
    assert breaker.state(0) is BreakerState.CLOSED
    calls(breaker, False)
    assert breaker.state(0) is BreakerState.OPEN


def test_failures_that_left_the_window_are_forgotten() -> None:
    breaker = Breaker(SETTINGS)
    calls(breaker, *[True] * 18, False, False, now_ms=0)
    calls(breaker, *[True] * 20, False, now_ms=SETTINGS.window_ms + 1)
    assert breaker.calls(SETTINGS.window_ms + 1) == (21, 1)
    assert breaker.state(SETTINGS.window_ms + 1) is BreakerState.CLOSED


def test_half_open_lets_one_probe_through_at_a_time() -> None:
    breaker = opened()
    assert breaker.state(OPEN_FOR) is BreakerState.HALF_OPEN
    assert breaker.ready_at(OPEN_FOR) == OPEN_FOR
    assert breaker.start(OPEN_FOR)
    assert breaker.ready_at(OPEN_FOR) > OPEN_FOR


def test_two_good_probes_close_it_and_one_bad_probe_opens_it_again() -> None:
    breaker = opened()
    calls(breaker, True, now_ms=OPEN_FOR)
    assert breaker.state(OPEN_FOR) is BreakerState.HALF_OPEN
    calls(breaker, True, now_ms=OPEN_FOR)
    assert breaker.state(OPEN_FOR) is BreakerState.CLOSED
    again = opened()
    calls(again, True, False, now_ms=OPEN_FOR)
    assert again.ready_at(OPEN_FOR) == 2 * OPEN_FOR


def test_a_late_answer_from_before_it_opened_is_no_probe() -> None:
    breaker = Breaker(SETTINGS)
    early = breaker.start(0)
    calls(breaker, False, False, False)
    breaker.end(early, True, OPEN_FOR)
    breaker.end(False, True, OPEN_FOR)
    assert breaker.state(OPEN_FOR) is BreakerState.HALF_OPEN


def test_a_cancelled_probe_makes_room_for_the_next_one_and_proves_nothing() -> None:
    breaker = opened()
    calls(breaker, None, None, None, now_ms=OPEN_FOR)
    assert breaker.state(OPEN_FOR) is BreakerState.HALF_OPEN
    assert breaker.ready_at(OPEN_FOR) == OPEN_FOR


@given(st.lists(st.tuples(st.floats(0, 20_000), st.sampled_from([True, False, None])), max_size=200))
def test_whatever_happens_it_is_ready_again_after_its_time(events: list[tuple[float, bool | None]]) -> None:
    breaker, now_ms = Breaker(SETTINGS), 0.0
    for pause_ms, healthy in events:
        now_ms += pause_ms
        if breaker.ready_at(now_ms) <= now_ms:
            calls(breaker, healthy, now_ms=now_ms)
    counted, failures = breaker.calls(now_ms)
    assert 0 <= failures <= counted
    assert breaker.ready_at(now_ms + OPEN_FOR) == now_ms + OPEN_FOR


@given(st.lists(st.booleans(), min_size=20, max_size=400))
def test_it_never_stays_closed_above_the_share(results: list[bool]) -> None:
    breaker = Breaker(SETTINGS)
    for healthy in results:
        if breaker.state(0) is not BreakerState.CLOSED:
            return
        calls(breaker, healthy)
        counted, failures = breaker.calls(0)
        if breaker.state(0) is BreakerState.CLOSED and counted >= SETTINGS.min_calls and not healthy:
            assert failures <= SETTINGS.failure_ratio * counted
