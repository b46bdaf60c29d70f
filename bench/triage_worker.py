"""The measured process of `triage.py`: the fleet's triage worker, with a source of batches that waits for "go".

Its requests are made and fed elsewhere, so that what it holds is what such a worker holds.
"""

import asyncio
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import measured

import heimdall_fleet.cli.workers  # noqa: F401  # `heimdall triage` has loaded it too
from heimdall_fleet import __version__
from heimdall_fleet.bootstrap.edges import closed_labels
from heimdall_fleet.bootstrap.triage import triage_service
from heimdall_fleet.config import Watcher, load
from heimdall_fleet.kafka.batches import Batches
from heimdall_fleet.kafka.driver.consuming import RawConsumer
from heimdall_fleet.kafka.group import Group
from heimdall_fleet.kafka.records import Batch
from heimdall_fleet.kafka.settings import BatchSettings
from heimdall_fleet.observe.health import Health
from heimdall_fleet.observe.metrics import Metrics
from heimdall_fleet.observe.server import ObserveServer, ServerSettings
from heimdall_fleet.service import serve
from heimdall_fleet.settings import kafka_settings


class Gated(Batches):
    """The fleet's source of batches, which hands out nothing until told, and notes how long each batch took."""

    def __init__(self, group: Group, settings: BatchSettings, metrics: Metrics) -> None:
        super().__init__(group, settings)
        self._deciding = metrics.triage.prehook
        self._opened = asyncio.Event()
        self._taken: dict[int, float] = {}
        self._to_take = self._left = 0
        self._finished_all = asyncio.Event()
        self._residence_ms: list[float] = []

    async def timed(self, count: int) -> dict[str, Any]:
        """Let `count` records through, and say what they cost this process and how long each was here."""
        self._residence_ms.clear()
        if count == 0:
            return {"rss_mib": measured.rss_mib()}
        self._to_take = self._left = count
        self._finished_all.clear()
        decided_s = self._decided_s()
        watch = measured.Stopwatch()
        self._opened.set()
        await self._finished_all.wait()
        spent = {**watch.read(), "deciding_s": self._decided_s() - decided_s}
        return {**spent, "residence_ms": self._residence_ms, "rss_mib": measured.rss_mib()}

    def _decided_s(self) -> float:
        """Time in `triage`, from bytes to records; of the wall, so only what it is where nobody else wants the core."""
        return self._deciding.mean * self._deciding.count

    async def next_batch(self) -> Batch | None:
        await self._opened.wait()
        batch = await super().next_batch()
        if batch is not None:
            self._taken[batch.number] = time.perf_counter()
            self._to_take -= len(batch.records)
            if self._to_take <= 0:
                self._opened.clear()
        return batch

    async def stop(self, grace_s: float) -> None:
        self._opened.set()
        await super().stop(grace_s)

    def commit(self, batch: Batch) -> None:
        super().commit(batch)
        took_ms = (time.perf_counter() - self._taken.pop(batch.number)) * 1000
        self._residence_ms.extend([took_ms] * len(batch.records))
        self._left -= len(batch.records)
        if self._left <= 0:
            self._finished_all.set()


async def work(config_file: Path) -> None:
    """The child: `heimdall triage` with a source that waits for "go"."""
    loaded = load(config_file, os.environ, {})
    config = loaded.config
    metrics = Metrics("triage", __version__)
    metrics.allow(**closed_labels(config))
    service = triage_service(loaded, metrics)
    kafka = kafka_settings(config, "bench-triage")
    settings = BatchSettings(group_id=f"{config.kafka.topic_prefix}.triage", topics=(config.kafka.topics.requests,))
    group = Group(
        lambda listener: RawConsumer(kafka, settings.group_id, settings.topics, listener), settings.commit_interval_s
    )
    source = Gated(group, settings, metrics)
    service.source = source
    health = Health(__version__, lambda: datetime.now(UTC))
    service.check_into(health)
    server = ObserveServer(metrics, health, ServerSettings(host="127.0.0.1", port=0))
    watcher = Watcher(loaded, lambda: loaded, lambda _: None)
    serving = asyncio.create_task(serve(service, server, watcher))
    measured.say({"ready": True})
    async for command in measured.commands():
        measured.say(await source.timed(command["count"]))
    service.stop()
    await serving


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1])))
