"""A whole triage service on the embedded broker: a promoted bundle is taken up, a bad one is said and not used."""

import asyncio
import hashlib
import tarfile
import threading
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import orjson
from tests.brokers import tools
from tests.bundles import dated

from heimdall_fleet.bootstrap.triage import judge_maker, reconfigure_triage, triage_service
from heimdall_fleet.config import Loaded, load
from heimdall_fleet.kafka.embedded import EmbeddedBroker
from heimdall_fleet.kafka.producer import SupervisedProducer, open_producer
from heimdall_fleet.kafka.records import Outgoing
from heimdall_fleet.kafka.settings import ProducerSettings
from heimdall_fleet.observe.exposition import text
from heimdall_fleet.observe.health import Health
from heimdall_fleet.observe.metrics import Metrics
from heimdall_fleet.triage.sources import Directory, Offer
from heimdall_models.bundle import load_bundle
from heimdall_models.shipped import shipped
from heimdall_schemas.topics import Topics

TOPICS = Topics("heimdall")
PATIENCE_S = 20.0
until = partial(tools.until, timeout_s=PATIENCE_S)


def archive(folder: Path, number: int) -> tuple[Path, str]:
    """A copy of the shipped bundle with another date, and its hash."""
    copy = dated(folder / f"bundle-{number}", number)
    with tarfile.open(folder / f"{number}.tar.gz", "w:gz") as packed:
        packed.add(copy, arcname="bundle")
    return folder / f"{number}.tar.gz", load_bundle(copy).hash


def configured(folder: Path, broker: EmbeddedBroker, alpha: float = 0.7) -> Loaded:
    (folder / "heimdall.yaml").write_text(
        f"kafka: {{bootstrap_servers: '{broker.bootstrap}', fetch_max_wait_ms: 10}}\n"
        "providers: {openai: {type: custom, base_url: 'http://127.0.0.1:9/v1'}}\n"
        f"tuning: {{cache_dir: '{folder}/cache'}}\n"
        f"router: {{alpha: {alpha}}}\n"
    )
    return load(folder / "heimdall.yaml", {})


async def promote(producer: SupervisedProducer, value: bytes) -> None:
    await producer.send(Outgoing(TOPICS.control, value, key=b"bundle", partition=0))


async def test_a_promoted_bundle_reaches_a_running_worker_and_a_bad_one_changes_only_its_health(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    metrics = Metrics("triage", "1")
    service = triage_service(configured(tmp_path, broker), metrics)
    health = Health("1", lambda: datetime.now(UTC))
    service.check_into(health)
    producer = open_producer(broker.settings("test"), ProducerSettings(linger_ms=0))
    await producer.start()
    packed, promoted = archive(tmp_path, 2)
    pointer = {"name": "bundle", "url": packed.as_uri(), "sha256": hashlib.sha256(packed.read_bytes()).hexdigest()}
    running = asyncio.create_task(service.run())
    try:
        await until(lambda: service.source.facts().group.joined)
        assert service.tuning.bundle.hash == load_bundle(shipped("bundles/default")).hash
        await promote(producer, orjson.dumps(pointer))
        await until(lambda: service.tuning.bundle.hash == promoted)
        await promote(producer, orjson.dumps({**pointer, "sha256": "0" * 64}))
        failed = 'heimdall_errors_total{code="ARTIFACT_LOAD_FAILED",type="ml_model"} 1.0'
        await until(lambda: failed in text(metrics, {}).decode())
        assert service.tuning.bundle.hash == promoted
        assert health.report().status == "degraded"
        six = {"framework", "version", "feature_count", "tree_count", "loaded_at", "accuracy"}
        assert six <= set(health.report().details["bundle"])
        reconfigure_triage(service, configured(tmp_path, broker, alpha=0.9))
        await until(lambda: service.tuning.judge.rules.alpha == 0.9)
        await promote(producer, b"")
        await until(lambda: service.tuning.bundle.hash != promoted)
        assert health.report().details["bundle"]["status"] == "healthy"
    finally:
        service.stop()
        await running
        await producer.stop()


async def test_a_worker_shows_what_the_last_turn_of_the_learning_loop_found(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    metrics = Metrics("triage", "1")
    service = triage_service(configured(tmp_path, broker), metrics)
    producer = open_producer(broker.settings("test"), ProducerSettings(linger_ms=0))
    await producer.start()
    found = {"time": "2026-11-21T03:17:42+00:00", "psi": {"features": 0.31, "buckets": 0.04}, "reward_drops": {}}
    running = asyncio.create_task(service.run())
    try:
        await until(lambda: service.source.facts().group.joined)
        for value in (orjson.dumps(found), b"{}", b"not json", b""):
            await producer.send(Outgoing(TOPICS.control, value, key=b"drift", partition=0))
        await until(lambda: 'heimdall_drift_psi{what="features"} 0.31' in text(metrics, {}).decode())
        assert "heimdall_reward_drop{" not in text(metrics, {}).decode()
    finally:
        service.stop()
        await running
        await producer.stop()


async def test_a_worker_that_starts_decides_its_first_batch_by_what_was_promoted(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    packed, promoted = archive(tmp_path, 3)
    producer = open_producer(broker.settings("test"), ProducerSettings(linger_ms=0))
    await producer.start()
    sha256 = hashlib.sha256(packed.read_bytes()).hexdigest()
    await promote(producer, orjson.dumps({"name": "bundle", "url": packed.as_uri(), "sha256": sha256}))
    service = triage_service(configured(tmp_path, broker), Metrics("triage", "1"))
    running = asyncio.create_task(service.run())
    try:
        await until(lambda: service.source.facts().group.joined)
        assert service.tuning.bundle.hash == promoted
    finally:
        service.stop()
        await running
        await producer.stop()


class SlowSource:
    """A source whose answer is waited for until it is let go."""

    def __init__(self) -> None:
        self.looks = 0
        self.let_go = threading.Event()

    def offer(self) -> Offer:
        self.looks += 1
        self.let_go.wait(PATIENCE_S)
        return Directory(shipped("bundles/default")).offer()


async def test_what_is_told_while_a_worker_looks_makes_it_look_again(broker: EmbeddedBroker, tmp_path: Path) -> None:
    loaded = configured(tmp_path, broker)
    service = triage_service(loaded, Metrics("triage", "1"))
    running = asyncio.create_task(service.run())
    slow = SlowSource()
    try:
        await until(lambda: service.source.facts().group.joined)
        service.tuning.remake(judge_maker(loaded.config), slow)
        service.look_now()
        await until(lambda: slow.looks == 1)
        service.look_now()
        slow.let_go.set()
        await until(lambda: slow.looks == 2)
        assert service.tuning.refused is None
    finally:
        slow.let_go.set()
        service.stop()
        await running
