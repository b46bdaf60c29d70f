"""A process that stands still while it connects: what its deadlines would have forbidden is not sent afterwards."""

import asyncio
import contextlib
import time
from typing import Any

import aiohttp
import pytest

from heimdall_fleet.providers.connector import PunctualConnector

CONNECT_S = 0.05


class Pausing(PunctualConnector):
    """Stands still, with everything else, for longer than a connection may take, right after it is open."""

    async def _wrap_create_connection(self, *arguments: Any, **named: Any) -> Any:
        opened = await super()._wrap_create_connection(*arguments, **named)
        time.sleep(2 * CONNECT_S)  # noqa: ASYNC251  # the whole process, as SIGSTOP does it
        return opened


@pytest.mark.parametrize(("connector", "asked"), [(PunctualConnector, True), (Pausing, False)])
async def test_a_connection_that_is_open_too_late_is_not_used(connector: type[PunctualConnector], asked: bool) -> None:
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.read(1_000)
        if head:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        heads.append(head)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    allowed = aiohttp.ClientTimeout(total=None, sock_connect=20 if asked else CONNECT_S)
    async with aiohttp.ClientSession(connector=connector()) as session:
        if asked:
            assert (await session.get(url, timeout=allowed)).status == 200
        else:
            with pytest.raises(aiohttp.ServerTimeoutError, match="Connection timeout"):
                await session.get(url, timeout=allowed)
    async with asyncio.timeout(20):
        while not heads:  # noqa: ASYNC110  # until the server has seen the connection end
            await asyncio.sleep(0.01)
    server.close()
    await server.wait_closed()
    assert any(heads) is asked
