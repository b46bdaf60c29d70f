"""Audit and feedback records as a fleet writes them, and a replay of them, for the tests of the learning loop."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq

from heimdall_fleet.learn.dataset import Layout, read_manifest
from heimdall_fleet.learn.replay import Job, open_dataset, replay
from heimdall_fleet.learn.rewards import SIGNALS
from heimdall_fleet.learn.settle import Terms
from heimdall_fleet.learn.sources import FileSource
from heimdall_fleet.learn.staging import Window
from heimdall_models.features import FEATURE_VERSION

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
TOMORROW = 24 * 60
"""In minutes."""

TERMS = Terms(dict.fromkeys(SIGNALS, 1.0), timedelta(minutes=10))


def at(minutes: float = 0) -> str:
    return (NOON + timedelta(minutes=minutes)).isoformat()


def decision(request_id: str, minutes: float = 0, **fields: Any) -> dict[str, Any]:
    return {
        "kind": "decision",
        "request_id": request_id,
        "time": at(minutes),
        "selected_model": "a/small",
        "bucket": "mid",
        "decision_type": "scored",
        "decision_version": "1",
        "features": {
            "feature_version": FEATURE_VERSION,
            "clusters": [3, 1],
            "cluster_similarities": [0.4, 0.3],
            "numeric": {"entropy": 2.5, "text_score": -1.0},
        },
        "difficulty": 0.4,
        "difficulty_percentile": 0.5,
        "bucket_before_guardrails": "mid",
        "candidates": [
            {"model": "a/small", "bucket": "mid", "score": 0.5, "quality": 0.7, "cost": 0.1, "cost_usd_micros": 120},
            {"model": "b/large", "bucket": "mid", "score": 0.3, "quality": 0.9, "cost": 1.0, "cost_usd_micros": 900},
            {"model": "c/late", "bucket": "mid", "score": None, "fell_out": "deadline: 5 s left"},
        ],
        "alpha": 0.7,
        "p_chosen": 0.95,
        "explored": False,
        "experiment": None,
        "tenant": None,
        "session": None,
        "bundle": "b1",
        "catalogue": "c1",
        "config": "f1",
        "worker": "t",
        **fields,
    }


def cached(request_id: str, origin: str, minutes: float) -> dict[str, Any]:
    """A decision out of the cache: neither numbers nor candidates of its own."""
    record = decision(request_id, minutes, decision_type="cached", cached_from=origin, candidates=[])
    return {**record, "features": {"feature_version": FEATURE_VERSION}}


def outcome(request_id: str, minutes: float = 0.1, **fields: Any) -> dict[str, Any]:
    return {
        "kind": "outcome",
        "request_id": request_id,
        "time": at(minutes),
        "state": "answered",
        "failure": None,
        "bucket": "mid",
        "selected_model": "a/small",
        "selected_provider": "p",
        "attempts": [{"provider": "p"}],
        "p_served": 0.95,
        "cost_usd_micros": 130,
        "tokens": {"prompt": 10, "completion": 20},
        "timings_ms": {"queued": 5, "dispatch": 800.5},
        "tenant": None,
        "finish_reason": "stop",
        "refused": False,
        "schema_valid": None,
        **fields,
    }


def shadow(request_id: str, minutes: float = 1, **fields: Any) -> dict[str, Any]:
    return {
        "kind": "shadow",
        "request_id": request_id,
        "shadow_id": f"shadow-{request_id}",
        "time": at(minutes),
        "state": "answered",
        "failure": None,
        "bucket": "hard",
        "model": "b/large",
        "served_model": "a/small",
        "selected_model": "b/large",
        "selected_provider": "p",
        "share": 0.5,
        "p_drawn": 0.25,
        "attempts": [{"provider": "p", "failure": None}],
        "cost_usd_micros": 700,
        "tokens": {"prompt": 10, "completion": 20},
        "timings_ms": {"provider": 812.5},
        "worker": "t",
        "tenant": None,
        "finish_reason": "stop",
        "refused": False,
        "schema_valid": True,
        **fields,
    }


def feedback(request_id: str, minutes: float = 5, **said: Any) -> dict[str, Any]:
    return {"request_id": request_id, "time": at(minutes), **said}


def lines(*records: Mapping[str, Any]) -> bytes:
    return b"".join(orjson.dumps(record) + b"\n" for record in records)


class Desk:
    """A data set in a folder; each run replays the records it is given, from a file of their own."""

    def __init__(self, folder: Path, terms: Terms = TERMS) -> None:
        self.out = folder / "data"
        self.layout = Layout(self.out)
        self.terms = terms
        self.said: list[str] = []
        self._folder = folder
        self._runs = 0

    def run(self, *records: Mapping[str, Any], window: Window | None = None) -> dict[str, Any]:
        self._runs += 1
        file = self._folder / f"run-{self._runs}.jsonl"
        file.write_bytes(lines(*records))
        return self.run_files([file], window=window)

    def run_files(self, files: Sequence[Path], *, resume: bool = False, window: Window | None = None) -> dict[str, Any]:
        position = open_dataset(self.out, resume=resume)
        job = Job(self.out, self.terms, window or Window(), say=self.said.append)
        return asyncio.run(replay(job, FileSource(files, dict(position.sources)), position))

    def rows(self) -> dict[str, dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for file in self.layout.days().values():
            found += pq.read_table(file, partitioning=None).to_pylist()
        assert len({row["request_id"] for row in found}) == len(found)
        return {row["request_id"]: row for row in found}

    def manifest(self) -> dict[str, Any]:
        return read_manifest(self.layout)
