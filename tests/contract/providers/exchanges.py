"""What the tests against raw servers share: one request, how a server reads it, what came of it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from heimdall_fleet.providers.dialect import AttemptError, AttemptFailure, WireRequest
from heimdall_fleet.providers.http import CallLimits, HttpClient

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[..., Awaitable[str]]
Connect = Callable[..., HttpClient]

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
QUICK = CallLimits(total_timeout_ms=2_000, connect_timeout_ms=500, idle_timeout_ms=200, max_bytes=10_000)


def request(url: str, body: bytes = b"{}", **headers: str) -> WireRequest:
    return WireRequest("POST", f"{url}/v1/x", {"authorization": "Bearer sk-canary-0123456789", **headers}, body)


async def read_head_and_body(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
    return head


async def failure_of(client: HttpClient, wire: WireRequest, limits: CallLimits = QUICK) -> AttemptFailure:
    with pytest.raises(AttemptError) as caught:
        await client.post(wire, limits)
    return caught.value.failure
