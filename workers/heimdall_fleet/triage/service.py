"""A triage worker as a process runs it: connect, decide until told to stop, finish what was begun."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from heimdall_fleet.addresses import ReplyRules
from heimdall_fleet.broker import RETRY_S, Seen, broker_check, show_group, until_possible
from heimdall_fleet.dlq import Undertaker
from heimdall_fleet.kafka.batches import Batches
from heimdall_fleet.kafka.driver.reading import TopicReader
from heimdall_fleet.kafka.errors import KafkaFailure
from heimdall_fleet.kafka.producer import SupervisedProducer
from heimdall_fleet.kafka.records import Outgoing, Record
from heimdall_fleet.observe.health import Check, Health
from heimdall_fleet.observe.metrics import Metrics
from heimdall_fleet.observe.records import BatchTimes
from heimdall_fleet.service import beside
from heimdall_fleet.triage.emit import Desk
from heimdall_fleet.triage.pipeline import Bench, Written
from heimdall_fleet.triage.question import Questions
from heimdall_fleet.triage.read import ReadRules
from heimdall_fleet.triage.sources import SourceError, read_pointer
from heimdall_fleet.triage.tuning import Tuning
from heimdall_fleet.triage.worker import TriageWorker
from heimdall_models.cache import Memory
from heimdall_models.record import EMBEDDING_TIMEOUT, FEATURE_TIMEOUT, MODEL_PREDICT_FAILED, PREHOOK_TIMEOUT
from heimdall_schemas.codec import Limits
from heimdall_schemas.control import CHALLENGER, CHAMPION, DRIFT, Drift
from heimdall_schemas.text import rfc3339
from heimdall_schemas.topics import Bucket

log = logging.getLogger(__name__)

GAUGES_EVERY_S = 5.0
ARTIFACT_LOAD_FAILED = "ARTIFACT_LOAD_FAILED"
CACHE_WRITE_FAILED = "CACHE_WRITE_FAILED"

FALLBACK_FAMILIES = {
    FEATURE_TIMEOUT: "timeout",
    EMBEDDING_TIMEOUT: "timeout",
    PREHOOK_TIMEOUT: "timeout",
    MODEL_PREDICT_FAILED: "ml_model",
}
"""Reasons of a default decision → the family they are counted under."""


@dataclass(slots=True)
class TriageService:
    """`control` opens a reader of the control topic."""

    source: Batches
    producer: SupervisedProducer
    control: Callable[[], AbstractAsyncContextManager[TopicReader]]
    tuning: Tuning
    memory: Memory
    undertaker: Undertaker
    replies: ReplyRules
    limits: Limits
    default_ttl_ms: int
    reload_s: float
    grace_s: float
    metrics: Metrics
    questions: Questions = field(default_factory=Questions)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _look_now: asyncio.Event = field(default_factory=asyncio.Event)
    _failed_writes: int = 0

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
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            async with beside((self._tend(), self._watch(worker), self._follow_control()), self.stop):
                await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
                await self.source.stop(self.grace_s)
                await asyncio.wait({running}, timeout=self.grace_s)
        finally:
            running.cancel()
            stopped.cancel()
            await self.producer.stop()
        if running.done() and not running.cancelled():
            running.result()

    def look_now(self) -> None:
        """Something about the bundle or the rules has changed: take it up before the next batch."""
        self._look_now.set()

    def stop(self) -> None:
        self._stopping.set()

    async def _connect(self) -> Bench | None:
        """Wait for the broker and for the topics; None when we are told to stop meanwhile."""
        await until_possible(self.producer.start, "connecting to the broker", self._stopping)
        await self._read_control()
        await self._look()
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
                questions=self.questions,
            ),
        )

    def batch(self, written: Written, size: int, duration_s: float) -> None:
        triage, worker, times = self.metrics.triage, self.metrics.worker, written.times
        triage.batch(BatchTimes(size, duration_s, times))
        kinds = Counter((each.decision_type, each.fallback_reason) for each in written.decided)
        flagged = 0
        for (kind, reason), count in kinds.items():
            triage.decided(kind, fallback_used=reason is not None, count=count)
            if reason is not None:
                worker.error(FALLBACK_FAMILIES[reason], reason, count)
                flagged += count * (reason == PREHOOK_TIMEOUT)
        if duration_s * 1000 > self.tuning.judge.rules.timeout_ms * size:
            worker.error("timeout", PREHOOK_TIMEOUT, size - flagged)
        for each in written.decided:
            for rule in each.guardrails:
                triage.guardrails.labels(rule).inc()
        for failure in written.refused:
            worker.error(failure.code.facts.family.value, failure.code.value)
        failed_writes = self.memory.counts.failed_writes
        if failed_writes > self._failed_writes:
            worker.error("internal", CACHE_WRITE_FAILED, failed_writes - self._failed_writes)
            log.warning(
                "the decision cache takes no entries; requests are decided anew", extra={"action": "cache_failed"}
            )
            self._failed_writes = failed_writes

    def unsendable(self, record: Outgoing, error: KafkaFailure) -> None:
        self.metrics.worker.error("internal", "unsendable")
        log.error("a record for %s can never be sent: %s", record.topic, error, extra={"action": "unsendable"})

    async def _tend(self) -> None:
        """Keep the gauges true."""
        seen = Seen()
        while True:
            seen = show_group(self.metrics, self.source.facts().group, self.producer.facts(), seen)
            if self.memory.decisions is not None:
                self.metrics.triage.cache_entries.set(len(self.memory.decisions))
            self.metrics.triage.artifact_age.set(self._artifact_age_s())
            await asyncio.sleep(GAUGES_EVERY_S)

    async def _watch(self, worker: TriageWorker) -> None:
        """Look for another bundle every `reload_s`, and at once when told; hand its judge on between two batches."""
        while True:
            challenger = self.tuning.challenger
            worker.judge_with(self.tuning.judge, None if challenger is None else challenger.judge)
            worker.tell_of(self.questions)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._look_now.wait(), self.reload_s)
            self._look_now.clear()  # before the look: what is told during it asks for another
            await self._look()

    async def _look(self) -> None:
        if await self.tuning.poll() is False:
            self.metrics.worker.error("ml_model", ARTIFACT_LOAD_FAILED)

    async def _read_control(self) -> None:
        """The control topic as it stands, so that the first batch is decided by what was promoted."""
        try:
            async with self.control() as reader:
                async for record in reader.read([self.replies.topics.control]):
                    self._heard(record)
        except KafkaFailure as error:
            log.warning("the control topic cannot be read yet: %s", error, extra={"action": "control_waits"})

    async def _follow_control(self) -> None:
        """The same as it grows; begin again when the broker went away."""
        while True:
            try:
                async with self.control() as reader:
                    async for record in reader.read([self.replies.topics.control], follow=True):
                        if self._heard(record):
                            self.look_now()
            except KafkaFailure as error:
                log.warning("the control topic cannot be read: %s", error, extra={"action": "control_waits"})
                await asyncio.sleep(RETRY_S)

    def _heard(self, record: Record) -> bool:
        """Take up the pointer to a bundle, or its removal; whether there is something to look at."""
        if _text(record.key) == DRIFT:
            self._show_drift(record.value)
            return False
        take_up = {CHAMPION: self.tuning.point_at, CHALLENGER: self.tuning.challenge_with}.get(_text(record.key))
        if take_up is None:
            return False
        try:
            take_up(read_pointer(record.value, "the control topic") if record.value else None)
        except SourceError as error:
            self.metrics.worker.error("ml_model", ARTIFACT_LOAD_FAILED)
            log.error("%s; the bundle stays", error, extra={"action": "pointer_refused"})
            return False
        return True

    def _show_drift(self, value: bytes | None) -> None:
        """A record that cannot be read leaves the gauges as they are."""
        try:
            found = Drift.model_validate_json(value or b"")
            self.metrics.triage.drift(found.psi, found.reward_drops, datetime.fromisoformat(found.time).timestamp())
        except ValueError as error:
            log.warning("what is said of drift cannot be read: %s", error, extra={"action": "drift_unreadable"})

    def _artifact_age_s(self) -> float:
        """Since the bundle was made, as its manifest says; since it was loaded when that says nothing."""
        try:
            made = datetime.fromisoformat(str(self.tuning.bundle.manifest.get("created")))
        except ValueError:
            made = self.tuning.serving.loaded_at
        made = made if made.tzinfo else made.replace(tzinfo=UTC)
        return max(0.0, (datetime.now(UTC) - made).total_seconds())

    def _bundle_check(self) -> Check:
        info = self.tuning.bundle.info
        refused = self.tuning.refused or self.tuning.arms_refused
        details = {
            "hash": self.tuning.bundle.hash,
            "framework": info.framework,
            "version": info.version,
            "feature_count": info.feature_count,
            "tree_count": info.tree_count,
            "loaded_at": rfc3339(int(self.tuning.serving.loaded_at.timestamp() * 1000)),
            "accuracy": info.accuracy,
            "age_s": round(self._artifact_age_s()),
            "arms": self.tuning.arm_bundles,
            "challenger": self.tuning.challenger and self.tuning.challenger.bundle.hash,
            "challenger_refused": self.tuning.challenger_refused,
        }
        if refused is None:
            return Check("healthy", details)
        return Check("degraded", {**details, "refused": refused})


def _text(key: bytes | None) -> str:
    return (key or b"").decode(errors="replace")
