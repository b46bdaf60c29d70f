"""Fault 26: a caller who names an address. There is nowhere to name one: the fleet connects to what its operator configured."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.brokers.clusters import ApacheCluster
from tests.faults.figures import Tell
from tests.faults.fleet import Setup
from tests.faults.load import Ask
from tests.faults.scenario import Scenario, scenario

from heimdall_schemas import headers as h

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

NAMES = ("base_url", "api_base", "api_url", "endpoint", "proxy", "webhook", "callback_url")
PLACES = (
    "http://127.0.0.1:{port}/v1",
    "http://localhost:{port}/v1",
    "http://user:word@127.0.0.1:{port}/v1",
    "http://[::ffff:127.0.0.1]:{port}/v1",
    "http://rebinds.invalid:{port}/v1",
    "http://169.254.169.254/latest/meta-data",
)


@asynccontextmanager
async def trap() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A port on loopback, and what was said to it."""
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1_000))
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heard


async def test_an_address_in_a_request_is_refused_or_ignored_and_never_connected_to(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    async with trap() as (port, heard), scenario(apache_broker, Setup(326, tmp_path)) as run:
        places = [place.format(port=port) for place in PLACES]
        options = [run.load.ask(options={name: place}) for name in NAMES for place in places]
        bodies = [ask for place in places for ask in naming(run, place)]
        headers = [
            run.load.raw(hello(), (f"{prefix}{name}", place.encode()))
            for prefix in ("", "x-", "heimdall-")
            for name in NAMES
            for place in places[:1]
        ]
        replies = [run.load.deaf(hello(), (h.REPLY_TO, place.encode())) for place in places]
        await run.load.send([*options, *bodies, *headers, *replies])
        await run.settled()
        found = await run.replies()
        verdict = await run.verdict()
        tell(verdict.figures())
        assert heard == []
        assert {found[ask.request_id]["error"]["code"] for ask in options} == {"caller_bad_request"}
        assert {found[ask.request_id]["heimdall"]["state"] for ask in headers} == {"answered"}
        ended = {outcome.request_id: outcome.failure for outcome in verdict.history.outcome}
        assert {ended[ask.request_id] for ask in replies} == {"caller_reply_topic"}


def naming(run: Scenario, place: str) -> list[Ask]:
    """Requests whose bodies name the place wherever other gateways would follow it."""
    image = {"type": "image_url", "image_url": {"url": f"{place}/a.png"}}
    parts = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}]
    tool = {"type": "mcp", "server_label": "here", "server_url": place}
    bodies: list[dict[str, Any]] = [{name: place} for name in NAMES]
    bodies += [{"extra_body": {"base_url": place}}, {"model": place}, {"messages": parts}, {"tools": [tool]}]
    return [run.load.raw(hello(**body)) for body in bodies]


def hello(**more: object) -> bytes:
    return orjson.dumps({"messages": [{"role": "user", "content": "Hello, how are you?"}], **more})
