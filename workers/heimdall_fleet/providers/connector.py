"""Connections of aiohttp's: whether one was opened just now, and none that is open only after its time."""

import time
from contextvars import ContextVar

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.tracing import Trace

FRESH: ContextVar[bool] = ContextVar("heimdall_fresh_connection", default=False)


class PunctualConnector(aiohttp.TCPConnector):
    """Notes, for the task that asked, that its connection was opened just now.

    One that is there only after its time is not used: this process stood still meanwhile, and its deadlines may be over.
    """

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        FRESH.set(True)
        started = time.monotonic()
        opened = await super()._create_connection(req, traces, timeout)
        if timeout.sock_connect is not None and time.monotonic() - started > timeout.sock_connect:
            opened.close()
            raise aiohttp.ServerTimeoutError("the connection was open later than connect_timeout allows")
        return opened
