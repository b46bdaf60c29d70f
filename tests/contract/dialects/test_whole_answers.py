"""A server that ignores the wish for a stream and sends one whole answer, over the wire of each family."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from heimdall_fleet.providers.compat import PROFILES
from heimdall_fleet.providers.dialect import Call
from heimdall_fleet.providers.http import CallLimits, HttpClient
from heimdall_fleet.providers.registry import DIALECTS, dialect_for
from heimdall_fleet.providers.transport import Network

Complete = Callable[[Call], Awaitable[dict[str, Any]]]
CallTo = Callable[..., Call]

pytestmark = pytest.mark.asyncio(loop_scope="module")

WIRES = ["openai", *sorted(set(DIALECTS) - set(PROFILES))]
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
TOOLS = {"tools": [TOOL], "tool_choice": "required"}


@asynccontextmanager
async def answering(body: bytes, content_type: str) -> AsyncIterator[str]:
    """A server that has one answer to everything; gives its base URL."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


async def whole_body(call: Call) -> bytes:
    client = HttpClient.over(Network())
    try:
        answer = await client.post(dialect_for(call.target.type).to_wire(call), CallLimits(5_000))
    finally:
        await client.aclose()
    assert answer.status == 200
    return answer.body


def without_what_the_clock_gives(completion: dict[str, Any]) -> dict[str, Any]:
    """Ids and times, where the family's answers have none of their own."""
    for choice in completion["choices"]:
        for tool in choice["message"].get("tool_calls", ()):
            del tool["id"]
    return {name: value for name, value in completion.items() if name not in ("id", "created")}


@pytest.mark.parametrize("family", WIRES)
@pytest.mark.parametrize("body", [{}, TOOLS], ids=["text", "tool"])
async def test_it_counts_as_the_answer_to_a_plain_call(
    family: str, body: dict[str, Any], call_to: CallTo, complete: Complete
) -> None:
    plain = call_to(family, **body)
    raw = await whole_body(plain)
    async with answering(raw, "application/json") as base_url:
        elsewhere = replace(plain.target, base_url=base_url)
        answered = await complete(plain._replace(target=elsewhere, stream=True))
    expected = dialect_for(family).from_wire(raw, plain)
    assert without_what_the_clock_gives(answered) == without_what_the_clock_gives(expected)
    assert answered["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize("content_type", ["text/event-stream", "text/plain; charset=utf-8"])
async def test_the_content_type_does_not_matter(content_type: str, call_to: CallTo, complete: Complete) -> None:
    plain = call_to("custom")
    raw = await whole_body(plain)
    async with answering(raw, content_type) as base_url:
        answered = await complete(plain._replace(target=replace(plain.target, base_url=base_url), stream=True))
    assert answered == dialect_for("custom").from_wire(raw, plain)
