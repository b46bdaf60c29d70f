"""The scripted providers behind uvicorn on a loopback port, in this loop."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import uvicorn

from heimdall_fleet.providers.scripted.app import ScriptedApp
from heimdall_fleet.providers.scripted.calls import CallLog, CallRecord
from heimdall_fleet.providers.scripted.plan import Plan

_START_WITHIN_S = 10.0
LOOPBACK = "127.0.0.1"


class _Server(uvicorn.Server):
    """Leaves the process's signals to the process, and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class ScriptedProviders:
    """`async with ScriptedProviders(plan) as servers:` then `servers.base_url("openai")`.

    `port` 0 takes a free one; `host` 0.0.0.0 lets other containers in. Calls that hang end with the block.
    """

    def __init__(self, plan: Plan, calls_file: Path | None = None, port: int = 0, host: str = LOOPBACK) -> None:
        self._log = CallLog(calls_file)
        self._app = ScriptedApp(plan, self._log)
        self._host = host
        self._port = port
        self._server = _Server(
            uvicorn.Config(
                self._app,
                lifespan="off",
                ws="none",
                interface="asgi3",
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=1,
            )
        )
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}"

    def base_url(self, provider: str) -> str:
        return f"{self.url}/{provider}/v1"

    @property
    def calls(self) -> list[CallRecord]:
        """Every call so far, open ones included."""
        return self._log.calls

    def set_plan(self, plan: Plan) -> None:
        self._app.set_plan(plan)

    async def __aenter__(self) -> Self:
        listener = _listen(self._host, self._port)
        self._port = listener.getsockname()[1]
        self._log.__enter__()
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]), name="scripted-providers")
        async with asyncio.timeout(_START_WITHIN_S):
            await self._server.ready.wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._log.__exit__(kind, error, at)


def _listen(host: str, port: int) -> socket.socket:
    # With the protocol named, asyncio turns Nagle's algorithm off; without, a second small write waits 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener
