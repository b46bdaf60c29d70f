"""One sick model of an aggregator is taken out alone; a sick aggregator is taken out whole."""

import math

from heimdall_fleet.dispatch.capacity.model_health import ModelHealth
from heimdall_fleet.dispatch.settings import BreakerSettings

SETTINGS = BreakerSettings(failures_in_a_row=3, successes_to_close=2, open_for_ms=1_000, window_ms=10_000)


def ends(health: ModelHealth, *calls: tuple[str, bool]) -> list[bool | None]:
    return [health.end(model, health.start(model, at), healthy, at) for at, (model, healthy) in enumerate(calls)]


def test_a_failure_counts_for_the_provider_until_another_model_has_answered() -> None:
    health = ModelHealth(SETTINGS)
    assert ends(health, ("a", False), ("a", False), ("b", True), ("a", False)) == [False, False, True, None]
    assert health.open(5) == ["a"]
    assert health.ready_at("a", 5) > 5
    assert health.ready_at("b", 5) == -math.inf


def test_answers_from_before_the_trouble_excuse_nobody() -> None:
    health = ModelHealth(SETTINGS)
    assert ends(health, ("b", True), ("a", False), ("b", False)) == [True, False, False]


def test_its_own_answer_is_no_excuse() -> None:
    assert ends(ModelHealth(SETTINGS), ("a", False), ("a", True), ("a", False)) == [False, True, False]


def test_a_sick_model_is_probed_and_comes_back() -> None:
    health = ModelHealth(SETTINGS)
    ends(health, ("a", False), ("b", True), ("a", False), ("a", False))
    for at in (2_000.0, 2_001.0):
        assert health.ready_at("a", at) == at
        probe = health.start("a", at)
        assert probe
        assert health.end("a", probe, True, at) is True
    assert health.open(2_002) == []


def test_what_says_nothing_counts_nowhere() -> None:
    health = ModelHealth(SETTINGS)
    assert health.end("a", False, None, 1) is None
    assert health.ready_at("a", 1) == -math.inf


def test_healthy_models_are_not_kept() -> None:
    health = ModelHealth(SETTINGS)
    ends(health, ("a", False))
    health.end("a", False, True, 60_000)
    assert health.ready_at("a", 60_000) == -math.inf
