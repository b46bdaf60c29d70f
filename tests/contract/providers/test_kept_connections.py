"""Connections that outlive their request: asked again, closed after a time, found closed."""

import asyncio

from tests.contract.providers.exchanges import (
    OK,
    QUICK,
    Connect,
    Handler,
    Serve,
    failure_of,
    read_head_and_body,
    request,
)

from heimdall_fleet.providers.dialect import Action
from heimdall_fleet.providers.transport import Network
from heimdall_schemas.failure import FailureCode as Code


def keeping_alive(requests: int, then: Handler | None = None) -> tuple[Handler, list[int]]:
    """Serve this many requests on each connection, then close it or do something else; counts the connections."""
    connections: list[int] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(0)
        for _ in range(requests):
            await read_head_and_body(reader)
            connections[-1] += 1
            writer.write(OK + b"content-length: 2\r\n\r\n{}")
        if then is not None:
            await then(reader, writer)
        else:
            await reader.readexactly(1)  # the next request arrives, and the connection is closed

    return handler, connections


async def test_a_connection_is_reused(serve: Serve, connect: Connect) -> None:
    handler, connections = keeping_alive(10)
    url, client = await serve(handler), connect()
    for _ in range(10):
        assert (await client.post(request(url), QUICK)).body == b"{}"
    assert connections == [10]


async def test_a_connection_that_nobody_asks_is_closed_after_its_time(serve: Serve, connect: Connect) -> None:
    closed = asyncio.Event()

    async def to_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""
        closed.set()

    handler, connections = keeping_alive(2, to_the_end)
    url, client = await serve(handler), connect(Network(keepalive_s=0.5))
    for _ in range(2):
        await client.post(request(url), QUICK)
    await asyncio.wait_for(closed.wait(), 20)
    assert connections == [2]
    await client.post(request(url), QUICK)
    assert connections == [2, 1]


async def test_urls_of_one_server_share_its_connections(serve: Serve, connect: Connect) -> None:
    handler, connections = keeping_alive(3)
    url, client = await serve(handler), connect()
    for path in ("/one", "/two", "/one"):
        await client.post(request(url + path), QUICK)
    assert connections == [3]


async def test_a_kept_connection_that_was_closed_is_tried_again_at_once(serve: Serve, connect: Connect) -> None:
    handler, _ = keeping_alive(1)
    url, client = await serve(handler), connect()
    await client.post(request(url), QUICK)
    failure = await failure_of(client, request(url))
    assert (failure.code, failure.action) == (Code.PROVIDER_UNREACHABLE, Action.SAME_KEY)
    assert (failure.retry_after_ms, failure.connection_only, failure.counts_for_breaker) == (0, True, False)
    assert (await client.post(request(url), QUICK)).status == 200


async def test_a_kept_connection_that_dies_after_long_work_may_have_been_billed(serve: Serve, connect: Connect) -> None:
    async def work_and_die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head_and_body(reader)
        await asyncio.sleep(1.1)

    handler, _ = keeping_alive(1, work_and_die)
    url, client = await serve(handler), connect()
    await client.post(request(url), QUICK)
    failure = await failure_of(client, request(url))
    assert (failure.code, failure.connection_only) == (Code.PROVIDER_UNREACHABLE, False)
    assert failure.counts_for_breaker


async def test_what_an_idle_server_says_is_no_answer_to_the_next_request(serve: Serve, connect: Connect) -> None:
    told = asyncio.Event()

    async def time_out(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
        told.set()
        await reader.read()

    handler, connections = keeping_alive(1, time_out)
    url, client = await serve(handler), connect()
    await client.post(request(url), QUICK)
    await told.wait()
    for _ in range(5):  # server and client share this loop: what was written is read when it comes round
        await asyncio.sleep(0)
    assert (await client.post(request(url), QUICK)).status == 200
    assert connections == [1, 1]
