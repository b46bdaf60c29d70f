"""Progress of a run: a live table on a terminal, a plain line every other second elsewhere. On standard error."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from heimdall_fleet.cli.output import note
from heimdall_fleet.report.summary import percentile
from heimdall_fleet.stack.load import Progress
from heimdall_schemas.topics import Bucket

PLAIN_EVERY_S = 2.0


class Display(Protocol):
    def __call__(self, progress: Progress) -> None: ...


@contextmanager
def display() -> Iterator[Display]:
    if sys.stderr.isatty():
        with _table() as show:
            yield show
    else:
        yield _Lines()


class _Lines:
    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last < PLAIN_EVERY_S and progress.done < progress.total:
            return
        self._last = now
        answered = " ".join(f"{bucket} {len(progress.answered.get(bucket, ()))}" for bucket in Bucket)
        note(
            f"  sent {progress.sent}/{progress.total}  answered {answered}  "
            f"errors {sum(progress.errors.values())}  {progress.cost_usd_micros / 1e6:.4f} USD"
        )


@contextmanager
def _table() -> Iterator[Display]:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    def drawn(progress: Progress) -> Table:
        table = Table(title=f"sent {progress.sent}/{progress.total} · {progress.cost_usd_micros / 1e6:.4f} USD")
        for column in ("bucket", "answered", "p50 ms", "p95 ms"):
            table.add_column(column, justify="left" if column == "bucket" else "right")
        for bucket in Bucket:
            latencies = progress.answered.get(bucket, [])
            cells = [percentile(latencies, share) for share in (0.5, 0.95)]
            table.add_row(
                bucket.value, str(len(latencies)), *("" if cell is None else f"{cell:,.0f}" for cell in cells)
            )
        for code, count in progress.errors.items():
            table.add_row(code, str(count), "", "", style="red")
        return table

    with Live(console=Console(stderr=True), refresh_per_second=8) as live:
        yield lambda progress: live.update(drawn(progress))
