"""Requests over aiohttp's connections: its pool, its TLS and proxies, its parser, and none of its session.

A session makes four objects and a task for each request, to give it cookies, redirects, traces, forms and uploads that wait;
a call of the fleet is a head and a body that are written at once. httpx says what failed.
"""

import asyncio
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import aiohttp
import certifi
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage
from yarl import URL

from heimdall_fleet import __version__
from heimdall_fleet.lean_httpx import httpx
from heimdall_fleet.providers.connector import FRESH, PunctualConnector
from heimdall_fleet.providers.dialect import WireRequest

STALE_WITHIN_S = 1.0
"""A server that gave up an idle connection says so within a round trip; after a longer silence it was at work."""
_MAX_PLACES = 1_000
# An answer has a few kilobytes: unpacking it costs more than it saves, and a bomb needs an invitation.
_OWN_HEADERS = {"user-agent": f"heimdall-fleet/{__version__}", "accept-encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Network:
    """How one provider is reached. `ca_file` replaces the public roots; proxy variables are not read."""

    proxy: str | None = None
    ca_file: str | None = None
    keepalive_s: float = 60.0


class StaleConnection(httpx.RemoteProtocolError):
    """A kept connection was closed before any byte of the answer: the request was not read."""


class _Address(aiohttp.ClientRequest):
    """Tells the pool which connection fits, in the same words each time; it is never sent itself."""

    @cached_property
    def connection_key(self) -> ConnectionKey:
        return super().connection_key


class _Place(NamedTuple):
    """Where requests to one URL go."""

    address: _Address
    target: str
    """What stands in the first line."""
    headers: Mapping[str, str]
    """What every request there has; lower-case names."""


class AiohttpTransport:
    """Connections to one provider, opened as they are needed: no redirects, cookies, environment; TLS verified."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._connector: PunctualConnector | None = None
        self._places: dict[tuple[str, str], _Place] = {}

    async def send(self, request: WireRequest, connect_timeout_ms: int) -> "_Incoming":
        FRESH.set(False)
        started = time.monotonic()
        try:
            place = self._places.get((request.method, request.url)) or self._find(request.method, request.url)
            head = _head(request, place)
            connection = await self._pool().connect(place.address, [], _connecting_within(connect_timeout_ms))
            try:
                return await _exchange(connection, head, request.body)
            except BaseException:
                connection.close()
                raise
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            stale = not FRESH.get() and time.monotonic() - started < STALE_WITHIN_S
            raise _as_httpx(error, stale=stale) from error

    async def aclose(self) -> None:
        if self._connector is not None:
            await self._connector.close()

    def _pool(self) -> PunctualConnector:
        if self._connector is None:
            self._connector = PunctualConnector(limit=0, keepalive_timeout=self._network.keepalive_s)
        return self._connector

    def _find(self, method: str, url: str) -> _Place:
        """Raises aiohttp.InvalidURL."""
        if len(self._places) >= _MAX_PLACES:
            self._places.clear()
        place = self._places[method, url] = _place(method, URL(url, encoded=True), self._network)
        return place


def _place(method: str, url: URL, network: Network) -> _Place:
    if url.scheme not in ("http", "https"):
        raise aiohttp.NonHttpUrlClientError(url)
    loop = asyncio.get_running_loop()
    proxy = None if network.proxy is None else URL(network.proxy)
    secure = "https" in (url.scheme, proxy and proxy.scheme)
    # The roots weigh 5 MiB, so they are read when somebody asks over TLS.
    tls = _tls(network.ca_file) if secure else True
    address = _Address(method, url, headers=_OWN_HEADERS, loop=loop, proxy=proxy, ssl=tls)
    headers = {name.lower(): value for name, value in address.headers.items()}
    if proxy is None or address.is_ssl():
        return _Place(address, url.raw_path_qs, headers)
    credential = aiohttp.ClientRequest("GET", proxy, loop=loop).headers.get("authorization")
    return _Place(address, str(url), headers if credential is None else {**headers, "proxy-authorization": credential})


def _head(request: WireRequest, place: _Place) -> bytes:
    """What goes out before the body. Raises ValueError for a header that would be more than one line."""
    headers = dict(place.headers)
    for name, value in request.headers.items():
        headers[name.lower()] = value
    if request.body or "content-length" in headers:
        headers["content-length"] = str(len(request.body))
    lines = [f"{name}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"{request.method} {place.target} HTTP/1.1", *lines, "\r\n"])
    breaks = len(lines) + 2
    if head.count("\n") != breaks or head.count("\r") != breaks or "\0" in head:
        raise ValueError("a header holds a line break or a zero; none can be sent")
    return head.encode()


async def _exchange(connection: Connection, head: bytes, body: bytes) -> "_Incoming":
    """Send a request and wait for the head of its answer."""
    protocol = connection.protocol
    assert protocol is not None
    transport = protocol.transport
    if transport is None or protocol.should_close:  # such as when it has said something that nobody asked for
        raise aiohttp.ServerDisconnectedError
    if FRESH.get():  # a kept connection has its parser, which is ready for the next answer
        protocol.set_response_params(read_until_eof=True, auto_decompress=False)
    transport.write(head + body)
    while True:
        message, content = await protocol.read()
        if message.code >= 200 or message.code == 101:  # others below 200 only announce the answer
            break
    if transport.get_write_buffer_size():
        protocol.force_close()  # answered before all was sent: what is left must not begin the next request
    return _Incoming(connection, message, content)


class _Incoming:
    """An answer of aiohttp's."""

    __slots__ = ("_connection", "_content", "headers", "status")

    def __init__(self, connection: Connection, message: RawResponseMessage, content: aiohttp.StreamReader) -> None:
        self._connection = connection
        self._content = content
        self.status = message.code
        self.headers: Mapping[str, str] = message.headers

    async def piece(self) -> bytes:
        if self._content.at_eof():
            return b""
        try:
            return await self._content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise httpx.ReadError(_words(error)) from error

    def close(self) -> None:
        """aiohttp keeps the connection if the answer was read to its end, and closes it otherwise."""
        self._connection.release()


@lru_cache(maxsize=256)
def _connecting_within(timeout_ms: int) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=timeout_ms / 1000)


@lru_cache(maxsize=16)
def _tls(ca_file: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file or certifi.where())


# First match wins: the classes overlap.
_HTTPX_ERRORS: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    (aiohttp.ClientProxyConnectionError, httpx.ProxyError),
    (aiohttp.ClientHttpProxyError, httpx.ProxyError),
    (TimeoutError, httpx.ConnectTimeout),
    (aiohttp.ClientConnectorError, httpx.ConnectError),
    (HttpProcessingError, httpx.RemoteProtocolError),
    (aiohttp.ClientResponseError, httpx.RemoteProtocolError),
    (aiohttp.NonHttpUrlClientError, httpx.UnsupportedProtocol),
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol),
    (aiohttp.ClientError, httpx.ReadError),
    (OSError, httpx.ReadError),
    (ValueError, httpx.LocalProtocolError),
)


def _as_httpx(error: Exception, *, stale: bool) -> httpx.TransportError:
    """httpx's word for what aiohttp says about a request that got no head of an answer."""
    kind = next(kind for cause, kind in _HTTPX_ERRORS if isinstance(error, cause))
    if stale and kind is httpx.ReadError:
        kind = StaleConnection
    return kind(_words(error))


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
