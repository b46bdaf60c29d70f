"""The client end to end, with a fleet of a few lines that reads requests and writes replies on a real protocol."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest

from heimdall_fleet.bootstrap.edges import client_for
from heimdall_fleet.client import CallerError, Expired, HeimdallClient, Timing, Unreachable
from heimdall_fleet.client.kafka_transport import KafkaTransport
from heimdall_fleet.client.testing import answered, streamed
from heimdall_fleet.client.transport import Outgoing
from heimdall_fleet.config import Config
from heimdall_fleet.kafka import records
from heimdall_fleet.kafka.batches import open_batches
from heimdall_fleet.kafka.embedded import EmbeddedBroker
from heimdall_fleet.kafka.producer import open_producer
from heimdall_fleet.kafka.settings import BatchSettings, ProducerSettings
from heimdall_schemas import headers as h
from heimdall_schemas.ids import new_id
from heimdall_schemas.request import Request
from heimdall_schemas.topics import Topics

TOPICS = Topics("heimdall")
PATIENCE = Timing(patience=timedelta(seconds=3))


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        running.create_topic(TOPICS.requests, 4)
        running.create_topic(TOPICS.replies, 4)
        yield running


@pytest.fixture
async def fleet(broker: EmbeddedBroker) -> AsyncIterator[None]:
    """Echoes the last message, as a stream where one is asked for; does not answer to "silence"."""
    settings = broker.settings("fleet")
    batches = open_batches(settings, BatchSettings(group_id=new_id(), topics=(TOPICS.requests,)))
    producer = open_producer(settings, ProducerSettings())
    await producer.start()
    batches.start()

    async def work() -> None:
        while (batch := await batches.next_batch()) is not None:
            for record in batch.records:
                for reply in echoes(record):
                    await producer.send(reply)
            batches.commit(batch)

    working = asyncio.create_task(work())
    yield
    await batches.stop(grace_s=1)
    await working
    await producer.stop()


def echoes(record: records.Record) -> list[records.Outgoing]:
    found = h.last(record.headers)
    request = Request.model_validate_json(record.value or b"")
    said = str(request.messages[-1].content)
    if said == "silence":
        return []
    asked = Outgoing(record.topic, b"", b"", found)
    replies = streamed(asked, said.split(" ")) if request.stream else [answered(asked, said)]
    partition = h.partition(found)
    to = found[h.REPLY_TO].decode()
    return [records.Outgoing(to, reply.value, b"k", partition, reply.headers) for reply in replies]


def client_of(broker: EmbeddedBroker) -> HeimdallClient:
    return HeimdallClient(broker.bootstrap, kafka={"fetch_max_wait_ms": 10}, timing=PATIENCE)


@pytest.mark.usefixtures("fleet")
async def test_calls_streams_and_expiries_share_one_connection(broker: EmbeddedBroker) -> None:
    async with client_of(broker) as client:
        calls = [client.complete(messages=[{"role": "user", "content": f"call {n}"}]) for n in range(50)]
        silent = client.complete(
            messages=[{"role": "user", "content": "silence"}], deadline=timedelta(milliseconds=300)
        )
        stream = client.stream(messages=[{"role": "user", "content": "one two three"}])
        chunks = [chunk async for chunk in stream]
        replies = await asyncio.gather(*calls)
        with pytest.raises(Expired):
            await silent
    assert [reply.text for reply in replies] == [f"call {n}" for n in range(50)]
    assert [chunk.heimdall.sequence for chunk in chunks] == [0, 1, 2]
    assert stream.final is not None


@pytest.mark.usefixtures("fleet")
async def test_two_clients_on_one_reply_topic_do_not_disturb_each_other(broker: EmbeddedBroker) -> None:
    async with client_of(broker) as one, client_of(broker) as other:
        texts = await asyncio.gather(
            *(
                client.complete(messages=[{"role": "user", "content": name}])
                for client, name in [(one, "1"), (other, "2")] * 10
            )
        )
    assert [reply.text for reply in texts] == ["1", "2"] * 10


async def test_a_fleet_that_takes_larger_requests_is_sent_them(broker: EmbeddedBroker) -> None:
    kafka = {"bootstrap_servers": broker.bootstrap, "max_message_bytes": "5MB", "fetch_max_wait_ms": 10}
    question = [{"role": "user", "content": "word " * 800_000}]
    config = Config.model_validate({"kafka": kafka, "limits": {"max_body_bytes": "4.1MB"}})
    async with client_for(config) as client:
        assert (await client.submit(messages=question)).request_id
    async with client_for(Config.model_validate({"kafka": kafka})) as client:
        with pytest.raises(CallerError, match=r"the limit is 1,500,000 \(limits\.max_body_bytes\)"):
            await client.submit(messages=question)


async def test_a_broker_that_goes_away_ends_the_call_and_leaves_nothing_behind(broker: EmbeddedBroker) -> None:
    before = asyncio.all_tasks()
    async with HeimdallClient(broker.bootstrap, timing=Timing(patience=timedelta(seconds=1))) as client:
        broker.set_up(False)
        with pytest.raises(Unreachable, match="sending"):
            await client.complete(messages=[{"role": "user", "content": "hi"}], deadline=timedelta(seconds=30))
        broker.set_up(True)
    assert asyncio.all_tasks() == before


@pytest.mark.usefixtures("fleet")
async def test_calls_are_answered_again_when_the_broker_is_back(broker: EmbeddedBroker) -> None:
    async with client_of(broker) as client:
        before = await client.submit(messages=[{"role": "user", "content": "before"}])
        assert (await before.result()).text == "before"
        broker.set_up(False)
        during = asyncio.create_task(client.complete(messages=[{"role": "user", "content": "during"}]))
        await asyncio.sleep(0)
        broker.set_up(True)
        assert (await during).text == "during"


async def test_a_refused_port_is_reported_with_its_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Unreachable, match=address):
            await HeimdallClient(address, timing=PATIENCE).__aenter__()


async def test_a_port_where_nobody_speaks_is_given_up_in_bounded_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        transport = KafkaTransport({"bootstrap_servers": address}, patience_s=0.5)
        with pytest.raises(ConnectionError):
            await transport.open(TOPICS.replies)
        await transport.close()
