"""Servers that misbehave, on raw loopback sockets."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from heimdall_fleet.providers.http import HttpClient
from heimdall_fleet.providers.transport import Network

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[..., Awaitable[str]]
Connect = Callable[..., HttpClient]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a server that runs `handler` on each connection; gives its base URL."""
    running: set[asyncio.Task[None] | None] = set()  # a handler that waits for ever is held by nobody else
    async with AsyncExitStack() as stack:

        async def start(handler: Handler, tls: ssl.SSLContext | None = None) -> str:
            async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                running.add(asyncio.current_task())
                try:
                    await handler(reader, writer)
                except (ConnectionError, asyncio.IncompleteReadError):
                    pass  # the client left, as it should
                finally:
                    running.discard(asyncio.current_task())
                    writer.close()

            server = await asyncio.start_server(on_connection, "127.0.0.1", 0, ssl=tls)
            stack.callback(server.close)
            port = server.sockets[0].getsockname()[1]
            return f"{'https' if tls else 'http'}://127.0.0.1:{port}"

        yield start


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Make clients that are closed after the test."""
    clients: list[HttpClient] = []

    def make(network: Network = Network()) -> HttpClient:  # noqa: B008  frozen
        clients.append(HttpClient.over(network))
        return clients[-1]

    yield make
    for client in clients:
        await client.aclose()
