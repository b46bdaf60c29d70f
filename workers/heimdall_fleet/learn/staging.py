"""Rows that are read and not yet on disk, and the files they are flushed to."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from heimdall_fleet.learn import columns
from heimdall_fleet.learn.dataset import Layout
from heimdall_fleet.learn.records import Row, Table, Unreadable, read_row
from heimdall_fleet.learn.settle import day_of, decision_file

NEWER = "of a newer schema; what this version knows of it is in the data set"

FLUSH_ROWS = 16_000
"""Rows in memory before they go to disk: what bounds the memory of a replay."""


@dataclass(frozen=True, slots=True)
class Window:
    """Which records are wanted, by their own time; and tenants whose records up to a moment are erased."""

    since_us: int | None = None
    until_us: int | None = None
    erased_until_us: Mapping[str, int] = field(default_factory=dict)

    def refuses(self, row: Row) -> str | None:
        time_us = row.time_us
        if time_us is None:
            return None
        if (self.since_us is not None and time_us < self.since_us) or (
            self.until_us is not None and time_us >= self.until_us
        ):
            return "outside_the_time_asked_for"
        tenant = row.tenant
        if isinstance(tenant, str) and time_us <= self.erased_until_us.get(tenant, -1):
            return "of_an_erased_tenant"
        return None


@dataclass(slots=True)
class Pending:
    """Rows of one file to be, with their places for complaints."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Staging:
    """Takes values, keeps rows, writes files. `complain` is told of each record that is set aside."""

    layout: Layout
    window: Window
    complain: Callable[[str], None]
    next_seq: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    unknown_features: set[str] = field(default_factory=set)
    _pending: dict[tuple[Table, str], Pending] = field(default_factory=dict)
    _aside: list[bytes] = field(default_factory=list)
    _size: int = 0

    def take(self, value: bytes | None, place: Callable[[int], str], number: int) -> None:
        """One record. An empty line is none."""
        if value is not None and value.isspace():
            return
        self.counts["records"] += 1
        try:
            row = read_row(value)
        except Unreadable as error:
            self._set_aside(place(number), value, str(error), "unreadable")
            return
        refused = self.window.refuses(row)
        if refused is not None:
            self.counts[refused] += 1
            return
        if row.newer:
            self._set_aside(
                place(number),
                value,
                NEWER,
                "newer_schema",
            )
        self._keep(row)

    def _keep(self, row: Row) -> None:
        day = day_of(row.values[1]) if row.table == "decision" else ""
        key = (row.table, day)
        pending = self._pending.get(key)
        if pending is None:
            pending = self._pending[key] = Pending()
        pending.rows.append(row.values)
        pending.seqs.append(self.next_seq)
        self.next_seq += 1
        self._size += 1
        self.counts[row.table] += 1

    @property
    def full(self) -> bool:
        return self._size >= FLUSH_ROWS

    def flush(self) -> list[str]:
        """Write what is kept; the names of the files, in the incoming folder."""
        names: list[str] = []
        for (table, day), pending in self._pending.items():
            name = decision_file(pending.seqs[0], day) if day else f"{table}-{pending.seqs[0]:09d}.parquet"
            built = columns.build(table, pending.rows, pending.seqs)
            for at, why in built.refused:
                self.counts[table] -= 1
                self._set_aside(f"the {table} of {pending.rows[at][0]}", None, why, "unreadable")
            self.unknown_features |= built.unknown_features
            columns.write(built.table, self.layout.incoming / name)
            names.append(name)
        self._pending, self._size = {}, 0
        if self._aside:
            with self.layout.set_aside.open("ab") as stream:
                stream.writelines(self._aside)
            self._aside = []
        return names

    def _set_aside(self, place: str, value: bytes | None, why: str, count: str) -> None:
        self.counts[count] += 1
        self.complain(f"{place}: {why}")
        text = None if value is None else value.decode(errors="replace")
        self._aside.append(orjson.dumps({"place": place, "why": why, "value": text}, option=orjson.OPT_APPEND_NEWLINE))
