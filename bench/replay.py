"""How fast a replay is, and that its memory does not grow with the file.

    python bench/replay.py -o json

Audit files (a decision and an outcome for each request, feedback for one in twenty, over three days) are made from
the decisions that the fleet takes on the prompts of the demo, each with its own id, time and numbers, as many digits as
the fleet writes. Every size
is replayed in a process of its own, which reports CPU time and peak memory. `records_per_cpu_s` is records by CPU
seconds of all threads: a figure for one core. `flat` is the peak at the largest size over that at the smallest.
"""

import argparse
import asyncio
import random
import resource
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import run
from typing import Any

import orjson
from harness import parser, show
from measured import Stopwatch

from heimdall_fleet.cli.replay import terms_of
from heimdall_fleet.config import Config
from heimdall_fleet.demo_data import prompts
from heimdall_fleet.learn.replay import Job, open_dataset, replay
from heimdall_fleet.learn.sources import FileSource
from heimdall_schemas.ids import new_id

THOROUGH = (100_000, 1_000_000)
QUICK = (2_000, 6_000)
BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
SPAN = timedelta(days=3)
FEEDBACK_EVERY = 20
KIB = 1024


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--worker", nargs=2, metavar=("FILE", "DIR"), help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.worker:
        print(orjson.dumps(replayed(*map(Path, arguments.worker))).decode())
    else:
        show(measure(QUICK if arguments.quick else THOROUGH), arguments.output)


def replayed(file: Path, out: Path) -> dict[str, Any]:
    """In a child: one replay, with what it took."""
    watch = Stopwatch()
    job = Job(out, terms_of(Config()))
    told = asyncio.run(replay(job, FileSource([file]), open_dataset(out, resume=False)))
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB
    return {"records": told["records"], "peak_mib": round(peak_mib, 1), **watch.read()}


def measure(sizes: tuple[int, ...]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        templates = decisions(Path(folder))
        for size in sizes:
            file = Path(folder) / f"{size}.jsonl"
            with file.open("wb") as stream:
                stream.writelines(lines(templates, size // 2))
            found = child(file, Path(folder) / f"data-{size}")
            peaks.append(found["peak_mib"])
            figures[f"records_per_cpu_s_{size}"] = round(found["records"] / found["cpu_s"])
            figures[f"records_per_s_{size}"] = round(found["records"] / found["wall_s"])
            figures[f"peak_mib_{size}"] = found["peak_mib"]
            figures[f"file_mib_{size}"] = round(file.stat().st_size / KIB / KIB)
            file.unlink()
    return {**figures, "flat": round(peaks[-1] / peaks[0], 2)}


def child(file: Path, out: Path) -> dict[str, Any]:
    done = run([sys.executable, __file__, "--worker", str(file), str(out)], capture_output=True, check=True)
    found: dict[str, Any] = orjson.loads(done.stdout)
    return found


def decisions(folder: Path) -> list[dict[str, Any]]:
    """The decision records of the demo's prompts."""
    asked = folder / "asked.jsonl"
    asked.write_bytes(b"\n".join(orjson.dumps(prompt.body) for prompt in prompts()))
    command = [sys.executable, "-m", "heimdall_fleet.cli", "decide", "--full", str(asked)]
    done = run(command, capture_output=True, check=True)
    records = [orjson.loads(line) for line in done.stdout.splitlines()]
    return [record for record in records if record.get("kind") == "decision"]


def lines(templates: list[dict[str, Any]], requests: int) -> Iterator[bytes]:
    """Audit lines in the order of time, feedback among them."""
    draw = random.Random(6)
    for number in range(requests):
        moment = BEGIN + SPAN * number / requests
        yield from (orjson.dumps(record) + b"\n" for record in records_of(draw.choice(templates), moment, number, draw))


def records_of(template: dict[str, Any], moment: datetime, number: int, draw: random.Random) -> list[dict[str, Any]]:
    unix_ms = int(moment.timestamp() * 1000)
    request_id = new_id(unix_ms, draw.randbytes(10))
    features = template["features"]
    numeric = {name: float(f"{value * draw.uniform(0.9, 1.1):.7g}") for name, value in features["numeric"].items()}
    head = {"request_id": request_id, "correlation_id": request_id, "time": moment.isoformat()}
    decision = {
        **template,
        **head,
        "features": {**features, "numeric": numeric},
        "p_chosen": draw.random(),
        "tenant": f"tenant-{draw.randrange(20)}",
        "session": f"session-{number // 5}",
        "worker": "triage-1",
    }
    records = [decision, outcome_of(template, head, draw)]
    if number % FEEDBACK_EVERY == 0:
        records.append({"request_id": request_id, "score": draw.random(), "time": moment.isoformat()})
    return records


def outcome_of(template: dict[str, Any], head: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    model, provider, cost = template["selected_model"], template["selected_provider"], draw.randrange(50, 5000)
    attempt = {"provider": provider, "model": model, "key": "main", "status": 200, "failure": None}
    took_ms = round(draw.uniform(200, 4000), 3)
    return {
        "kind": "outcome",
        **head,
        "state": "answered",
        "failure": None,
        "bucket": template["bucket"],
        "selected_model": model,
        "selected_provider": provider,
        "attempts": [{**attempt, "latency_ms": took_ms, "cost_usd_micros": cost}],
        "p_served": 0.5,
        "cost_usd_micros": cost,
        "tokens": {"prompt": draw.randrange(2000), "completion": draw.randrange(2000), "cached": 0, "reasoning": 0},
        "cache": None,
        "timings_ms": {"queued": 12, "waited": 0.0, "provider": took_ms, "dispatch": took_ms + 2.5},
        "finish_reason": draw.choice(["stop", "stop", "length"]),
        "refused": False,
        "worker": "dispatch-1",
    }


if __name__ == "__main__":
    main()
