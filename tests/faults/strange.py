"""Providers that answer as no provider should: raw bytes on a socket, by the first part of the path."""

import asyncio
import gzip
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from tests.brokers.certificates import self_signed
from tests.faults.history import Call

Writer = asyncio.StreamWriter
_HEAD = "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}Connection: close\r\n\r\n"
MIB = 1024 * 1024


def _head(kind: str = "application/json", more: str = "", status: str = "200 OK") -> bytes:
    return _HEAD.format(kind=kind, more=more, status=status).encode()


async def html(out: Writer, _: str) -> None:
    out.write(_head("text/html") + b"<html><body>Welcome to the gateway</body></html>")


async def other_json(out: Writer, _: str) -> None:
    out.write(_head() + b'{"result": "fine", "choices": "none"}')


async def drip(out: Writer, _: str) -> None:
    """One byte a second, for ever."""
    out.write(_head(more="Content-Length: 100000\r\n"))
    for _second in range(120):
        out.write(b" ")
        await out.drain()
        await asyncio.sleep(1)


async def bomb(out: Writer, _: str) -> None:
    """128 MiB in 128 KiB."""
    out.write(_head(more="Content-Encoding: gzip\r\n") + packed())


@cache
def packed() -> bytes:
    return gzip.compress(b" " * (128 * MIB), 9)


async def huge(out: Writer, _: str) -> None:
    """100 MiB, announced."""
    out.write(_head(more=f"Content-Length: {100 * MIB}\r\n"))
    for _part in range(100):
        out.write(b" " * MIB)
        await out.drain()


async def endless(out: Writer, _: str) -> None:
    """Never says how long it is, and never ends of itself."""
    out.write(_head(more="Transfer-Encoding: chunked\r\n"))
    for _part in range(10_000):
        out.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        await out.drain()


async def telltale(out: Writer, credential: str) -> None:
    """An error that repeats the key it was asked with, as some providers do."""
    body = f'{{"error": {{"message": "Incorrect API key provided: {credential}", "type": "invalid_request_error"}}}}'
    out.write(_head(status="500 Internal Server Error") + body.encode())


KINDS: Mapping[str, Callable[[Writer, str], Awaitable[None]]] = {
    "html": html,
    "otherjson": other_json,
    "drip": drip,
    "bomb": bomb,
    "huge": huge,
    "endless": endless,
    "telltale": telltale,
}


@dataclass(slots=True)
class Strange:
    """`url`: each kind has a path of its own under it; `tls_url`: the same, with a certificate that nobody trusts and that
    has expired. `calls`: those that were read, by `worker`."""

    url: str
    tls_url: str
    worker: str
    calls: list[Call] = field(default_factory=list)


def expired_certificate() -> ssl.SSLContext:
    """A server's context whose certificate ended yesterday."""
    address = x509.IPAddress(IPv4Address("127.0.0.1"))
    key, certificate = self_signed([address], until=datetime.now(UTC) - timedelta(days=1))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "both.pem"
        file.write_bytes(key + certificate)
        context.load_cert_chain(file)
    return context


@asynccontextmanager
async def strange_providers(worker: str) -> AsyncIterator[Strange]:
    """Running, for the one `worker` that will call them."""
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, out: Writer) -> None:
        task = asyncio.create_task(_serve(reader, out, strange))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    await asyncio.to_thread(packed)
    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    with_tls = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=await asyncio.to_thread(expired_certificate))
    port, tls_port = (each.sockets[0].getsockname()[1] for each in (server, with_tls))
    strange = Strange(f"http://127.0.0.1:{port}", f"https://127.0.0.1:{tls_port}", worker)
    try:
        yield strange
    finally:
        server.close()
        with_tls.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _serve(reader: asyncio.StreamReader, out: Writer, strange: Strange) -> None:
    at = time.time()
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        await reader.readexactly(int(fields.get("content-length", "0")))
        kind = head.split("/")[1]
        credential = next((line for line in head.split("\r\n") if line.lower().startswith("authorization:")), "")
        call = Call(at, None, fields.get("x-request-id", ""), kind, "one", strange.worker, None, "strange", 0, 0)
        strange.calls.append(call)
        await KINDS[kind](out, credential.rpartition(" ")[2])
        await out.drain()
    except (OSError, asyncio.IncompleteReadError):
        return  # the caller had enough of it
    finally:
        out.close()
