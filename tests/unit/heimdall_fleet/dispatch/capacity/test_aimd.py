from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.dispatch.capacity.aimd import Aimd


def flight(aimd: Aimd) -> None:
    """As many calls at once as the limit allows, all of them answered."""
    size = aimd.limit
    for _ in range(size):
        aimd.start()
    for _ in range(size):
        aimd.in_flight = size
        aimd.succeeded()
    aimd.in_flight = 0


def test_slow_start_doubles_the_limit_each_flight() -> None:
    aimd = Aimd(start=4, ceiling=1_000)
    flight(aimd)
    assert aimd.limit == 8
    flight(aimd)
    assert aimd.limit == 16


def test_after_a_cut_it_grows_by_one_a_flight() -> None:
    aimd = Aimd(start=64, ceiling=1_000)
    aimd.limited(1, None, 2)
    assert aimd.limit == 32
    flight(aimd)
    assert 32 <= aimd.limit <= 33


def test_a_flight_of_refusals_cuts_once() -> None:
    aimd = Aimd(start=64, ceiling=1_000)
    for ended in range(10, 40):
        aimd.limited(started_ms=5, retry_after_ms=None, now_ms=ended)
    assert aimd.limit == 32
    aimd.limited(started_ms=41, retry_after_ms=None, now_ms=50)
    assert aimd.limit == 16


def test_retry_after_closes_the_key_and_slow_start_begins_again() -> None:
    aimd = Aimd(start=64, ceiling=1_000)
    aimd.limited(1, retry_after_ms=500, now_ms=10)
    assert aimd.closed_until == 510
    assert aimd.limit == 1
    flight(aimd)
    assert aimd.limit == 2


def test_an_idle_key_does_not_grow() -> None:
    aimd = Aimd(start=10, ceiling=100)
    for _ in range(100):
        aimd.start()
        aimd.succeeded()
        aimd.finish()
    assert aimd.limit == 10


def test_promised_places_are_not_free() -> None:
    aimd = Aimd(start=2, ceiling=2)
    aimd.start()
    assert aimd.has_room()
    assert not aimd.has_room(promised=1)


@given(st.lists(st.sampled_from(["ok", "429", "wait"]), max_size=300), st.integers(1, 50), st.integers(1, 100))
def test_the_limit_stays_between_one_and_the_ceiling(events: list[str], start: int, ceiling: int) -> None:
    aimd = Aimd(start, ceiling)
    for now, event in enumerate(events):
        aimd.in_flight = aimd.limit
        if event == "ok":
            aimd.succeeded()
        else:
            aimd.limited(now, 10 if event == "wait" else None, now)
        assert 1 <= aimd.limit <= ceiling
