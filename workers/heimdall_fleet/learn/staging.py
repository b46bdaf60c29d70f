"""Rows that are read and not yet on disk, and the files they are flushed to."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from heimdall_fleet.learn import columns
from heimdall_fleet.learn.dataset import Layout
from heimdall_fleet.learn.records import FIELDS, Row, Table, Unreadable, read_row
from heimdall_fleet.learn.settle import decision_file
from heimdall_fleet.learn.sources import Chunk

NEWER = "of a newer schema: its fields may mean something else, so it is no row; upgrade, then replay the range again"

BUILT_ROWS = 2_000
"""Records that are Python values before they become columns."""

FLUSH_ROWS = 16_000
"""Records in memory before they go to disk: what bounds the memory of a replay."""


@dataclass(frozen=True, slots=True)
class Window:
    """Which records are wanted, by their own time; and tenants whose records up to a moment are erased."""

    since_us: int | None = None
    until_us: int | None = None
    erased_until_us: Mapping[str, int] = field(default_factory=dict)

    def refuses(self, row: Row) -> str | None:
        """Why a record is left out; None when it is wanted."""
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

    @property
    def is_open(self) -> bool:
        """Whether nothing is refused, so that nobody need ask."""
        return self.since_us is None and self.until_us is None and not self.erased_until_us


@dataclass(slots=True)
class Pending:
    """Rows of one table: the last few as they were read, with their numbers, and those before as columns."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)
    built: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class Staging:
    """Takes chunks, keeps rows, writes files. `complain` is told of each record that is set aside."""

    layout: Layout
    window: Window
    complain: Callable[[str], None]
    next_seq: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    unknown_features: set[str] = field(default_factory=set)
    _pending: dict[Table, Pending] = field(default_factory=lambda: {table: Pending() for table in FIELDS})
    _aside: list[bytes] = field(default_factory=list)
    _rows: int = 0
    _size: int = 0

    def take(self, chunk: Chunk) -> None:
        """The records of a chunk. An empty line is none."""
        pending, picky, blank = self._pending, not self.window.is_open, 0
        for number, value in enumerate(chunk.values):
            try:
                row = read_row(value)
            except Unreadable as error:
                if value is not None and value.isspace():
                    blank += 1
                else:
                    self._set_aside(chunk.place(number), value, str(error), "unreadable")
                continue
            if picky and (refused := self.window.refuses(row)) is not None:
                self.counts[refused] += 1
                continue
            if row.newer:
                self._set_aside(chunk.place(number), value, NEWER, "newer_schema")
                continue
            if row.unknown_features:
                self.unknown_features.update(row.unknown_features)
            kept = pending[row.table]
            kept.rows.append(row.values)
            kept.seqs.append(self.next_seq + number)
        self.next_seq += len(chunk.values)
        self.counts["records"] += len(chunk.values) - blank
        self._size += len(chunk.values)
        self._rows += len(chunk.values)
        if self._rows >= BUILT_ROWS:
            self._build()

    @property
    def full(self) -> bool:
        return self._size >= FLUSH_ROWS

    def flush(self) -> list[str]:
        """Write what is kept; the names of the files, in the incoming folder."""
        self._build()
        names = [name for table, kept in self._pending.items() if kept.built for name in self._write(table, kept.built)]
        self._pending, self._size = {table: Pending() for table in FIELDS}, 0
        if self._aside:
            with self.layout.set_aside.open("ab") as stream:
                stream.writelines(self._aside)
            self._aside = []
        return names

    def _build(self) -> None:
        """Rows become columns, which take a fifth of the memory."""
        for table, kept in self._pending.items():
            if not kept.rows:
                continue
            built = columns.build(table, kept.rows, kept.seqs)
            for at, why in built.refused:
                self._set_aside(f"the {table} of {kept.rows[at][0]}", None, why, "unreadable")
            self.counts[table] += built.table.num_rows
            kept.built.append(built.table)
            kept.rows, kept.seqs = [], []
        self._rows = 0

    def _write(self, table: Table, built: list[Any]) -> Iterator[str]:
        whole = columns.together(built)
        for day, rows in (columns.by_day(whole) if table == "decision" else {"": whole}).items():
            first = columns.first_seq(rows)
            name = decision_file(first, day) if day else f"{table}-{first:09d}.parquet"
            columns.write(rows, self.layout.incoming / name)
            yield name

    def _set_aside(self, place: str, value: bytes | None, why: str, count: str) -> None:
        self.counts[count] += 1
        self.complain(f"{place}: {why}")
        text = None if value is None else value.decode(errors="replace")
        self._aside.append(orjson.dumps({"place": place, "why": why, "value": text}, option=orjson.OPT_APPEND_NEWLINE))
