"""Promotion under load on the embedded broker: the bundle changes between two batches, and every request is answered."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from tests.brokers import tools
from tests.bundles import dated
from tests.unit.heimdall_fleet.learn.made import Desk, decision, outcome

from heimdall_fleet.bootstrap.triage import triage_service
from heimdall_fleet.cli.bundles import bundles
from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.explain import explain
from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.cli.promote import promote
from heimdall_fleet.cli.train import evaluate
from heimdall_fleet.config import Loaded, load
from heimdall_fleet.kafka.driver.reading import TopicReader
from heimdall_fleet.kafka.embedded import EmbeddedBroker
from heimdall_fleet.kafka.producer import SupervisedProducer, open_producer
from heimdall_fleet.kafka.records import Outgoing
from heimdall_fleet.kafka.settings import ProducerSettings
from heimdall_fleet.observe.metrics import Metrics
from heimdall_fleet.triage.service import TriageService
from heimdall_models.bundle import load_bundle
from heimdall_models.shipped import shipped
from heimdall_schemas.topics import Topics

pytestmark = pytest.mark.slow

TOPICS = Topics("heimdall")
PATIENCE_S = 20.0
until = partial(tools.until, timeout_s=PATIENCE_S)
DEFAULT = shipped("bundles/default")


@pytest.fixture
def loaded(broker: EmbeddedBroker, tmp_path: Path) -> Loaded:
    file = tmp_path / "heimdall.yaml"
    file.write_text(
        f"kafka: {{bootstrap_servers: '{broker.bootstrap}', fetch_max_wait_ms: 10}}\n"
        "providers: {openai: {type: custom, base_url: 'http://127.0.0.1:9/v1'}}\n"
        f"tuning: {{cache_dir: '{tmp_path}/cache'}}\n"
        f"learning: {{bundle_store: '{(tmp_path / 'store').as_uri()}'}}\n"
        "enable_caching: false\n"
        "timeout: 10s\n"
        "feature_timeout: 10s\n"
    )
    return load(file, {})


async def command(loaded: Loaded, group: Any, *arguments: str) -> dict[str, Any]:
    """A command as its user types it, in a thread: it has an event loop of its own."""
    options = Globals(config=loaded.files[0], output="json")
    result = await asyncio.to_thread(CliRunner().invoke, group, arguments, obj=options)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    found: dict[str, Any] = orjson.loads(result.stdout)
    return found


async def decisions(broker: EmbeddedBroker, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(PATIENCE_S), TopicReader(broker.settings("test")) as reader:
        async for record in reader.read([TOPICS.audit], follow=True):
            found.append(orjson.loads(record.value or b""))
            if len(found) == count:
                return found
    raise AssertionError("the audit ended")


class Load:
    """Requests, one after another, until it is told to stop."""

    def __init__(self, producer: SupervisedProducer) -> None:
        self.sent = 0
        self.stopped = False
        self._producer = producer

    async def run(self) -> None:
        while not self.stopped:
            body = orjson.dumps({"messages": [{"role": "user", "content": f"question {self.sent}"}]})
            await self._producer.send(Outgoing(TOPICS.requests, body, partition=0))
            self.sent += 1


async def test_a_promotion_under_load_changes_the_bundle_between_batches_and_no_request_fails(
    broker: EmbeddedBroker, loaded: Loaded, tmp_path: Path
) -> None:
    better = dated(tmp_path / "bundle-2", 2)
    old, new = load_bundle(DEFAULT).hash, load_bundle(better).hash
    service = triage_service(loaded, Metrics("triage", "1"))
    producer = open_producer(broker.settings("test"), ProducerSettings(linger_ms=0))
    await producer.start()
    load_ = Load(producer)
    tasks = [asyncio.create_task(service.run()), asyncio.create_task(load_.run())]
    try:
        await until(lambda: service.source.facts().group.joined and load_.sent > 20)
        told = await command(loaded, promote, str(better))
        assert (told["bundle"], told["alias"], told["replaces"]) == (new, "champion", None)
        await serving(service, new, load_)
        assert (await command(loaded, bundles, "aliases"))["bundle"] == new
        back = await command(loaded, bundles, "rollback")
        assert (back["from"], back["to"]) == (new, None)
        await serving(service, old, load_)
        load_.stopped = True
        found = await decisions(broker, load_.sent)
    finally:
        load_.stopped = True
        service.stop()
        await asyncio.gather(*tasks)
        await producer.stop()
    assert {each["kind"] for each in found} == {"decision"}
    served = [each["bundle"] for each in found]
    changes = [at for at in range(1, len(served)) if served[at] != served[at - 1]]
    assert [served[0], *(served[at] for at in changes)] == [old, new, old]


async def test_an_evaluation_holds_a_bundle_against_the_promoted_one(
    broker: EmbeddedBroker, loaded: Loaded, tmp_path: Path
) -> None:
    champion, challenger = dated(tmp_path / "bundle-4", 4), dated(tmp_path / "bundle-5", 5)
    desk = Desk(tmp_path)
    await asyncio.to_thread(desk.run, decision("r1"), outcome("r1"))
    data = ("--data", str(desk.out), "--bundle", str(challenger))
    assert (await command(loaded, evaluate, *data))["champion"] == load_bundle(DEFAULT).hash
    await command(loaded, promote, str(champion))
    assert (await command(loaded, evaluate, *data))["champion"] == load_bundle(champion).hash


async def serving(service: TriageService, bundle: str, load_: Load) -> None:
    """Wait until this bundle decides, and for some requests after that."""
    await until(lambda: service.tuning.bundle.hash == bundle)
    seen = load_.sent
    await until(lambda: load_.sent > seen + 20)


async def test_a_challenger_decides_silently_and_what_it_decides_as_champion_can_be_proven_when_another_is(
    broker: EmbeddedBroker, loaded: Loaded, tmp_path: Path
) -> None:
    challenger = dated(tmp_path / "bundle-3", 3)
    await command(loaded, promote, str(challenger), "--alias", "challenger")
    service = triage_service(loaded, Metrics("triage", "1"))
    producer = open_producer(broker.settings("test"), ProducerSettings(linger_ms=0))
    await producer.start()
    running = asyncio.create_task(service.run())
    try:
        await until(lambda: service.source.facts().group.joined)
        body = orjson.dumps({"messages": [{"role": "user", "content": "hi"}]})
        await producer.send(Outgoing(TOPICS.requests, body, partition=0))
        (record,) = await decisions(broker, 1)
        assert record["bundle"] == load_bundle(DEFAULT).hash
        opinion = record["challenger"]
        assert opinion["bundle"] == load_bundle(challenger).hash
        assert (opinion["bucket"], opinion["selected_model"]) == (record["bucket"], record["selected_model"])
        await command(loaded, promote, str(challenger))
        await until(lambda: service.tuning.challenger is None)
        assert service.tuning.bundle.hash == load_bundle(challenger).hash
        await producer.send(Outgoing(TOPICS.requests, body, partition=0))
        _, later = await decisions(broker, 2)
        await command(loaded, promote, str(dated(tmp_path / "bundle-5", 5)))
        told = await command(loaded, explain, later["request_id"], "--recompute")
        assert told["recomputed"] == {"bundle": load_bundle(challenger).hash, "differences": []}
    finally:
        service.stop()
        await running
        await producer.stop()


async def test_a_bundle_that_a_worker_would_refuse_is_not_promoted(loaded: Loaded, tmp_path: Path) -> None:
    broken = dated(tmp_path / "bundle-4", 4)
    (broken / "classifier.onnx").write_bytes(b"no trees")
    with pytest.raises(CommandError, match="not promoted") as raised:
        await command(loaded, promote, str(broken))
    assert raised.value.code is Exit.CHECK_FAILED
    with pytest.raises(CommandError, match="nothing was promoted") as raised:
        await command(loaded, bundles, "rollback")
    assert raised.value.code is Exit.NOT_FOUND
