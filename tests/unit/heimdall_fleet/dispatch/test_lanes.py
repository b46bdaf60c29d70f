from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.dispatch.lanes import SHARES, Lanes

LANES = st.sampled_from(list(SHARES))


def drain(lanes: Lanes[str]) -> list[str]:
    order = []
    while (item := lanes.pop()) is not None:
        order.append(item)
    return order


def test_inside_a_lane_the_earliest_deadline_goes_first() -> None:
    lanes: Lanes[str] = Lanes()
    for name, deadline in (("c", 3), ("a", 1), ("b", 2)):
        lanes.push("standard", deadline, name)
    assert drain(lanes) == ["a", "b", "c"]


def test_equal_deadlines_go_in_the_order_they_came() -> None:
    lanes: Lanes[str] = Lanes()
    for name in "abc":
        lanes.push("batch", 1.0, name)
    assert drain(lanes) == ["a", "b", "c"]


def test_interactive_gets_most_places_and_batch_is_never_starved() -> None:
    lanes: Lanes[str] = Lanes()
    for n in range(400):
        for lane in SHARES:
            lanes.push(lane, n, lane)
    first = Counter(lanes.pop() for _ in range(210))
    assert first == {"interactive": 160, "standard": 40, "batch": 10}


def test_a_lane_that_was_empty_does_not_claim_the_past() -> None:
    lanes: Lanes[str] = Lanes()
    for n in range(100):
        lanes.push("interactive", n, "interactive")
    for _ in range(90):
        lanes.pop()
    for n in range(100):
        lanes.push("batch", n, "batch")
    assert Counter(lanes.pop() for _ in range(10))["interactive"] >= 8


def test_an_unknown_lane_is_the_standard_one() -> None:
    lanes: Lanes[str] = Lanes()
    lanes.push("nonsense", 1, "x")
    assert drain(lanes) == ["x"]


@given(st.lists(st.tuples(LANES, st.integers(0, 100)), max_size=100))
def test_everything_comes_out_once_and_in_deadline_order_within_its_lane(items: list[tuple[str, int]]) -> None:
    lanes: Lanes[tuple[str, int, int]] = Lanes()
    for n, (lane, deadline) in enumerate(items):
        lanes.push(lane, deadline, (lane, deadline, n))
    assert len(lanes) == len(items)
    order = []
    while (item := lanes.pop()) is not None:
        order.append(item)
    for lane in SHARES:
        mine = [(deadline, n) for each, deadline, n in order if each == lane]
        assert mine == sorted(mine)
    assert len(order) == len(items)
