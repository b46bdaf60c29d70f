"""A triage worker as a process runs it: connect, decide until told to stop, finish what was begun."""

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass, field

from heimdall_fleet.addresses import ReplyRules
from heimdall_fleet.broker import Seen, broker_check, show_group, until_possible
from heimdall_fleet.dlq import Undertaker
from heimdall_fleet.kafka.batches import Batches
from heimdall_fleet.kafka.errors import KafkaFailure
from heimdall_fleet.kafka.producer import SupervisedProducer
from heimdall_fleet.kafka.records import Outgoing
from heimdall_fleet.observe.health import Check, Health
from heimdall_fleet.observe.metrics import Metrics
from heimdall_fleet.observe.records import BatchTimes
from heimdall_fleet.triage.emit import Desk
from heimdall_fleet.triage.pipeline import Bench, Written
from heimdall_fleet.triage.read import ReadRules
from heimdall_fleet.triage.tuning import Tuning
from heimdall_fleet.triage.worker import TriageWorker
from heimdall_models.cache import Memory
from heimdall_schemas.codec import Limits
from heimdall_schemas.topics import Bucket

log = logging.getLogger(__name__)

GAUGES_EVERY_S = 5.0


@dataclass(slots=True)
class TriageService:
    source: Batches
    producer: SupervisedProducer
    tuning: Tuning
    memory: Memory
    undertaker: Undertaker
    replies: ReplyRules
    limits: Limits
    default_ttl_ms: int
    reload_s: float
    grace_s: float
    metrics: Metrics
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def check_into(self, health: Health) -> None:
        """What `/readyz` and `/health` say of this worker."""
        health.add("kafka", lambda: broker_check(self.source.facts().group, self.producer.facts()))
        health.add("bundle", self._bundle_check)

    async def run(self) -> None:
        bench = await self._connect()
        if bench is None:
            return
        worker = TriageWorker(self.source, self.producer, bench, self, lambda: time.time_ns() // 1_000_000)
        self.source.start()
        running = asyncio.create_task(worker.run())
        tending = asyncio.create_task(self._tend(worker))
        stopped = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        await self.source.stop(self.grace_s)
        await asyncio.wait({running}, timeout=self.grace_s)
        for task in (running, tending, stopped):
            task.cancel()
        await self.producer.stop()
        if running.done() and not running.cancelled():
            running.result()

    def stop(self) -> None:
        self._stopping.set()

    async def _connect(self) -> Bench | None:
        """Wait for the broker and for the topics; None when we are told to stop meanwhile."""
        await until_possible(self.producer.start, "connecting to the broker", self._stopping)
        return await until_possible(self._bench, "looking for the fleet's topics", self._stopping)

    async def _bench(self) -> Bench:
        """What is decided with; the partition counts are the cluster's own."""
        topics = self.replies.topics
        return Bench(
            rules=ReadRules(self.limits, self.replies, self.default_ttl_ms),
            judge=self.tuning.judge,
            memory=self.memory,
            clock=time.perf_counter,
            desk=Desk(
                topics=topics,
                worker=self.undertaker.worker,
                undertaker=self.undertaker,
                audit_partitions=await self.producer.partition_count(topics.audit),
                dispatch_partitions=await self.producer.partition_count(topics.dispatch(Bucket.MID)),
            ),
        )

    def batch(self, written: Written, size: int, duration_s: float) -> None:
        triage = self.metrics.triage
        triage.batch(BatchTimes(size=size, total_s=duration_s, features_s=_features_s(written)))
        kinds = Counter((each.record["decision_type"], each.decision["fallback_used"]) for each in written.decided)
        for (kind, fallback_used), count in kinds.items():
            triage.decided(kind, fallback_used=fallback_used, count=count)
        for each in written.decided:
            for rule in each.record["guardrails"]:
                triage.guardrails.labels(rule).inc()
        for failure in written.refused:
            self.metrics.worker.error(failure.code.facts.family.value, failure.code.value)

    def unsendable(self, record: Outgoing, error: KafkaFailure) -> None:
        self.metrics.worker.error("internal", "unsendable")
        log.error("a record for %s can never be sent: %s", record.topic, error, extra={"action": "unsendable"})

    async def _tend(self, worker: TriageWorker) -> None:
        """Gauges, and a look whether another bundle is there."""
        look_at, seen = time.monotonic() + self.reload_s, Seen()
        while True:
            await asyncio.sleep(GAUGES_EVERY_S)
            seen = show_group(self.metrics, self.source.facts().group, self.producer.facts(), seen)
            if self.memory.decisions is not None:
                self.metrics.triage.cache_entries.set(len(self.memory.decisions))
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + self.reload_s
                if self.tuning.poll() is False:
                    self.metrics.worker.error("ml_model", "ARTIFACT_LOAD_FAILED")
            worker.judge_with(self.tuning.judge)

    def _bundle_check(self) -> Check:
        info, refused = self.tuning.bundle.info, self.tuning.refused
        details = {
            "hash": self.tuning.bundle.hash,
            "framework": info.framework,
            "version": info.version,
            "feature_count": info.feature_count,
            "tree_count": info.tree_count,
            "loaded_at": self.tuning.loaded_at,
            "accuracy": info.accuracy,
        }
        if refused is None:
            return Check("healthy", details)
        return Check("degraded", {**details, "refused": refused.why})


def _features_s(written: Written) -> float:
    """Feature extraction of the chunk: each record holds its even share, in milliseconds."""
    fresh = [each.record["features"] for each in written.decided if not each.decision["cache_hit"]]
    return sum(features.get("extraction_latency_ms") or 0.0 for features in fresh) / 1000
