"""The client when the broker is silent, refuses, or goes away."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from heimdall_fleet.client import Expired, HeimdallClient, Timing, Unreachable
from heimdall_fleet.client.testing import MemoryTransport
from heimdall_fleet.client.transport import Incoming, Outgoing

HELLO = [{"role": "user", "content": "Hello!"}]
SOON = timedelta(milliseconds=15)


def client_on(transport: MemoryTransport, patience: timedelta = timedelta(seconds=2)) -> HeimdallClient:
    return HeimdallClient(transport=transport, timing=Timing(patience=patience))


class DeadBroker(MemoryTransport):
    """A broker that is silent, or refuses, at one of the calls."""

    def __init__(self, silent_at: str = "", refuses_at: str = "") -> None:
        super().__init__()
        self._silent_at, self._refuses_at = silent_at, refuses_at
        self.closed = 0

    async def _meet(self, call: str) -> None:
        if call == self._refuses_at:
            raise ConnectionRefusedError("connection refused")
        if call == self._silent_at:
            await asyncio.Event().wait()

    async def open(self, reply_topic: str) -> int:
        await self._meet("open")
        return await super().open(reply_topic)

    async def send(self, record: Outgoing) -> None:
        await self._meet("send")
        await super().send(record)

    async def receive(self) -> Sequence[Incoming]:
        await self._meet("receive")
        return await super().receive()

    async def close(self) -> None:
        self.closed += 1
        await self._meet("close")
        await super().close()


@pytest.mark.parametrize("how", [{"silent_at": "open"}, {"refuses_at": "open"}])
async def test_a_broker_that_cannot_be_reached_fails_the_opening_in_bounded_time(how: dict[str, str]) -> None:
    broker = DeadBroker(**how)
    with pytest.raises(Unreachable, match=r"heimdall\.replies\.v1 at localhost:9092"):
        await client_on(broker, patience=SOON).__aenter__()
    assert broker.closed == 1


@pytest.mark.parametrize("how", [{"silent_at": "send"}, {"refuses_at": "send"}])
async def test_a_broker_that_takes_no_request_fails_the_call_in_bounded_time(how: dict[str, str]) -> None:
    async with client_on(DeadBroker(**how), patience=SOON) as client:
        with pytest.raises(Unreachable, match="sending"):
            await client.complete(messages=HELLO)


async def test_a_deadline_that_passes_while_the_broker_is_silent_is_an_expiry() -> None:
    async with client_on(DeadBroker("send"), patience=timedelta(seconds=30)) as client:
        with pytest.raises(Expired):
            await client.complete(messages=HELLO, deadline=SOON)


async def test_calls_end_when_replies_can_no_longer_be_read(caplog: pytest.LogCaptureFixture) -> None:
    async with client_on(DeadBroker(refuses_at="receive")) as client:
        with pytest.raises(Unreachable, match="open a new client"):
            await client.complete(messages=HELLO)
        with pytest.raises(Unreachable, match="open a new client"):
            await client.complete(messages=HELLO)
    assert "replies can no longer be read" in caplog.text


async def test_closing_is_bounded_when_the_broker_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    async with client_on(DeadBroker("close"), patience=SOON):
        pass
    assert "closing at localhost:9092" in caplog.text
