"""Shadows of a replay: one of each request, whatever comes twice or late, and gone with their tenant."""

from datetime import UTC, datetime
from typing import Any

import pyarrow.parquet as pq
from tests.unit.heimdall_fleet.learn.made import Desk, decision, feedback, outcome, shadow

from heimdall_fleet.learn.erase import erase


def kept(desk: Desk) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(desk.layout.shadows).to_pylist() if desk.layout.shadows.exists() else []
    assert len({row["request_id"] for row in rows}) == len(rows)
    return {row["request_id"]: row for row in rows}


def test_a_data_set_without_shadows_has_no_file_of_them(desk: Desk) -> None:
    desk.run(decision("r1"), outcome("r1"))
    assert not desk.layout.shadows.exists()
    assert desk.manifest()["shadows"]["records"] == 0


def test_a_shadow_stands_beside_its_request_with_its_signs_of_worth(desk: Desk) -> None:
    desk.run(decision("r1"), outcome("r1"), shadow("r1", finish_reason="length"), shadow("elsewhere"))
    found = kept(desk)["r1"]
    assert (found["model"], found["served_model"], found["share"], found["p_drawn"]) == (
        "b/large",
        "a/small",
        0.5,
        0.25,
    )
    assert found["cost_usd_micros"] == 700
    assert (found["r_finish"], found["r_refusal"], found["r_schema"], found["judge_shadow"]) == (0.0, 1.0, 1.0, None)
    row = desk.rows()["r1"]
    assert (row["cost_usd_micros"], row["served_model"]) == (130, "a/small")
    assert desk.manifest()["shadows"] == {
        "records": 2,
        "answered": 2,
        "judged": 0,
        "paired": 1,
        "cost_usd_micros": 1_400,
    }


def test_scores_of_a_judge_are_kept(desk: Desk) -> None:
    judge = {"model": "j/judge", "score_served": 0.25, "score_shadow": 1.0, "order": "ba", "cost_usd_micros": 9}
    desk.run(
        decision("r1"), shadow("r1", judge=judge), shadow("r2", judge={"model": "j/judge", "failure": "no verdict"})
    )
    assert [(row["judge_served"], row["judge_shadow"]) for row in kept(desk).values()] == [(0.25, 1.0), (None, None)]
    assert desk.manifest()["shadows"]["judged"] == 1


def test_what_a_judge_says_of_the_callers_own_answers_is_covered_like_a_signal_and_is_no_reward(desk: Desk) -> None:
    scored = {
        name: {"score_served": said, "score_shadow": 1.0} for name, said in (("r1", 0.25), ("r2", 0.75), ("x", 0.0))
    }
    desk.run(
        *(decision(name) for name in ("r1", "r2", "r3", "r4")),
        *(shadow(name, judge=judge) for name, judge in scored.items()),
    )
    assert desk.manifest()["coverage"]["judge"] == {"rows": 2, "share": 0.5, "mean": 0.5}
    assert {row["reward"] for row in desk.rows().values()} == {None}
    erase(desk.out, "nobody")
    assert desk.manifest()["coverage"]["judge"]["rows"] == 2


def test_a_shadow_that_was_not_answered_has_no_sign_of_worth(desk: Desk) -> None:
    desk.run(decision("r1"), shadow("r1", state="failed", failure="policy_budget", selected_model=None, attempts=[]))
    found = kept(desk)["r1"]
    assert (found["state"], found["r_finish"], found["r_refusal"]) == ("failed", None, None)
    assert desk.manifest()["shadows"]["paired"] == 0


def test_copies_collapse_and_the_first_one_counts_also_over_runs(desk: Desk) -> None:
    desk.run(decision("r1"), shadow("r1", cost_usd_micros=1), shadow("r1", cost_usd_micros=2))
    desk.run(shadow("r1", cost_usd_micros=3), shadow("r0", -5), feedback("r1", score=1.0))
    assert {name: row["cost_usd_micros"] for name, row in kept(desk).items()} == {"r0": 700, "r1": 1}


def test_calls_of_an_overtaken_worker_are_no_shadow(desk: Desk) -> None:
    desk.run(decision("r1"), shadow("r1", superseded=True, state="failed"), shadow("r1", 2))
    assert kept(desk)["r1"]["state"] == "answered"


def test_a_shadow_without_its_model_is_set_aside(desk: Desk) -> None:
    broken = shadow("r1")
    del broken["model"]
    run = desk.run(decision("r1"), broken)
    assert run["counts"]["unreadable"] == 1
    assert kept(desk) == {}


def test_an_erased_tenants_shadows_are_gone_and_do_not_come_back(desk: Desk) -> None:
    records = [decision("r1", tenant="acme"), shadow("r1", tenant="acme"), decision("r2"), shadow("r2")]
    desk.run(*records)
    erase(desk.out, "acme", lambda: datetime(2026, 11, 22, tzinfo=UTC))
    assert set(kept(desk)) == {"r2"}
    desk.run(*records)
    assert set(kept(desk)) == {"r2"}
