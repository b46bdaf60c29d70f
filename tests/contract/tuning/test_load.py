"""A triage service on the embedded broker under load: its bundle changes, steps of it fail, and no request does."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray
from tests.brokers import tools
from tests.bundles import dated

from heimdall_fleet.bootstrap.triage import triage_service
from heimdall_fleet.config import load
from heimdall_fleet.kafka.driver.reading import TopicReader
from heimdall_fleet.kafka.embedded import EmbeddedBroker
from heimdall_fleet.kafka.producer import SupervisedProducer, open_producer
from heimdall_fleet.kafka.records import Outgoing
from heimdall_fleet.kafka.settings import ProducerSettings
from heimdall_fleet.observe.exposition import text
from heimdall_fleet.observe.metrics import Metrics
from heimdall_fleet.triage.service import TriageService
from heimdall_models.bundle import MANIFEST, ONNX, Clusters, load_bundle
from heimdall_models.cache import Entry
from heimdall_models.classify import Verdicts
from heimdall_models.judge import Judge
from heimdall_models.shipped import shipped
from heimdall_models.text_model import TextModel
from heimdall_schemas import headers as h
from heimdall_schemas.topics import Bucket, Topics

TOPICS = Topics("heimdall")
PATIENCE_S = 20.0
until = partial(tools.until, timeout_s=PATIENCE_S)


@dataclass
class Site:
    """A running service, its metrics, and who asks it."""

    service: TriageService
    metrics: Metrics
    broker: EmbeddedBroker
    producer: SupervisedProducer
    asked: int = 0

    async def ask(self, count: int) -> None:
        """Send requests that differ, over all partitions."""
        sent = []
        for number in range(self.asked, self.asked + count):
            body = {"model": "auto", "messages": [{"role": "user", "content": f"What is {number} times {number}?"}]}
            headers = [(h.CE_ID, f"r-{number}".encode())]
            sent.append(Outgoing(TOPICS.requests, orjson.dumps(body), partition=number % 24, headers=headers))
        self.asked += count
        await asyncio.gather(*(self.producer.send(record) for record in sent))

    async def read(self, *topics: str) -> list[dict[str, Any]]:
        """The records of these topics once there are as many as requests were sent."""
        async with asyncio.timeout(PATIENCE_S), TopicReader(self.broker.settings("reader")) as reader:
            found: list[dict[str, Any]] = []
            while len(found) < self.asked:
                found = [orjson.loads(record.value or b"{}") async for record in reader.read(topics)]
            return found

    def decided(self) -> int:
        return self.metrics.triage.decided_count


@asynccontextmanager
async def site(broker: EmbeddedBroker, folder: Path, bundle: Path) -> AsyncIterator[Site]:
    (folder / "heimdall.yaml").write_text(
        f"kafka: {{bootstrap_servers: '{broker.bootstrap}', fetch_max_wait_ms: 10}}\n"
        "providers: {openai: {type: custom, base_url: 'http://127.0.0.1:9/v1'}}\n"
        f"tuning: {{artifact_url: '{bundle}', cache_dir: '{folder}/cache'}}\n"
        "timeout: 60s\nfeature_timeout: 60s\n"
    )
    metrics = Metrics("triage", "1")
    service = triage_service(load(folder / "heimdall.yaml", {}), metrics)
    producer = open_producer(broker.settings("test"), ProducerSettings(linger_ms=0))
    await producer.start()
    running = asyncio.create_task(service.run())
    here = Site(service, metrics, broker, producer)
    try:
        await until(lambda: service.source.facts().group.joined)
        yield here
    finally:
        service.stop()
        await running
        await producer.stop()


async def test_a_bundle_that_is_replaced_under_load_serves_the_next_batch_and_no_request_fails(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    place = tmp_path / "bundle"
    place.mkdir()
    old = load_bundle(dated(place, 1)).hash
    async with site(broker, tmp_path, place) as here:
        await here.ask(64)
        await until(lambda: here.decided() >= 64)
        new = load_bundle(dated(place, 2)).hash
        here.service.look_now()
        while here.service.tuning.bundle.hash != new:
            await here.ask(64)
            await asyncio.sleep(0)
        await here.ask(64)
        (place / ONNX).write_bytes((place / ONNX).read_bytes()[:1000])
        (place / MANIFEST).write_bytes((place / MANIFEST).read_bytes().replace(b"2026-11-02", b"2026-11-03"))
        here.service.look_now()
        await until(lambda: here.service.tuning.refused is not None)
        await here.ask(64)
        records = await here.read(TOPICS.audit)
        orders = await here.read(*(TOPICS.dispatch(bucket) for bucket in Bucket))
    assert Counter(record["kind"] for record in records) == {"decision": here.asked}
    by_id = {record["request_id"]: record["bundle"] for record in records}
    assert len(by_id) == len(orders) == here.asked
    assert set(by_id.values()) == {old, new}
    assert {by_id[f"r-{number}"] for number in range(here.asked - 64, here.asked)} == {new}


class Silent:
    """A classifier that predicts nothing."""

    def predict(self, numeric: NDArray[np.float32]) -> Verdicts:
        nothing = np.full(len(numeric), np.nan)
        return Verdicts(nothing, nothing, nothing, nothing, np.zeros(len(numeric), np.bool_))


@dataclass(frozen=True)
class Unsure:
    """A bundle whose classifier is `Silent`."""

    hash: str
    classifier: Silent
    text_model: TextModel
    clusters: Clusters
    quality_json: bytes | None


class Full:
    """A store that has no room."""

    def __len__(self) -> int:
        return 0

    def get(self, key: bytes, now_s: float) -> Entry | None:
        return None

    def put(self, key: bytes, value: Entry, now_s: float) -> None:
        raise OSError("no space left on device")


def without_predictions(judge: Judge) -> Judge:
    bundle = judge.bundle
    return replace(judge, bundle=Unsure(bundle.hash, Silent(), bundle.text_model, bundle.clusters, bundle.quality_json))


def without_time(judge: Judge) -> Judge:
    return replace(judge, reader=replace(judge.reader, timeout_ms=0.0))


@pytest.mark.parametrize(
    ("spoil", "family", "code"),
    [(without_predictions, "ml_model", "MODEL_PREDICT_FAILED"), (without_time, "timeout", "FEATURE_TIMEOUT")],
)
async def test_a_step_that_fails_is_counted_and_every_request_goes_to_mid(
    broker: EmbeddedBroker, tmp_path: Path, spoil: Callable[[Judge], Judge], family: str, code: str
) -> None:
    async with site(broker, tmp_path, shipped("bundles/default")) as here:
        serving = here.service.tuning.serving
        here.service.tuning.serving = replace(serving, judge=spoil(serving.judge))
        here.service.look_now()
        await here.ask(1)
        counted = f'heimdall_errors_total{{code="{code}",type="{family}"}}'
        async with asyncio.timeout(PATIENCE_S):
            while counted not in text(here.metrics, {}).decode():
                await here.ask(1)
                await asyncio.sleep(0.02)
        last = next(each for each in await here.read(TOPICS.audit) if each["request_id"] == f"r-{here.asked - 1}")
    assert (last["bucket"], last["decision_type"], last["fallback_reason"]) == ("mid", "default", code)


async def test_a_cache_without_room_is_counted_and_every_request_is_decided(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    async with site(broker, tmp_path, shipped("bundles/default")) as here:
        here.service.memory.decisions = Full()
        await here.ask(5)
        counted = 'heimdall_errors_total{code="CACHE_WRITE_FAILED",type="internal"} 5.0'
        await until(lambda: counted in text(here.metrics, {}).decode())
        assert {record["decision_type"] for record in await here.read(TOPICS.audit)} == {"scored"}
