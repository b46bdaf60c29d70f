"""The HTTP server of a worker: metrics and health, inside the worker's own event loop.

A bare ASGI function on uvicorn: five paths need no framework, and every worker is spared its memory.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import uvicorn

from heimdall_fleet.observe import exposition
from heimdall_fleet.observe.health import Health
from heimdall_fleet.observe.metrics import Metrics
from heimdall_fleet.observe.process import gc_pauses

_Message = MutableMapping[str, Any]
_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"
_REFRESH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where to listen and what to show. Without `metrics_enabled` health stays, the metrics are gone."""

    host: str = "127.0.0.1"
    port: int = 9090
    path: str = "/metrics"
    labels: dict[str, str] = field(default_factory=dict)
    metrics_enabled: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    content_type: str
    body: bytes


class Pages:
    """What each path answers, without any I/O; a gateway mounts the same."""

    def __init__(self, metrics: Metrics, health: Health, settings: ServerSettings) -> None:
        self._metrics = metrics
        self._health = health
        self._settings = settings

    def answer(self, method: str, path: str, accept: str, now: float) -> Answer:
        """`now` is monotonic seconds. 404 for paths that do not exist, 405 for methods other than GET and HEAD."""
        if method not in ("GET", "HEAD"):
            return Answer(405, _TEXT, b"only GET\n")
        if path == "/healthz":
            return Answer(200, _TEXT, b"alive\n")
        if path in ("/readyz", "/health"):
            return self._state(path)
        if path in (self._settings.path, "/prometheus"):
            return self._metric_page(path, accept, now)
        return Answer(404, _TEXT, f"try {self._settings.path}, /health, /healthz or /readyz\n".encode())

    def _state(self, path: str) -> Answer:
        report = self._health.report()
        self._metrics.worker.health(report.status)
        good = report.ready if path == "/readyz" else report.status == "healthy"
        return Answer(200 if good else 503, _JSON, orjson.dumps(report.as_json(), default=str))

    def _metric_page(self, path: str, accept: str, now: float) -> Answer:
        if not self._settings.metrics_enabled:
            return Answer(404, _TEXT, b"metrics are off; set enable_observability: true\n")
        self._metrics.refresh(now)
        self._metrics.worker.health(self._health.report().status)
        if _JSON in accept and path != "/prometheus":
            return Answer(200, _JSON, orjson.dumps(exposition.json_map(self._metrics)))
        return Answer(200, exposition.CONTENT_TYPE, exposition.text(self._metrics, self._settings.labels))


class ObserveServer:
    """Serves the pages until it is closed. Knows nothing of signals: those are the worker's."""

    def __init__(self, metrics: Metrics, health: Health, settings: ServerSettings) -> None:
        self._metrics = metrics
        self._pages = Pages(metrics, health, settings)
        self._settings = settings
        self._server: _Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> int:
        """Listen; the port is returned, which matters when the configured one is 0.

        Raises OSError naming address and key when the port cannot be had.
        """
        listener = _listen(self._settings.host, self._settings.port)
        config = uvicorn.Config(
            self._app,
            http="h11",
            ws="none",
            loop="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
            limit_concurrency=100,
        )
        self._server = _Server(config)
        self._tasks = [
            asyncio.create_task(self._server.serve(sockets=[listener]), name="observe-server"),
            asyncio.create_task(self._refresh(), name="observe-refresh"),
        ]
        return int(listener.getsockname()[1])

    async def close(self) -> None:
        """Stop listening and end the side task. Safe to call twice."""
        if self._server is None:
            return
        self._server.should_exit = True
        serving, refreshing = self._tasks
        refreshing.cancel()
        await asyncio.gather(serving, refreshing, return_exceptions=True)
        self._server = None

    async def _refresh(self) -> None:
        with gc_pauses(self._metrics.worker.gc_pauses.observe):
            while True:
                self._metrics.refresh(time.monotonic())
                await asyncio.sleep(_REFRESH_SECONDS)

    async def _app(
        self,
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        accept = b",".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1")
        answer = self._pages.answer(scope["method"], scope["path"], accept, time.monotonic())
        headers = [
            (b"content-type", answer.content_type.encode()),
            (b"content-length", str(len(answer.body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, which would take SIGTERM from the worker."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        # Connections queue from now on, whether or not the server has taken the socket over yet.
        listener.listen(128)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        why = error.strerror or str(error)
        raise OSError(
            error.errno,
            f"cannot listen on {host}:{port}: {why}; set observe.metrics.port (or --metrics-port), 0 takes a free one",
        ) from error
    return listener
