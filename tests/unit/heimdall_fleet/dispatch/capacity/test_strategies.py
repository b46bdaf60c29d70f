from collections import Counter
from collections.abc import Sequence

import pytest

from heimdall_fleet.dispatch.capacity.keys import Group, KeyState
from heimdall_fleet.dispatch.capacity.strategies import pick
from heimdall_fleet.dispatch.settings import KeySettings, KeyStrategy, ProviderSettings

PROVIDER = ProviderSettings("p", "openai", "", ())


def keys(**weights: float) -> list[KeyState]:
    return [KeyState(KeySettings(name, "s", weight=weight), PROVIDER, Group(name)) for name, weight in weights.items()]


def picks(found: Sequence[KeyState], strategy: KeyStrategy, count: int, floor: float = 0.05) -> Counter[str]:
    return Counter(pick(found, strategy, turn, floor).name for turn in range(1, count + 1))


def test_round_robin_is_even() -> None:
    assert picks(keys(a=1, b=1, c=1), KeyStrategy.ROUND_ROBIN, 300) == {"a": 100, "b": 100, "c": 100}


def test_shares_follow_the_weights() -> None:
    counted = picks(keys(a=50, b=30, c=20), KeyStrategy.WEIGHTED, 2_000)
    for name, share in (("a", 0.5), ("b", 0.3), ("c", 0.2)):
        assert counted[name] / 2_000 == pytest.approx(share, abs=0.03)


def test_weights_are_interleaved_and_not_served_in_blocks() -> None:
    found = keys(a=2, b=1)
    order = "".join(pick(found, KeyStrategy.WEIGHTED, turn, 0).name for turn in range(6))
    assert "aaa" not in order


def test_least_latency_gives_all_to_the_fastest_once_each_is_measured() -> None:
    found = keys(a=1, b=1, c=1)
    for key, latency in zip(found, (300.0, 100.0, 200.0), strict=True):
        key.learn(latency, healthy=True)
    assert picks(found, KeyStrategy.LEAST_LATENCY, 100) == {"b": 100}


def test_least_latency_measures_a_new_key_first() -> None:
    found = keys(a=1, b=1)
    found[0].learn(100.0, healthy=True)
    assert pick(found, KeyStrategy.LEAST_LATENCY, 1, 0).name == "b"


def test_adaptive_takes_share_from_a_slow_key_and_gives_it_back() -> None:
    found = keys(a=1, b=1)
    found[0].learn(100, healthy=True)
    found[1].learn(1_000, healthy=True)
    slow = picks(found, KeyStrategy.ADAPTIVE, 1_000)["b"]
    assert slow < 150
    for _ in range(30):
        found[1].learn(100, healthy=True)
    assert picks(found, KeyStrategy.ADAPTIVE, 1_000)["b"] > 400


def test_adaptive_keeps_a_floor_for_a_key_that_always_fails() -> None:
    found = keys(a=1, b=1)
    for _ in range(100):
        found[1].learn(100, healthy=False)
    assert picks(found, KeyStrategy.ADAPTIVE, 1_000)["b"] >= 40


def test_adaptive_looks_at_headroom() -> None:
    found = keys(a=1, b=1)
    found[0].aimd.in_flight = found[0].aimd.limit
    counted = picks(found, KeyStrategy.ADAPTIVE, 900)
    assert counted["b"] > counted["a"]
