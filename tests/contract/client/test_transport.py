"""What the client asks of a transport: the one in memory and the one on Kafka pass the same tests."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest

from heimdall_fleet.client.kafka_transport import KafkaTransport
from heimdall_fleet.client.testing import MemoryTransport
from heimdall_fleet.client.transport import Incoming, Outgoing, Transport
from heimdall_fleet.kafka.embedded import EmbeddedBroker

TOPIC = "heimdall.replies.v1"


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        running.create_topic(TOPIC, 1)
        yield running


@pytest.fixture(params=["memory", "embedded"])
def transport(request: pytest.FixtureRequest, broker: EmbeddedBroker) -> Transport:
    if request.param == "memory":
        return MemoryTransport()
    return KafkaTransport({"bootstrap_servers": broker.bootstrap, "fetch_max_wait_ms": 10}, patience_s=5)


@contextlib.asynccontextmanager
async def opened(transport: Transport) -> AsyncIterator[Transport]:
    try:
        assert await transport.open(TOPIC) == 0
        yield transport
    finally:
        await transport.close()


async def received(transport: Transport, count: int) -> Sequence[Incoming]:
    found: list[Incoming] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += await transport.receive()
    return found


async def test_what_is_written_after_the_opening_is_received_in_order(transport: Transport) -> None:
    async with opened(transport):
        for number in range(20):
            await transport.send(Outgoing(TOPIC, b"key", b"%d" % number))
        values = [record.value for record in await received(transport, 20)]
    assert values == [b"%d" % number for number in range(20)]


async def test_what_was_there_before_the_opening_is_not_received(transport: Transport) -> None:
    async with opened(transport):
        await transport.send(Outgoing(TOPIC, b"key", b"old"))
        await received(transport, 1)
    async with opened(transport):
        await transport.send(Outgoing(TOPIC, b"key", b"new"))
        assert [record.value for record in await received(transport, 1)] == [b"new"]


async def test_headers_come_back_as_they_were_sent(transport: Transport) -> None:
    headers = {"correlation-id": b"\xff\x00", "ce_id": b"r-1"}
    async with opened(transport):
        await transport.send(Outgoing(TOPIC, b"key", b"{}", headers))
        (record,) = await received(transport, 1)
    assert dict(record.headers) == headers


async def test_records_of_other_topics_are_not_received(transport: Transport) -> None:
    async with opened(transport):
        await transport.send(Outgoing("heimdall.requests.v1", b"key", b"elsewhere"))
        await transport.send(Outgoing(TOPIC, b"key", b"here"))
        assert [record.value for record in await received(transport, 1)] == [b"here"]


async def test_closing_twice_or_without_opening_is_harmless(transport: Transport) -> None:
    await transport.close()
    async with opened(transport):
        pass
    await transport.close()
    with pytest.raises(OSError, match="not open"):
        await transport.send(Outgoing(TOPIC, b"key", b"late"))
