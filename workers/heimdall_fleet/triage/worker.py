"""The triage loop: take a batch, decide it, publish what it came to, and only then say that it is done.

1. A batch of up to 128 records, or a mebibyte, is taken. *Dies here*: nothing was written, it is read again.
2. The batch is decided, in one go, without waiting for anything.
3. Orders, decision records, replies and dead letters go out, in one `send_batch` for each partition.
   *Dies here*: some are written; the batch is read again, and its copies carry the same request ids.
4. All are acknowledged; the batch is committed. The next batch is decided while this one waits for step 4.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from heimdall_fleet.kafka.errors import DeliveryRefused, KafkaFailure, RecordTooLarge, UnknownPartition, UnknownTopic
from heimdall_fleet.kafka.records import Batch, Consumer, Outgoing, Producer, Record
from heimdall_fleet.triage.challenger import Challenger
from heimdall_fleet.triage.pipeline import Bench, Written, bury, triage
from heimdall_fleet.triage.question import Questions
from heimdall_models.judge import Judge
from heimdall_models.times import StepTimes
from heimdall_schemas import headers as h

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
UNKNOWN_FOR_S = 5.0


class Telemetry(Protocol):
    """What triage tells; called once a batch."""

    def batch(self, written: Written, size: int, duration_s: float) -> None: ...

    def unsendable(self, record: Outgoing, error: KafkaFailure) -> None: ...


class PartitionCounts:
    """Partitions of the topics that replies may go to, looked up before a batch is decided and then known at once."""

    def __init__(self, producer: Producer, clock: Callable[[], float] = time.monotonic) -> None:
        self._producer = producer
        self._clock = clock
        self._known: dict[str, int] = {}
        self._unknown_until: dict[str, float] = {}

    def __call__(self, topic: str) -> int | None:
        return self._known.get(topic)

    async def learn(self, topics: Iterable[str]) -> None:
        """Ask for the topics not known yet; one that does not exist is asked for again after a few seconds."""
        for topic in topics:
            if topic in self._known or self._unknown_until.get(topic, 0.0) > self._clock():
                continue
            try:
                self._known[topic] = await self._producer.partition_count(topic)
            except KafkaFailure:
                if len(self._unknown_until) > 1_000:
                    self._unknown_until.clear()
                self._unknown_until[topic] = self._clock() + UNKNOWN_FOR_S


class TriageWorker:
    """`await worker.run()` until the source ends. A batch keeps the judge that it began with."""

    def __init__(
        self, source: Consumer, producer: Producer, bench: Bench, telemetry: Telemetry, now_ms: Callable[[], int]
    ) -> None:
        self.bench = bench
        self._source = source
        self._producer = producer
        self._telemetry = telemetry
        self._now_ms = now_ms
        self._counts = PartitionCounts(producer)
        self._publishing: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        while (batch := await self._source.next_batch()) is not None:
            await self._counts.learn(self._topics_named(batch.records))
            started = time.perf_counter()
            written = self._decide(batch.records)
            task = asyncio.create_task(self._publish_and_commit(batch, written.outgoing))
            self._publishing.add(task)
            task.add_done_callback(self._publishing.discard)
            self._telemetry.batch(written, len(batch.records), time.perf_counter() - started)

    def judge_with(self, judge: Judge, challenger: Judge | None = None) -> None:
        """Decide the next batch with this judge, and silently with the other."""
        bench = self.bench
        if judge is not bench.judge:
            self.bench = replace(self.bench, judge=judge)
        if challenger is not (bench.challenger and bench.challenger.judge):
            self.bench = replace(self.bench, challenger=Challenger(challenger) if challenger else None)

    def tell_of(self, questions: Questions) -> None:
        """What the next batch's decision records say of the questions."""
        if questions != self.bench.desk.questions:
            self.bench = replace(self.bench, desk=replace(self.bench.desk, questions=questions))

    def _decide(self, records: Sequence[Record]) -> Written:
        """Decide the batch; when that fails, record by record, so that only the one at fault is buried."""
        bench, now_ms = self.bench, self._now_ms()
        try:
            return triage(records, bench, self._counts, now_ms)
        except Exception as error:
            log.exception("triage failed on a batch of %d", len(records), extra={"action": "triage_bug"})
            if bench.challenger is not None:  # whatever it was, silence must not cost an answer
                self.bench = replace(bench, challenger=None)
                return self._decide(records)
            if len(records) == 1:
                return bury(records[0], error, bench, self._counts, now_ms)
        whole = Written([], [], [], StepTimes())
        for record in records:
            part = self._decide([record])
            whole.outgoing.extend(part.outgoing)
            whole.decided.extend(part.decided)
            whole.refused.extend(part.refused)
        return whole

    def _topics_named(self, records: Sequence[Record]) -> set[str]:
        rules = self.bench.rules.replies
        named = {rules.topics.replies}
        if not rules.exact and not rules.prefixes:
            return named
        for record in records:
            for name, value in record.headers:
                if name == h.REPLY_TO and value and rules.allows(topic := value.decode("utf-8", "replace")):
                    named.add(topic)
        return named

    async def _publish_and_commit(self, batch: Batch, outgoing: list[Outgoing]) -> None:
        await asyncio.gather(*(self._deliver(group) for group in by_partition(outgoing)))
        self._source.commit(batch)

    async def _deliver(self, group: list[Outgoing]) -> None:
        """Send records of one partition until the broker has them. A time-out means unknown: sending again is safe."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await self._send(group)
            except (RecordTooLarge, DeliveryRefused, UnknownTopic, UnknownPartition) as error:
                if len(group) > 1:
                    await asyncio.gather(*(self._deliver([record]) for record in group))
                    return
                redirected = self._redirected(group[0], error)
                if redirected is None:
                    return
                group = [redirected]
                await asyncio.sleep(pause_s)
            except KafkaFailure as error:
                log.warning("triage cannot publish: %s", error, extra={"action": "triage_publish_waits"})
                await asyncio.sleep(pause_s)
            else:
                return
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _send(self, group: list[Outgoing]) -> None:
        first = group[0]
        if first.partition is None:
            await asyncio.gather(*(self._producer.send(record) for record in group))
        else:
            await self._producer.send_batch(first.topic, first.partition, group)

    def _redirected(self, record: Outgoing, error: KafkaFailure) -> Outgoing | None:
        """What to send instead: the same where a topic of the fleet is missing, a caller's reply on our own topic.

        None: this record can never be sent. Its size is bounded by the limits on requests, so it is a bug.
        """
        topics = self.bench.desk.topics
        if isinstance(error, UnknownTopic | UnknownPartition):
            if record.topic == topics.replies or record.topic in topics.internal():
                log.error("%s; `heimdall topics create` makes it", error, extra={"action": "triage_topic_missing"})
                return record
            key = next((value for name, value in record.headers if name == h.CORRELATION_ID), None)
            return record._replace(topic=topics.replies, partition=None, key=key)
        self._telemetry.unsendable(record, error)
        return None


def by_partition(outgoing: Sequence[Outgoing]) -> list[list[Outgoing]]:
    """The records in groups of one topic and partition, in order."""
    groups: dict[tuple[str, int | None], list[Outgoing]] = {}
    for record in outgoing:
        groups.setdefault((record.topic, record.partition), []).append(record)
    return list(groups.values())
