"""From records to rows."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.unit.heimdall_fleet.learn.made import (
    NOON,
    TERMS,
    TOMORROW,
    Desk,
    cached,
    decision,
    feedback,
    lines,
    outcome,
)

from heimdall_fleet.learn.dataset import DatasetError, read_position, write_position
from heimdall_fleet.learn.facts import SAMPLED
from heimdall_fleet.learn.settle import settle
from heimdall_fleet.learn.sources import Chunk, FileSource, SourceError
from heimdall_fleet.learn.staging import Staging, Window
from heimdall_models.features import FEATURE_NAMES


def test_decision_outcome_and_feedback_of_a_request_are_one_row(desk: Desk) -> None:
    desk.run(decision("r", tenant="t", session="s"), outcome("r"), feedback("r", score=0.25))
    row = desk.rows()["r"]
    assert row["time"] == NOON
    assert [c["model"] for c in row["candidates"]] == ["a/small", "b/large"]
    assert len(row["features"]) == len(FEATURE_NAMES)
    assert {n: v for n, v in zip(FEATURE_NAMES, row["features"], strict=True) if v} == {
        "entropy": 2.5,
        "text_score": -1.0,
    }
    weights = np.exp(np.array([0.4, 0.3]) / 0.1)
    assert [c["id"] for c in row["clusters"]] == [3, 1]
    assert [c["weight"] for c in row["clusters"]] == pytest.approx(weights / weights.sum(), rel=1e-6)
    expected = {"served_model": "a/small", "attempts": 1, "latency_ms": 805.5, "prompt_tokens": 10, "reward": 0.25}
    assert {name: row[name] for name in expected} == expected
    assert (row["r_score"], row["r_finish"], row["reward_source"]) == (0.25, 1.0, "explicit")


def test_doing_it_again_changes_nothing(desk: Desk) -> None:
    records = [decision("a"), outcome("a"), decision("b", 1), outcome("b", 2), feedback("a", accepted=True)]
    desk.run(*records)
    once = desk.rows()
    told = desk.run(*records, *records)
    assert desk.rows() == once
    assert told["counts"]["copies"] == 4


def test_feedback_that_comes_later_joins_its_request_on_the_next_run(desk: Desk) -> None:
    desk.run(feedback("b", score=1.0), decision("a"), outcome("a"))
    assert desk.manifest()["feedback_for_unknown_ids"] == 1
    assert desk.rows()["a"]["reward_source"] == "implicit"
    desk.run(feedback("a", score=0.0), decision("b", TOMORROW), outcome("b", TOMORROW))
    rows = desk.rows()
    assert (rows["a"]["reward"], rows["b"]["reward"]) == (0.0, 1.0)
    assert desk.manifest()["feedback_for_unknown_ids"] == 0
    assert list(desk.manifest()["days"]) == ["2026-11-21", "2026-11-22"]


def test_an_outcome_of_the_next_day_stays_with_its_decision_whichever_comes_first(desk: Desk) -> None:
    late = 13 * 60
    desk.run(outcome("early", late), decision("slow", 1))
    assert desk.manifest()["days"] == {"2026-11-21": 1, "2026-11-22": 1}
    desk.run(decision("early", 1), outcome("slow", late))
    assert desk.manifest()["days"] == {"2026-11-21": 2}
    assert {row["state"] for row in desk.rows().values()} == {"answered"}


def test_of_contradicting_feedback_the_latest_word_counts_each_field_for_itself(desk: Desk) -> None:
    said = [feedback("r", 9, score=0.9), feedback("r", 7, score=0.1), feedback("r", 6, accepted=False)]
    told = desk.run(decision("r"), outcome("r"), *said)
    row = desk.rows()["r"]
    assert (row["r_score"], row["r_accepted"]) == (0.9, 0.0)
    assert told["counts"]["contradicting_feedback"] == 1


def test_a_cached_decision_gets_the_features_and_candidates_of_its_origin(desk: Desk) -> None:
    desk.run(decision("first", TOMORROW / 2 - 1), outcome("first"))
    told = desk.run(cached("copy", "first", TOMORROW / 2 + 1), cached("alone", "nobody", 3))
    rows = desk.rows()
    for name in ("features", "candidates", "clusters"):
        assert rows["copy"][name] == rows["first"][name]
    assert rows["alone"]["features"] is None
    assert told["counts"]["cached_without_origin"] == 1
    assert desk.manifest()["without_features"] == 1


def test_a_decision_with_clusters_but_no_numbers_counts_as_one_without_features(desk: Desk) -> None:
    desk.run(decision("whole"), decision("bare", features={"clusters": [3], "cluster_similarities": [0.4]}))
    assert {name for name, row in desk.rows().items() if row["features"] is None} == {"bare"}
    assert desk.manifest()["without_features"] == 1


def test_the_same_question_again_in_a_session_is_a_bad_sign_for_the_first_answer(desk: Desk) -> None:
    asked = {"session": "s", "question": "q1"}
    desk.run(
        decision("first", 0, **asked),
        decision("again", 5, **asked),
        decision("much-later", 60, **asked),
        decision("elsewhere", 1, session="other", question="q1"),
        *(outcome(name) for name in ("first", "again", "much-later", "elsewhere")),
    )
    rows = desk.rows()
    assert {name: row["r_retry"] for name, row in rows.items()} == {
        "first": 0.0,
        "again": 1.0,
        "much-later": None,
        "elsewhere": 1.0,
    }


def test_a_request_that_nobody_answered_has_no_signs_of_a_good_answer(desk: Desk) -> None:
    asked = {"session": "s", "question": "q1", "text": "sort a list"}
    desk.run(
        *(
            decision(name, at, **{**asked, "question": name})
            for at, name in enumerate(("failed", "open", "rated", "last"))
        ),
        *(outcome(name, state="failed", selected_model=None) for name in ("failed", "rated")),
        feedback("rated", score=0.0),
        decision("much-later", 60, **{**asked, "question": "q2"}),
    )
    rows = desk.rows()
    for name in ("failed", "open"):
        assert [rows[name][each] for each in ("r_retry", "r_followup", "reward", "reward_source")] == [None] * 4
    assert (rows["rated"]["reward"], rows["rated"]["reward_source"]) == (0.0, "explicit")


def test_a_question_that_is_put_otherwise_has_a_short_edit_distance(desk: Desk) -> None:
    desk.run(
        decision("a", 0, session="s", text="sort a list"),
        decision("b", 1, session="s", text="sort my list"),
        decision("c", 2, session="s", text="Who was Ada?"),
        *(outcome(name) for name in "abc"),
    )
    rows = desk.rows()
    assert rows["a"]["r_followup"] == pytest.approx(2 / 12)
    assert rows["b"]["r_followup"] > 0.7
    assert rows["c"]["r_followup"] is None


def test_a_record_of_the_version_before_is_a_row_and_new_fields_are_passed_over(desk: Desk) -> None:
    older = {"kind": "decision", "request_id": "old", "time": "2026-11-21T12:00:00Z", "bucket": "mid"}
    wider = decision("wide", from_tomorrow=[1])
    wider["features"]["numeric"]["mood"] = 3.0
    told = desk.run({**older, "selected_model": "a/small"}, wider, {"kind": "shadow", "request_id": "x"})
    rows = desk.rows()
    assert rows["old"]["features"] is None
    assert rows["wide"]["features"] is not None
    assert told["counts"]["unreadable"] == 1
    assert told["unknown_features"] == ["mood"]
    assert "shadow" in desk.layout.set_aside.read_text()


def test_a_decision_of_a_newer_schema_is_left_out_and_kept_aside(desk: Desk) -> None:
    told = desk.run(decision("now"), decision("new", decision_version="2"), outcome("new"))
    rows = desk.rows()
    assert (rows["now"]["decision_type"], rows["new"]["decision_type"]) == ("scored", None)
    assert told["counts"]["newer_schema"] == 1
    assert any("upgrade, then replay the range again" in line for line in desk.said)
    assert '"new' in desk.layout.set_aside.read_text()


def test_a_broken_line_is_named_and_kept_aside_and_the_others_go_on(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    wrong = decision("wrong-type", p_chosen="often")
    file.write_bytes(lines(decision("a"), wrong) + b'{"kind": "decision", "requ\n\n' + lines(outcome("a")))
    told = desk.run_files([file])
    assert list(desk.rows()) == ["a"]
    assert told["counts"]["unreadable"] == 2
    assert f"{file}:3: not JSON" in desk.said[0]
    assert any("the decision of wrong-type: a value has the wrong type" in line for line in desk.said)


def test_a_file_that_is_still_written_is_read_on_where_it_was_whole(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    whole = lines(decision("a"), outcome("a"), decision("b", 1))
    file.write_bytes(whole[:-20])
    told = desk.run_files([file])
    assert told["ranges"][0]["unfinished_line"] == 3
    file.write_bytes(whole)
    told = desk.run_files([file], resume=True)
    assert told["records"] == 1
    assert sorted(desk.rows()) == ["a", "b"]


def test_another_file_under_the_same_name_is_not_gone_on_with(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    file.write_bytes(lines(decision("a")))
    desk.run_files([file])
    file.write_bytes(lines(decision("another")) * 3)
    with pytest.raises(SourceError, match="leave out --resume"):
        desk.run_files([file], resume=True)


def test_nothing_to_read_is_a_data_set_without_rows(desk: Desk) -> None:
    told = desk.run()
    assert told["records"] == 0
    assert desk.manifest()["rows"] == 0
    assert desk.manifest()["coverage"]["score"] == {"rows": 0, "share": 0.0, "mean": None}


def test_only_the_records_of_the_time_asked_for_are_taken(desk: Desk) -> None:
    noon_us = round(NOON.timestamp() * 1e6)
    told = desk.run(
        decision("a"), decision("b", 1), decision("c", 2), window=Window(noon_us + 1, noon_us + 120_000_000)
    )
    assert list(desk.rows()) == ["b"]
    assert told["counts"]["outside_the_time_asked_for"] == 2


def test_changed_weights_are_applied_to_every_day(desk: Desk) -> None:
    said = feedback("old", score=1.0, accepted=False)
    desk.run(decision("old"), outcome("old"), said)
    assert desk.rows()["old"]["reward"] == 0.5
    desk.terms = replace(TERMS, weights={**TERMS.weights, "accepted": 0.0})
    desk.run(decision("new", 3 * TOMORROW))
    assert desk.rows()["old"]["reward"] == 1.0


def test_two_endings_of_a_request_are_counted_and_the_first_stays(desk: Desk) -> None:
    told = desk.run(decision("r"), outcome("r"), outcome("r", 2, state="failed", failure="provider_timeout"))
    assert desk.rows()["r"]["state"] == "answered"
    assert told["counts"]["contradicting_outcomes"] == 1


def test_calls_of_an_overtaken_worker_cost_and_are_no_ending(desk: Desk) -> None:
    wasted = outcome("r", state="failed", superseded=True, cost_usd_micros=40)
    told = desk.run(decision("r"), wasted, outcome("r", cost_usd_micros=100))
    row = desk.rows()["r"]
    assert (row["state"], row["cost_usd_micros"]) == ("answered", 140)
    assert told["counts"]["contradicting_outcomes"] == 0


def test_a_failed_request_has_no_implicit_reward(desk: Desk) -> None:
    desk.run(decision("r"), outcome("r", state="failed", failure="provider_timeout", finish_reason=None, refused=None))
    assert desk.rows()["r"]["reward"] is None


def test_an_interrupted_run_goes_on_with_what_it_had_read(desk: Desk, tmp_path: Path) -> None:
    desk.run(decision("a"), outcome("a"))
    kept = desk.layout.day("2026-11-21").read_bytes()
    desk.run(decision("b", 1))
    position = read_position(desk.layout)
    # As a crash leaves it: read and flushed, the rows not written, a file that no position counts.
    desk.layout.make()
    staging = Staging(desk.layout, Window(), desk.said.append, position.next_seq)
    staging.take(Chunk([lines(decision("c", 2))], lambda _: "here", 1.0))
    position.incoming = staging.flush()
    position.next_seq = staging.next_seq
    write_position(desk.layout, position)
    (desk.layout.incoming / "decision-000000099-2026-11-21.parquet").write_bytes(b"half")
    desk.layout.day("2026-11-21").write_bytes(kept)
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(b"")
    desk.run_files([empty], resume=True)
    assert sorted(desk.rows()) == ["a", "c"]
    assert list(desk.layout.incoming.iterdir()) == []


def test_a_day_of_many_files_is_joined_file_by_file(desk: Desk) -> None:
    desk.run(decision("there"), outcome("there"))
    names = [f"r{number}" for number in range(5)]
    staging = Staging(desk.layout, Window(), desk.said.append, 100)
    incoming: list[str] = []
    for name in names:
        copy = decision(names[0], 5, tenant="of a copy")
        staging.take(Chunk([lines(decision(name)), lines(copy), lines(decision("there"))], lambda _: "here", 1.0))
        incoming += staging.flush()
    staging.take(Chunk([lines(outcome(name)) for name in [*names, "alone"]], lambda _: "here", 1.0))
    incoming += staging.flush()
    desk.layout.make()
    told = settle(desk.layout, [desk.layout.incoming / name for name in incoming], TERMS)
    rows = desk.rows()
    assert sorted(rows) == ["alone", *names, "there"]
    assert {row["state"] for row in rows.values()} == {"answered"}
    assert (rows[names[0]]["tenant"], rows["alone"]["decision_type"]) == (None, None)
    assert told.counts["copies"] == 2 * len(names)


def test_requests_settled_a_few_at_a_time_give_the_rows_that_they_give_together(tmp_path: Path) -> None:
    few, all_at_once = (Desk(tmp_path / name) for name in ("few", "together"))
    records = [
        record
        for number in range(120)
        for record in (
            decision(f"r{number}", number / 100, session=f"s{number % 90}", question=f"q{number % 45}"),
            cached(f"c{number}", f"r{number}", number / 100),
            outcome(f"r{number}", cost_usd_micros=number),
            outcome(f"r{number}", state="failed" if number % 3 else "answered"),
            feedback(f"r{number}", score=number / 120),
            outcome(f"alone-{number}"),
        )
    ]
    told = []
    for desk, at_a_time in ((few, SAMPLED), (all_at_once, len(records))):
        desk.layout.make()
        staging = Staging(desk.layout, Window(), desk.said.append, 0)
        staging.take(Chunk([lines(each) for each in records], lambda _: "here", 1.0))
        incoming = [desk.layout.incoming / name for name in staging.flush()]
        first, again = (settle(desk.layout, incoming, TERMS, at_a_time=at_a_time) for _ in range(2))
        told.append((first, again))
    assert (few.layout.facts(3).exists(), all_at_once.layout.facts(1).exists()) == (True, False)
    assert few.rows() == all_at_once.rows()
    assert told[0] == told[1]
    assert told[0][0].counts["contradicting_outcomes"] == 80


def test_a_data_set_with_other_features_is_refused(desk: Desk) -> None:
    desk.run(decision("a"))
    position = read_position(desk.layout)
    write_position(desk.layout, replace(position, features="another"))
    with pytest.raises(DatasetError, match="new directory"):
        desk.run(decision("b"))


async def test_chunks_say_where_each_line_is_and_how_far_it_is(tmp_path: Path) -> None:
    files = [tmp_path / "one", tmp_path / "two"]
    for file in files:
        file.write_bytes(lines(decision("a"), decision("b")))
    chunks = [chunk async for chunk in FileSource(files).chunks()]
    assert [chunk.place(1) for chunk in chunks] == [f"{file}:2" for file in files]
    assert [chunk.done for chunk in chunks] == [0.5, 1.0]


def test_retry_within_is_what_the_terms_say(desk: Desk) -> None:
    desk.terms = replace(TERMS, retry_within=timedelta(minutes=1))
    desk.run(decision("a", session="s", question="q"), outcome("a"), decision("b", 5, session="s", question="q"))
    assert desk.rows()["a"]["r_retry"] == 1.0
