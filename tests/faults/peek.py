"""Looking at a worker or a provider from outside, over plain HTTP on loopback."""

import asyncio
import re


async def fetch(port: int, path: str, timeout_s: float = 5.0) -> str:
    """The body of GET `path`, whatever the status; empty when nobody answers in time."""
    return (await get(port, path, timeout_s))[1]


async def get(port: int, path: str, timeout_s: float = 5.0) -> tuple[int, str]:
    """Status and body of GET `path`; 0 and nothing when nobody answers in time."""
    return await request(port, "GET", path, timeout_s=timeout_s)


async def request(port: int, method: str, path: str, body: bytes = b"", timeout_s: float = 5.0) -> tuple[int, str]:
    """Status and body of one exchange; 0 and nothing when nobody answers in time."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(head.encode() + body)
                answer, _, said = (await reader.read(-1)).partition(b"\r\n\r\n")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return 0, ""
    status = answer.split(b" ", 2)[1:2]
    return (int(status[0]) if status else 0), said.decode(errors="replace")


def gauge(text: str, name: str) -> float:
    """The sum of a metric's values over its labels; 0 when it is not there."""
    found = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))
