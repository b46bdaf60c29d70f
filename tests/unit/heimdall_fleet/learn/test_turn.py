"""One turn of the loop: what is learned, what is not, and that nothing is promoted by accident."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.unit.heimdall_fleet.learn.made import Desk
from tests.unit.heimdall_fleet.learn.world import BEGIN, CONFIG, STEP, World

from heimdall_fleet.cli.replay import terms_of
from heimdall_fleet.demo_data.subjects import asks
from heimdall_fleet.learn.turn import NO_DRIFT, Plan, Turn, drift_message, parted, rules_for, turn
from heimdall_fleet.report.routed import routed
from heimdall_models.bundle import load_bundle
from heimdall_models.learning.drift import Drift, Drop
from heimdall_models.learning.logged import read_logged
from heimdall_models.shipped import shipped

TODAY = datetime(2026, 11, 21, tzinfo=UTC)
DEFAULT = shipped("bundles/default")
Replayed = Callable[[list[dict[str, Any]]], Path]


@pytest.fixture
def world() -> World:
    return World(load_bundle(DEFAULT))


@pytest.fixture
def replayed(tmp_path: Path) -> Replayed:
    desk = Desk(tmp_path, terms_of(CONFIG))

    def run(records: list[dict[str, Any]]) -> Path:
        desk.run(*records)
        return desk.out

    return run


def made(dataset: Path, out: Path, recent: timedelta) -> Turn:
    return turn(Plan(dataset, DEFAULT, out, TODAY, recent, rules_for(CONFIG, TODAY.date())))


def test_twenty_rows_teach_nothing_and_say_so(world: World, replayed: Replayed, tmp_path: Path) -> None:
    found = made(replayed(world.records(20, "at_first", 1)), tmp_path / "bundle", timedelta(days=7))
    assert not found.promotable
    assert "20 of 20 rows" in (found.why_not or "")
    assert not (tmp_path / "bundle").exists()
    assert found.as_json()["trained"] is None
    assert found.page() is None


def test_equal_rewards_tell_no_answer_from_another(world: World, replayed: Replayed, tmp_path: Path) -> None:
    records = world.records(300, "at_first", 2)
    dataset = replayed([{**each, "score": 1.0} if "score" in each else each for each in records])
    found = made(dataset, tmp_path / "bundle", timedelta(days=7))
    assert not found.promotable
    assert "rewards are 1" in (found.why_not or "")


def test_texts_are_fitted_to_only_where_a_turn_may_and_are_those_that_triage_scored(
    world: World, replayed: Replayed, tmp_path: Path
) -> None:
    records = world.records(300, "at_first", 2)
    texts = iter(ask.body("at_first")["messages"][-1]["content"] for ask in asks(300, 2))
    plan = Plan(
        replayed([{**each, "text": next(texts)} if each.get("kind") == "decision" else each for each in records]),
        DEFAULT, tmp_path / "bundle", TODAY, timedelta(days=7), rules_for(CONFIG, TODAY.date()),
    )  # fmt: skip

    told = [found.warnings for found in (turn(plan).trained, turn(replace(plan, fit_text=True)).trained) if found]

    asked = [
        any("300 of 300 usable rows have the text that was scored" in each for each in warnings) for warnings in told
    ]
    assert asked == [False, True]


def test_the_recent_stretch_ends_with_the_log_and_not_with_the_clock(world: World, replayed: Replayed) -> None:
    logged = read_logged(replayed(world.records(50, "at_first", 3)))
    before, recent = parted(logged, 10 * STEP)
    assert (len(before), len(recent)) == (40, 10)
    assert len(parted(logged, BEGIN + 20 * STEP)[1]) == 30
    assert recent.time_ms[-1] == round((BEGIN + 50 * STEP).timestamp() * 1000)


@pytest.mark.slow
def test_a_model_that_gets_worse_is_noticed_learned_around_and_the_result_may_serve(
    world: World, replayed: Replayed, tmp_path: Path
) -> None:
    dataset = replayed([*world.records(1_000, "at_first", 4), *world.records(4_000, "changed", 5)])
    found = made(dataset, tmp_path / "bundle", 4_000 * STEP)
    assert any(name.startswith("reward:openai/gpt-4o-mini") for name in found.drift.alarms)
    assert found.learned_from_recent
    assert found.promotable, found.why_not
    assert "<svg" in (found.page() or "")
    learned = load_bundle(tmp_path / "bundle")
    later = [*world.records(1_000, "after", 6), *World(learned, world.now).records(1_000, "after", 7)]
    counted = routed([each for each in later if "kind" in each], load_bundle(DEFAULT).hash)
    assert counted["well_routed_after"] > counted["well_routed_before"] + 0.1


def test_a_model_is_one_however_the_configuration_spells_it() -> None:
    router = CONFIG.router.model_copy(update={"cheap_candidates": ("gpt-6-luna",)})
    pools = rules_for(CONFIG.model_copy(update={"router": router}), TODAY.date()).pools
    assert pools is not None
    assert pools["cheap"] == ("openai/gpt-6-luna",)


def test_what_triage_shows_of_drift_is_the_worst_of_it_and_nothing_where_little_is_known() -> None:
    drops = (Drop("a/b", 3, 0.9, 0.5, 9.0), Drop("a/b", 4, 0.9, 0.7, 5.0), Drop("c/d", 3, 0.8, 0.6, 4.5))
    found = Drift((100, 100), {"entropy": 0.4, "lines": 0.1}, 0.02, drops, {}, {"feature:entropy": "moved"})
    told = drift_message(found, BEGIN)
    assert told is not None
    assert (told.psi, told.reward_drops) == ({"features": 0.4, "buckets": 0.02}, {"a/b": 0.4, "c/d": 0.2})
    assert (told.time, told.alarms) == (BEGIN.isoformat(), ("feature:entropy",))
    assert drift_message(NO_DRIFT, BEGIN) is None
