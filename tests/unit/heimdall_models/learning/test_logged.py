"""What `heimdall replay` wrote comes back as arrays; what cannot be learned from is refused or counted."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from tests.unit.heimdall_fleet.learn.made import NOON, Desk, cached, decision, feedback, outcome

from heimdall_models.features import FEATURE_NAMES, FEATURE_VERSION
from heimdall_models.learning.logged import FEWEST_RATED, NOBODY, DatasetError, is_dataset, read_logged
from heimdall_models.learning.offpolicy import possible


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_replayed_decision_comes_back_with_its_outcome(desk: Desk) -> None:
    desk.run(decision("r1", bucket="hard"), outcome("r1", bucket="hard"), feedback("r1", score=0.25))

    logged = read_logged(desk.out)

    assert len(logged) == 1
    assert logged.models == ("a/small", "b/large")
    assert logged.served_model.tolist() == ["a/small"]
    assert (logged.p_served[0], logged.reward[0], logged.cost_usd_micros[0]) == (0.95, 0.25, 130.0)
    assert logged.time_ms[0] == NOON.timestamp() * 1000
    assert logged.features[0, FEATURE_NAMES.index("text_score")] == -1.0
    assert (logged.bucket[0], bool(logged.forced[0]), logged.alpha[0]) == ("hard", True, 0.7)
    assert logged.candidates.cost_usd_micros.tolist() == [[120.0, 900.0]]
    assert logged.clusters.tolist() == [[3, 1]]
    assert logged.cluster_weights.sum() == pytest.approx(1.0)
    assert logged.question.tolist() == ["r1"]
    assert logged.text == (None,)


def test_cached_copies_share_the_draw_and_the_caller_s_choice_of_their_origin(desk: Desk) -> None:
    desk.run(
        *(decision(name, question=said) for name, said in (("plain", None), ("asked", "hash"))),
        decision("pinned", decision_type="pinned"),
        *(cached(f"copy of {name}", name, 1) for name in ("plain", "pinned")),
        {**cached("copy of asked", "asked", 1), "question": "hash"},
    )

    logged = read_logged(desk.out)

    found = dict(zip(logged.request_id.tolist(), logged.question.tolist(), strict=True))
    assert found == {
        "plain": "plain",
        "copy of plain": "plain",
        "asked": "hash",
        "copy of asked": "hash",
        "pinned": "pinned",
        "copy of pinned": "pinned",
    }
    forced = dict(zip(logged.request_id.tolist(), logged.forced.tolist(), strict=True))
    assert sorted(name for name, is_so in forced.items() if is_so) == ["copy of pinned", "pinned"]


@pytest.mark.parametrize(("rated", "silent"), [(FEWEST_RATED - 1, 0), (FEWEST_RATED, 30)])
def test_where_enough_answers_were_rated_the_signs_of_the_others_are_no_reward(
    desk: Desk, rated: int, silent: int
) -> None:
    everyone = [f"r{at:03}" for at in range(rated + 30)]
    desk.run(
        *(record for name in everyone for record in (decision(name), outcome(name))),
        *(feedback(name, score=0.25) for name in everyone[:rated]),
    )

    logged = read_logged(desk.out)

    assert int(np.isnan(logged.reward).sum()) == silent
    assert sum(count for why, count in logged.left_out.items() if "not rated" in why) == silent


def test_rows_come_in_the_order_of_time(desk: Desk) -> None:
    desk.run(decision("late", 9), decision("early", 1), decision("next day", 60 * 24))

    assert read_logged(desk.out).request_id.tolist() == ["early", "late", "next day"]


def test_a_range_of_time_leaves_out_what_lies_outside(desk: Desk) -> None:
    desk.run(*(decision(f"r{minute}", minute) for minute in range(4)))

    found = read_logged(desk.out, since=NOON + timedelta(minutes=1), until=NOON + timedelta(minutes=3))

    assert found.request_id.tolist() == ["r1", "r2"]


def test_a_request_that_nobody_answered_is_served_by_nobody(desk: Desk) -> None:
    desk.run(decision("r1"))

    logged = read_logged(desk.out)

    assert logged.served.tolist() == [NOBODY]
    assert logged.served_model.tolist() == [""]
    assert np.isnan(logged.reward[0])
    assert np.isnan(logged.p_served[0])


def test_features_of_another_version_are_left_out_and_counted(desk: Desk) -> None:
    old = decision("old")
    desk.run(decision("new"), {**old, "features": {**old["features"], "feature_version": "0"}}, outcome("no decision"))

    logged = read_logged(desk.out)

    assert logged.request_id.tolist() == ["new"]
    assert sorted(logged.left_out.values()) == [1, 1]
    assert any("another version" in why for why in logged.left_out)


def test_a_data_set_of_nothing_but_another_version_is_refused(desk: Desk) -> None:
    old = decision("old")
    desk.run({**old, "features": {**old["features"], "feature_version": "0"}})

    with pytest.raises(
        DatasetError, match=f"1 rows: features of another version than {FEATURE_VERSION}: without the prompt"
    ):
        read_logged(desk.out)


def test_a_gap_of_the_topic_is_told(desk: Desk) -> None:
    desk.run(decision("r1"))
    manifest = orjson.loads(desk.layout.manifest.read_bytes())
    manifest["gaps"] = [{"source": "audit:0", "first": first, "last": last} for first, last in ((0, 4), (7, 7))]
    desk.layout.manifest.write_bytes(orjson.dumps(manifest))

    assert [count for why, count in read_logged(desk.out).left_out.items() if "no random sample" in why] == [2]


def test_a_pinned_request_keeps_its_model(desk: Desk) -> None:
    desk.run(decision("r1", decision_type="pinned"), decision("r2", 1))

    assert read_logged(desk.out).forced.tolist() == [True, False]


def test_an_empty_data_set_says_so(desk: Desk) -> None:
    desk.run()

    with pytest.raises(DatasetError, match="it has no decisions; replay more of the audit first"):
        read_logged(desk.out)


def test_features_in_another_order_are_refused(desk: Desk) -> None:
    desk.run(decision("r1"))
    manifest = orjson.loads(desk.layout.manifest.read_bytes())
    desk.layout.manifest.write_bytes(orjson.dumps({**manifest, "feature_names": ["one", "two"]}))

    with pytest.raises(DatasetError, match="other features than this version computes"):
        read_logged(desk.out)


def test_outcome_tables_are_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text("{}")

    assert not is_dataset(tmp_path)
    with pytest.raises(DatasetError, match="not a directory that `heimdall replay` wrote"):
        read_logged(tmp_path)


def test_rows_are_taken_with_all_that_belongs_to_them(desk: Desk) -> None:
    desk.run(*(decision(f"r{minute}", minute, text=f"text {minute}") for minute in range(3)))

    last = read_logged(desk.out).rows(np.array([False, False, True]))

    assert last.request_id.tolist() == ["r2"]
    assert last.text == ("text 2",)
    assert last.features.shape == (1, len(FEATURE_NAMES))
    assert last.candidates.score.tolist() == [[0.5, 0.3]]


def test_who_could_be_drawn_over_all_buckets_is_known_and_a_bucket_of_the_draw_is_no_guardrails(desk: Desk) -> None:
    """The second row's bucket is that of the model that was drawn; the third one's is a guardrail's."""
    reach = ["a/small", "b/large", "d/elsewhere"]
    desk.run(
        decision("r1", across=reach, p_chosen=0.9), outcome("r1", p_served=0.9),
        decision("r2", 1, across=reach, explored=True, bucket="hard"), outcome("r2", 1.1, p_served=0.1),
        decision("r3", 2, bucket="hard"), outcome("r3", 2.1, p_served=0.9),
    )  # fmt: skip
    logged = read_logged(desk.out)
    assert logged.models == ("a/small", "b/large", "d/elsewhere")
    assert logged.drawable.tolist() == [[True, True, True], [True, True, True], [True, True, False]]
    assert logged.was_candidate[:, 2].tolist() == [False, False, False]
    assert logged.forced.tolist() == [False, False, True]
    assert possible(np.array([2, 2, 2]), logged).tolist() == [True, True, False]
    assert logged.rows(np.array([2])).drawable.tolist() == [[True, True, False]]


def test_a_data_set_of_the_release_before_is_read_without_what_it_lacks(desk: Desk) -> None:
    desk.run(decision("r1"), outcome("r1"))
    (file,) = desk.layout.days().values()
    pq.write_table(pq.read_table(file, partitioning=None).drop_columns(["across"]), file)
    assert read_logged(desk.out).across is None
