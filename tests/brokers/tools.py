"""What tests with a broker need again and again."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from tests.brokers.clusters import Cluster

from heimdall_fleet.kafka.driver.consuming import RawConsumer
from heimdall_fleet.kafka.driver.reading import TopicReader
from heimdall_fleet.kafka.intake import Intake, open_intake
from heimdall_fleet.kafka.offsets import Checkpoint
from heimdall_fleet.kafka.producer import SupervisedProducer, open_producer
from heimdall_fleet.kafka.records import Handler, Outgoing, Partition, Record
from heimdall_fleet.kafka.settings import IntakeSettings, KafkaSettings, ProducerSettings

PROMPT = ProducerSettings()


async def until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    """Wait for a condition; fails with TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  # what is waited for knows nothing of tests
            await asyncio.sleep(0.01)


@asynccontextmanager
async def producing(cluster: Cluster, tuning: ProducerSettings = PROMPT) -> AsyncIterator[SupervisedProducer]:
    producer = open_producer(cluster.settings(), tuning)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def fill(cluster: Cluster, topic: str, per_partition: int, partitions: int) -> None:
    """Write records whose values are ``partition:index``."""
    async with producing(cluster) as producer:
        await asyncio.gather(
            *(
                producer.send_batch(topic, p, [Outgoing(topic, f"{p}:{i}".encode()) for i in range(per_partition)])
                for p in range(partitions)
            )
        )


class Recorder:
    """A handler that remembers its calls; `gate` holds the records it names until they are let go."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, int]] = []
        self.ended: list[tuple[int, int]] = []
        self.held: dict[tuple[int, int], asyncio.Event] = {}

    def hold(self, *places: tuple[int, int]) -> None:
        for place in places:
            self.held[place] = asyncio.Event()

    def let_go(self) -> None:
        for event in self.held.values():
            event.set()

    async def __call__(self, record: Record) -> None:
        place = (record.partition, record.offset)
        self.begun.append(place)
        if place in self.held:
            await self.held[place].wait()
        self.ended.append(place)


@asynccontextmanager
async def running(kafka: KafkaSettings, settings: IntakeSettings, handler: Handler) -> AsyncIterator[Intake]:
    """An intake that runs inside the block and is stopped at its end."""
    intake = open_intake(kafka, settings, handler)
    task = asyncio.ensure_future(intake.run())
    try:
        yield intake
    finally:
        intake.stop()
        await task


class _Deaf:
    async def on_revoked(self) -> None: ...

    async def on_assigned(self, partitions: frozenset[Partition]) -> None: ...


async def committed(cluster: Cluster, group_id: str, partitions: Sequence[Partition]) -> dict[Partition, Checkpoint]:
    """What a group has committed. Joins it, as the embedded broker has no admin: ask when nobody else is in it."""
    consumer = RawConsumer(cluster.settings(), group_id, sorted({topic for topic, _ in partitions}), _Deaf())
    await consumer.start()
    try:
        return await consumer.committed(partitions, 5.0)
    finally:
        await consumer.stop(5.0)


async def commit_history(cluster: Cluster, group_id: str) -> dict[Partition, list[int]]:
    """Every position the group ever committed, in order, from the broker's own log of them (Apache Kafka only)."""
    history: dict[Partition, list[int]] = {}
    async with TopicReader(cluster.settings()) as reader:
        async for record in reader.read(["__consumer_offsets"]):
            key = record.key or b""
            if struct.unpack_from(">h", key)[0] > 1 or record.value is None:
                continue  # about members, not offsets; or a deletion
            group, end = _text(key, 2)
            topic, end = _text(key, end)
            if group == group_id:
                place = (topic, struct.unpack_from(">i", key, end)[0])
                history.setdefault(place, []).append(struct.unpack_from(">q", record.value, 2)[0])
    return history


def _text(data: bytes, start: int) -> tuple[str, int]:
    end = start + 2 + struct.unpack_from(">h", data, start)[0]
    return data[start + 2 : end].decode(), end
