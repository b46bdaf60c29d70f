"""A replay: read a source to its end in bounded memory, then settle what was read into the data set.

1. Values are read, shaped and flushed to files of some ten thousand rows; each flush moves the position.
2. When the source ends, the files are settled into the rows of their days (settle.py), then forgotten.

Interrupted in 1, the next run with `resume` goes on after the last flush; interrupted in 2, it settles again.
"""

import gc
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from heimdall_fleet.learn import columns, rewards
from heimdall_fleet.learn.dataset import (
    FORMAT,
    KEPT_RUNS,
    Layout,
    Position,
    erased_until,
    read_manifest,
    read_position,
    write_json,
    write_position,
)
from heimdall_fleet.learn.settle import Settled, Terms, settle, survey
from heimdall_fleet.learn.sources import Source
from heimdall_fleet.learn.staging import Staging, Window
from heimdall_fleet.system.heap import settle_heap
from heimdall_models.features import FEATURE_NAMES, FEATURE_VERSION
from heimdall_models.record import DECISION_VERSION

MOST_COMPLAINTS = 10


@dataclass(frozen=True, slots=True)
class Progress:
    records: int
    done: float
    records_per_s: float


@dataclass(frozen=True, slots=True)
class Job:
    """What to do. `show` is told after each chunk, `say` of anything worth a line, `now` is the wall clock."""

    out: Path
    terms: Terms
    window: Window = field(default_factory=Window)
    show: Callable[[Progress], None] = lambda _: None
    say: Callable[[str], None] = lambda _: None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    stopwatch: Callable[[], float] = time.monotonic


def open_dataset(out: Path, *, resume: bool) -> Position:
    """The folders, and where to go on. Without `resume` sources are read anew; what is there already stays.

    Raises DatasetError for a data set of another format.
    """
    layout = Layout(out)
    layout.make()
    position = read_position(layout)
    if not resume:
        position.sources = {}
    return position


async def replay(job: Job, source: Source, position: Position) -> dict[str, Any]:
    """Read `source` to its end and settle it; the run's part of the manifest. `position` is from `open_dataset`."""
    columns.use_system_memory()
    settle_heap()
    layout = Layout(job.out)
    _forget_unfinished(layout, position)
    manifest = read_manifest(layout)
    window = Window(job.window.since_us, job.window.until_us, erased_until(manifest))
    complaints = _Complaints(job.say)
    staging = Staging(layout, window, complaints, position.next_seq)
    started = job.stopwatch()
    with _collector_paused():
        await _read(job, source, staging, position)
    settle_heap()
    complaints.close(layout.set_aside)
    terms = job.terms.as_json()
    changed = bool(manifest) and manifest["terms"] != terms
    if changed:
        job.say("the terms of rewards have changed since the last run: every day is written again")
    incoming = [layout.incoming / name for name in position.incoming]
    settled = settle(layout, incoming, job.terms, everything=changed)
    run = _told(job, source, staging, settled)
    run["seconds"] = round(job.stopwatch() - started, 3)
    standing = {"format": FORMAT, "terms": terms, **survey(layout, rewards.SIGNALS)}
    write_json(layout.manifest, _manifest(manifest, standing, run))
    position.incoming = []
    write_position(layout, position)
    for path in incoming:
        path.unlink(missing_ok=True)
    shutil.rmtree(layout.work)
    return run


async def _read(job: Job, source: Source, staging: Staging, position: Position) -> None:
    layout, started = staging.layout, job.stopwatch()
    async for chunk in source.chunks():
        staging.take(chunk)
        if staging.full:
            _keep(staging, source, position, layout)
            gc.collect(0)
        records = staging.counts["records"]
        job.show(Progress(records, chunk.done, records / max(job.stopwatch() - started, 1e-6)))
    _keep(staging, source, position, layout)


def _keep(staging: Staging, source: Source, position: Position, layout: Layout) -> None:
    """Rows to disk first, then the position that counts them."""
    position.incoming += staging.flush()
    position.sources.update(source.position())
    position.next_seq = staging.next_seq
    write_position(layout, position)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Rows in memory have no cycles, but the collector walks over all of them again and again: a quarter of the time.

    After each flush, when there are none, it looks at what is young.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _forget_unfinished(layout: Layout, position: Position) -> None:
    """Files that a crashed run wrote after its last position."""
    layout.make()
    for path in layout.incoming.iterdir():
        if path.name not in position.incoming:
            path.unlink()


class _Complaints:
    """The first few as they are, the others as a number."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._count = 0

    def __call__(self, text: str) -> None:
        self._count += 1
        if self._count <= MOST_COMPLAINTS:
            self._say(text)

    def close(self, where: Path) -> None:
        if self._count > MOST_COMPLAINTS:
            self._say(f"… and {self._count - MOST_COMPLAINTS:,} more records were set aside")
        if self._count:
            self._say(f"records set aside are kept in {where}")


def _told(job: Job, source: Source, staging: Staging, settled: Settled) -> dict[str, Any]:
    counts: Counter[str] = Counter(staging.counts)
    return {
        "at": job.now().isoformat(timespec="seconds"),
        "ranges": source.ranges(),
        "records": counts.pop("records", 0),
        "counts": {**counts, **settled.counts},
        "days_written": sorted(settled.days),
        "unknown_features": sorted(staging.unknown_features),
    }


def _manifest(before: dict[str, Any], standing: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    gaps = [*before.get("gaps", ()), *_gaps(run)]
    return {
        **standing,
        "gaps": [gap for at, gap in enumerate(gaps) if gap not in gaps[:at]],
        "decision_version": DECISION_VERSION,
        "feature_version": FEATURE_VERSION,
        "feature_names": FEATURE_NAMES,
        "erasures": before.get("erasures", []),
        "runs": [*before.get("runs", []), run][-KEPT_RUNS:],
    }


def _gaps(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Ranges of offsets that held no record: kept as long as the data set, since its estimates lack their requests."""
    return [
        {"source": part["source"], "first": first, "last": last}
        for part in run["ranges"]
        for first, last in part.get("missing", ())
    ]
