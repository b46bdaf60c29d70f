"""Bytes to rows."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.heimdall_fleet.learn.made import decision, feedback, outcome

from heimdall_fleet.learn.records import FIELDS, Row, Unreadable, read_row
from heimdall_models.features import FEATURE_VERSION


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


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "empty"),
        (b"{", "not JSON"),
        (b"[1]", "no JSON object"),
        (b'{"kind": "pair"}', "newer fleet"),
        (b'{"kind": "outcome", "request_id": "r"}', "'state' is missing"),
        (b'{"request_id": "r"}', "no score, accepted or label"),
        (b'{"request_id": "r", "score": 2}', "not between 0 and 1"),
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
