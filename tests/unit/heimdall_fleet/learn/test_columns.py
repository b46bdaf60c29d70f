"""Rows to columns."""

import pytest
from tests.unit.heimdall_fleet.learn.made import TOMORROW, cached, decision, lines, outcome

from heimdall_fleet.learn import columns
from heimdall_fleet.learn.records import Table, read_row

FEW = {"numeric": {"entropy": 1.5}, "clusters": [4], "cluster_similarities": [0.2]}
OTHERS = {"numeric": {"words_log": 2.0, "entropy": 3.0, "unheard_of": 9.0}}
NOTHING: dict[str, object] = {"numeric": {}, "clusters": None}
DECISIONS = [
    decision("few", features=FEW),
    decision("others", features=OTHERS, candidates=[]),
    decision("nothing", features=NOTHING, candidates=None),
    cached("copy", "few", 1),
    decision("few-again", TOMORROW, features=FEW),
]


def values(records: list[dict[str, object]]) -> list[tuple[object, ...]]:
    return [read_row(lines(record)).values for record in records]


@pytest.mark.parametrize(("table", "records"), [("decision", DECISIONS), ("outcome", [outcome("a"), outcome("b")])])
def test_rows_are_the_same_columns_alone_and_together(table: Table, records: list[dict[str, object]]) -> None:
    rows = values(records)
    together = columns.build(table, rows, range(len(rows)))
    alone = [columns.build(table, [row], [seq]) for seq, row in enumerate(rows)]
    assert together.table.to_pylist() == [row for each in alone for row in each.table.to_pylist()]


def test_decisions_come_by_their_day() -> None:
    table = columns.build("decision", values(DECISIONS), range(len(DECISIONS))).table
    days = columns.by_day(table)
    assert {day: rows.num_rows for day, rows in days.items()} == {"2026-11-21": 4, "2026-11-22": 1}
    assert [columns.first_seq(rows) for rows in days.values()] == [0, 4]


def test_decisions_of_two_days_that_came_in_turn_lie_by_day_in_the_order_of_their_numbers() -> None:
    records = [decision("a"), decision("b", TOMORROW), decision("c"), decision("d", TOMORROW), decision("e")]
    days = columns.by_day(columns.build("decision", values(records), range(5)).table)
    assert {day: rows.column("seq").to_pylist() for day, rows in days.items()} == {
        "2026-11-21": [0, 2, 4],
        "2026-11-22": [1, 3],
    }
