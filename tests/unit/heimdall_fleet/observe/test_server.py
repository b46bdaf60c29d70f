import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import orjson
import pytest

from heimdall_fleet.observe.health import Check, Health, HealthState
from heimdall_fleet.observe.metrics import Metrics
from heimdall_fleet.observe.server import Answer, ObserveServer, Pages, ServerSettings


class Worker:
    """The facts a worker's pages show."""

    def __init__(self) -> None:
        self.state: HealthState = "healthy"
        self.metrics = Metrics("test", "1")
        self.health = Health("1", lambda: datetime(2026, 11, 21, tzinfo=UTC))
        self.health.add("bundle", lambda: Check(self.state, {"hash": "abc"}))

    def get(self, path: str, accept: str = "", method: str = "GET", settings: ServerSettings | None = None) -> Answer:
        return Pages(self.metrics, self.health, settings or ServerSettings()).answer(method, path, accept, 0.0)


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.mark.parametrize(
    ("state", "healthz", "readyz", "health"),
    [("healthy", 200, 200, 200), ("degraded", 200, 200, 503), ("unhealthy", 200, 503, 503)],
)
def test_each_state_has_its_status_on_each_page(
    worker: Worker, state: HealthState, healthz: int, readyz: int, health: int
) -> None:
    worker.state = state
    assert [worker.get(path).status for path in ("/healthz", "/readyz", "/health")] == [healthz, readyz, health]
    body = orjson.loads(worker.get("/readyz").body)
    assert body["status"] == state
    assert body["details"]["bundle"] == {"status": state, "hash": "abc"}
    assert worker.metrics.registry.get_sample_value("heimdall_health_state", {"state": state}) == 1


def test_metrics_are_text_or_json_as_asked(worker: Worker) -> None:
    assert worker.get("/metrics").content_type.startswith("text/plain; version=0.0.4")
    assert "request_count" in orjson.loads(worker.get("/metrics", "application/json").body)
    assert worker.get("/prometheus", "application/json").body.startswith(b"# HELP")
    # What Prometheus itself sends must never be mistaken for a wish for JSON.
    assert (
        worker.get("/metrics", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5,*/*;q=0.1").body[:1] == b"#"
    )


def test_the_path_of_the_metrics_is_configurable(worker: Worker) -> None:
    settings = ServerSettings(path="/internal/metrics")
    assert worker.get("/internal/metrics", settings=settings).status == 200
    assert worker.get("/metrics", settings=settings).status == 404


def test_without_observability_the_metrics_are_gone_and_health_stays(worker: Worker) -> None:
    settings = ServerSettings(metrics_enabled=False)
    assert [worker.get(path, settings=settings).status for path in ("/metrics", "/prometheus", "/readyz")] == [
        404,
        404,
        200,
    ]


def test_other_paths_and_methods_are_refused(worker: Worker) -> None:
    assert worker.get("/").status == 404
    assert worker.get("/metrics", method="POST").status == 405
    assert worker.get("/metrics", method="HEAD").status == 200


@pytest.fixture
async def port(worker: Worker) -> AsyncIterator[int]:
    server = ObserveServer(worker.metrics, worker.health, ServerSettings(port=0, labels={"team": "x"}))
    yield await server.start()
    await server.close()
    await server.close()


async def fetch(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: */*\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_it_serves_on_a_free_port_and_says_which(port: int) -> None:
    answer = await fetch(port, b"GET /metrics")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert f"content-length: {len(body)}".encode() in head
    assert b'heimdall_build_info{component="test",team="x",version="1"} 1.0' in body
    assert (await fetch(port, b"HEAD /metrics")).endswith(b"\r\n\r\n")
    assert b"503" not in await fetch(port, b"GET /readyz?x=1")


async def test_after_closing_nothing_is_left(worker: Worker) -> None:
    before = asyncio.all_tasks()
    server = ObserveServer(worker.metrics, worker.health, ServerSettings(port=0))
    port = await server.start()
    await fetch(port, b"GET /healthz")
    await server.close()
    assert asyncio.all_tasks() == before
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await fetch(port, b"GET /healthz")


async def test_a_port_that_is_taken_is_named_with_its_key(worker: Worker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(OSError, match=rf"127.0.0.1:{taken}: .*observe\.metrics\.port"):
            await ObserveServer(worker.metrics, worker.health, ServerSettings(port=taken)).start()
