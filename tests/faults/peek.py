"""Looking at a worker or a provider from outside, over plain HTTP on loopback."""

import asyncio
import re


async def fetch(port: int, path: str, timeout_s: float = 5.0) -> str:
    """The body of GET `path`, whatever the status; empty when nobody answers in time."""
    return (await get(port, path, timeout_s))[1]


async def get(port: int, path: str, timeout_s: float = 5.0) -> tuple[int, str]:
    """Status and body of GET `path`; 0 and nothing when nobody answers in time."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return 0, ""
    status = head.split(b" ", 2)[1:2]
    return (int(status[0]) if status else 0), body.decode(errors="replace")


def gauge(text: str, name: str) -> float:
    """The sum of a metric's values over its labels; 0 when it is not there."""
    found = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))
