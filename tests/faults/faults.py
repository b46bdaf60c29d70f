"""Faults that last: entered and left with `async with`, and written into the history."""

import asyncio
import hashlib
import tarfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from tests.brokers.clusters import ApacheCluster
from tests.brokers.redis import RedisServer
from tests.faults.commits import OFFSETS_RESET
from tests.faults.fleet import Fleet
from tests.faults.history import Fault


@asynccontextmanager
async def noted(fleet: Fleet, kind: str) -> AsyncIterator[None]:
    """Whatever the block does to everybody, as a fault in the history."""
    at = time.time()
    try:
        yield
    finally:
        fleet.events.append(Fault(at, time.time(), kind))


@asynccontextmanager
async def broker_gone(fleet: Fleet, cluster: ApacheCluster, at_least_s: float = 0.0) -> AsyncIterator[None]:
    """SIGKILL of the broker; it is back, with its log, when the block is left."""
    at = time.time()
    await asyncio.to_thread(cluster.broker.kill)
    try:
        yield
        await asyncio.sleep(at + at_least_s - time.time())
    finally:
        await asyncio.to_thread(cluster.broker.start)
        fleet.events.append(Fault(at, time.time(), "broker killed"))


@asynccontextmanager
async def broker_silent(fleet: Fleet, cluster: ApacheCluster) -> AsyncIterator[None]:
    """SIGSTOP of the broker: connections stay, and nobody answers on them."""
    at = time.time()
    cluster.broker.pause()
    try:
        yield
    finally:
        cluster.broker.resume()
        fleet.events.append(Fault(at, time.time(), "broker silent"))


@asynccontextmanager
async def redis_gone(fleet: Fleet, redis: RedisServer) -> AsyncIterator[None]:
    """SIGKILL of the shared state; it is back, empty, when the block is left."""
    at = time.time()
    redis.kill()
    try:
        yield
    finally:
        await asyncio.to_thread(redis.start)
        fleet.events.append(Fault(at, time.time(), "redis killed"))


async def redis_slow(fleet: Fleet, redis: RedisServer, times: int) -> None:
    """So many times it stands still for two seconds, and answers in between."""
    async with noted(fleet, "redis slow"):
        for _ in range(times):
            redis.pause()
            await asyncio.sleep(2.0)
            redis.resume()
            await asyncio.sleep(0.05)


async def offsets_to_the_beginning(fleet: Fleet, group: str, topics: Sequence[str]) -> None:
    """What an operator does with `kafka-consumer-groups --reset-offsets --to-earliest`; the group must be empty."""
    at = time.time()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=fleet.cluster.bootstrap, group_id=f"{fleet.topics.prefix}.{group}", enable_auto_commit=False
    )
    await consumer.start()
    try:
        places = [TopicPartition(topic, p) for topic in topics for p in await consumer_partitions(consumer, topic)]
        consumer.assign(places)
        await consumer.commit(dict.fromkeys(places, 0))
    finally:
        await consumer.stop()
    fleet.events.append(Fault(at, time.time(), OFFSETS_RESET))


async def consumer_partitions(consumer: AIOKafkaConsumer, topic: str) -> list[int]:
    await consumer._client._wait_on_metadata(topic)
    return sorted(consumer.partitions_for_topic(topic) or ())


async def promote(fleet: Fleet, bundle: Path, sha256: str | None = None) -> None:
    """Point the fleet at another bundle than it serves, as `heimdall promote` does; `sha256`: a wrong one."""
    archive = bundle.with_suffix(".tar.gz")
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(bundle, arcname="bundle")
    digest = sha256 or hashlib.sha256(archive.read_bytes()).hexdigest()
    pointer = orjson.dumps({"name": "bundle", "url": archive.as_uri(), "sha256": digest})
    async with AIOKafkaProducer(bootstrap_servers=fleet.cluster.bootstrap) as producer:
        await producer.send_and_wait(fleet.topics.control, pointer, key=b"bundle", partition=0)
