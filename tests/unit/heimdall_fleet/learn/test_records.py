"""Bytes to rows."""

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.heimdall_fleet.learn.made import decision, feedback, outcome

from heimdall_fleet.learn.records import FIELDS, Row, Unreadable, read_row
from heimdall_models.features import FEATURE_NAMES, FEATURE_VERSION


def read(record: object) -> Row:
    return read_row(orjson.dumps(record))


def test_every_table_has_its_fields_in_order() -> None:
    rows = [read(decision("r")), read(outcome("r")), read(feedback("r", label="hard"))]
    assert [row.table for row in rows] == ["decision", "outcome", "feedback"]
    named = dict(zip(FIELDS["decision"], rows[0].values, strict=False))
    assert (named["percentile"], named["bundle"], named["feature_version"]) == (0.5, "b1", FEATURE_VERSION)
    assert len(rows[0].values) == len(FIELDS["decision"]) + 4
    assert dict(zip(FIELDS["outcome"], rows[1].values, strict=True))["latency_ms"] == 805.5
    assert rows[2].values[2:] == (None, None, "hard")


def test_a_line_of_tail_is_the_record_inside_it() -> None:
    assert read({"topic": "t", "offset": 3, "value": decision("r")}) == read(decision("r"))


def features_of(row: Row) -> list[float]:
    packed: bytes = row.values[len(FIELDS["decision"])]
    found: list[float] = np.frombuffer(packed, np.float32).tolist()
    return found


def test_a_feature_has_its_place_in_whatever_order_a_record_names_it() -> None:
    row = read(decision("r", features={"numeric": {name: at for at, name in enumerate(reversed(FEATURE_NAMES))}}))
    assert features_of(row) == list(reversed(range(len(FEATURE_NAMES))))


def test_features_that_this_version_does_not_know_are_named_and_left_out() -> None:
    row = read(decision("r", features={"numeric": {"mood": 9.0, FEATURE_NAMES[-1]: 2.0}}))
    assert row.unknown_features == ("mood",)
    assert features_of(row) == [*[0.0] * (len(FEATURE_NAMES) - 1), 2.0]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "empty"),
        (b"{", "not JSON"),
        (b"[1]", "^no JSON object"),
        (b'{"kind": "pair"}', "newer fleet"),
        (b'{"kind": "outcome", "request_id": "r"}', "'state' is missing"),
        (orjson.dumps(decision("r", features={"numeric": {"entropy": "much"}})), "not what it should be"),
        (b'{"request_id": "r"}', "^neither an audit record nor feedback.*no score, accepted or label"),
        (b'{"request_id": "r", "score": "good"}', "^the score 'good' is no number"),
        (b'{"request_id": "r", "score": 2}', "^the score 2 is not between 0 and 1"),
        (b'{"request_id": "r", "label": "easy"}', "none of cheap"),
        (b'{"request_id": "", "score": 1}', "request_id is empty"),
        (b'{"request_id": "r", "score": 1, "time": "2026-11-21T12:00:00"}', "no zone"),
    ],
)
def test_what_is_no_record_says_why(value: bytes | None, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        read_row(value)


ANY = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(), lambda c: st.lists(c, max_size=3)
)


@given(st.sampled_from(sorted(decision("r"))), ANY)
def test_whatever_stands_in_a_field_the_record_is_a_row_or_unreadable(name: str, value: object) -> None:
    try:
        row = read({**decision("r"), name: value})
    except Unreadable:
        return
    assert row.table in FIELDS
