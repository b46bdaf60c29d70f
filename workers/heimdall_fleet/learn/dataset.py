"""Where a data set keeps what, and its two small JSON files: the manifest for people, the position for the next run.

DIR/manifest.json              what was read, how many rows, coverage of each signal, erasures
DIR/position.json              how far each source is read, and which incoming files belong to that position
DIR/rows/day=2026-11-21/…      the data set, one Parquet file a day
DIR/shadows.parquet            shadows of requests, one each, where there are any
DIR/.replay/                   feedback read so far, records set aside, work in progress
"""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from heimdall_models.features import FEATURE_NAMES

FORMAT = 2
"""Raised when a column changes its meaning, in the data set or in the files that an interrupted run has left; a data set
of another format is refused."""

KEPT_RUNS = 100


class DatasetError(Exception):
    """A data set that this version cannot go on with. Says which file, and what to do."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one data set."""

    root: Path

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.json"

    @property
    def position(self) -> Path:
        return self.root / "position.json"

    @property
    def rows(self) -> Path:
        return self.root / "rows"

    @property
    def incoming(self) -> Path:
        return self.root / ".replay" / "incoming"

    @property
    def work(self) -> Path:
        return self.root / ".replay" / "work"

    def facts(self, number: int) -> Path:
        return self.work / f"facts-{number:06d}.parquet"

    @property
    def origins(self) -> Path:
        return self.work / "origins.parquet"

    @property
    def set_aside(self) -> Path:
        return self.root / ".replay" / "set_aside.jsonl"

    @property
    def feedback(self) -> Path:
        return self.root / ".replay" / "feedback.parquet"

    @property
    def shadows(self) -> Path:
        return self.root / "shadows.parquet"

    def day(self, day: str) -> Path:
        return self.rows / f"day={day}" / "rows.parquet"

    def days(self) -> dict[str, Path]:
        """The days there are, in order."""
        found = sorted(self.rows.glob("day=*/rows.parquet"))
        return {file.parent.name.removeprefix("day="): file for file in found}

    def make(self) -> None:
        for folder in (self.rows, self.incoming, self.work):
            folder.mkdir(parents=True, exist_ok=True)


def features_digest() -> str:
    """Which numbers a row's `features` are, in which order."""
    return hashlib.sha256("\n".join(FEATURE_NAMES).encode()).hexdigest()[:16]


@dataclass(slots=True)
class Position:
    """How far the sources are read. `incoming` names the files that are read and not yet part of the data set."""

    sources: dict[str, Any] = field(default_factory=dict)
    next_seq: int = 0
    incoming: list[str] = field(default_factory=list)
    features: str = field(default_factory=features_digest)
    format: int = FORMAT


def read_position(layout: Layout) -> Position:
    """The position that the last run left, or that of a new data set. Raises DatasetError."""
    found = _read(layout.position)
    if found is None:
        return Position()
    position = Position(**found)
    if position.features != features_digest():
        raise DatasetError(
            f"{layout.root}: its rows have other features than this version computes; replay into a new directory, "
            "the audit records keep every number under its name"
        )
    return position


def write_position(layout: Layout, position: Position) -> None:
    write_json(layout.position, asdict(position))


def read_manifest(layout: Layout) -> dict[str, Any]:
    """The manifest, empty for a new data set. Raises DatasetError."""
    return _read(layout.manifest) or {}


def _read(file: Path) -> dict[str, Any] | None:
    if not file.exists():
        return None
    try:
        found: dict[str, Any] = orjson.loads(file.read_bytes())
        written = found.get("format")
    except (orjson.JSONDecodeError, AttributeError) as error:
        raise DatasetError(f"{file}: not what a replay writes ({error}); give --out a new directory") from error
    if written != FORMAT:
        raise DatasetError(f"{file}: format {written}, this version writes {FORMAT}; replay into a new directory")
    return found


def write_json(file: Path, value: Any) -> None:
    """Whole or not at all: a reader never sees half of it."""
    fresh = file.with_name(file.name + ".new")
    fresh.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    fresh.replace(file)


def erased_until(manifest: dict[str, Any]) -> dict[str, int]:
    """Tenant → microseconds since 1970 up to which its records are never taken in again."""
    until: dict[str, int] = {}
    for erasure in manifest.get("erasures", ()):
        tenant = erasure["tenant"]
        until[tenant] = max(until.get(tenant, 0), erasure["until_us"])
    return until


def lines_of(file: Path) -> Iterator[bytes]:
    if file.exists():
        with file.open("rb") as stream:
            yield from stream
