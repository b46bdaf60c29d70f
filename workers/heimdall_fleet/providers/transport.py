"""Requests over aiohttp's connections: its TLS and proxies, its parser, and none of its session.

A session makes four objects and a task for each request, to give it cookies, redirects, traces, forms and uploads that wait;
a call of the fleet is a head and a body that are written at once. httpx says what failed.
"""

import asyncio
import math
import re
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple, TypeAlias

import aiohttp
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage
from yarl import URL

from heimdall_fleet import __version__
from heimdall_fleet.lean_httpx import httpx
from heimdall_fleet.providers.connector import FRESH, PunctualConnector
from heimdall_fleet.providers.dialect import WireRequest
from heimdall_fleet.providers.roots import Roots

STALE_WITHIN_S = 1.0
"""A server that gave up an idle connection says so within a round trip; after a longer silence it was at work."""
_MAX_PLACES = 1_000
_MAX_HEADS = 64
"""A few keys; more where each request is signed, which no other one can use."""
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


_Kept: TypeAlias = deque[tuple[Connection, float]]
"""Connections that wait for their next request, with when they began to; the last one is asked first."""


class _Place(NamedTuple):
    """Where requests to one URL go. `address` tells the pool which connection fits; it is never sent itself. `kept` are
    those that fit: all URLs of one server share them."""

    address: aiohttp.ClientRequest
    kept: _Kept
    target: str
    """What stands in the first line."""
    headers: Mapping[str, str]
    """What every request there has; lower-case names."""
    heads: dict[tuple[tuple[str, str], ...], bytes]
    """The first line and the headers that requests with these headers of their own have in common."""


class AiohttpTransport:
    """Connections to one provider, opened as they are needed: no redirects, cookies, environment; TLS verified."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._roots = Roots(network.ca_file)
        self._connector: PunctualConnector | None = None
        self._places: dict[tuple[str, str], _Place] = {}
        self._kept: defaultdict[ConnectionKey, _Kept] = defaultdict(deque)
        self._sweeping: asyncio.TimerHandle | None = None

    async def send(self, request: WireRequest, connect_timeout_ms: int) -> "_Incoming":
        FRESH.set(False)
        started = time.monotonic()
        try:
            place = self._places.get((request.method, request.url)) or self._find(request.method, request.url)
            head = _head(request, place)
            connection = self._kept_at(place)
            if connection is None:
                if self._roots.renewed():
                    self._places.clear()
                    place = self._find(request.method, request.url)
                connection = await self._pool().connect(place.address, [], _connecting_within(connect_timeout_ms))
            try:
                message, content = await _exchange(connection, head, request.body)
                return _Incoming(partial(self._put_back, place.kept, connection), message, content)
            except BaseException:
                connection.close()
                raise
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            stale = not FRESH.get() and time.monotonic() - started < STALE_WITHIN_S
            raise _as_httpx(error, stale=stale) from error

    async def aclose(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._close_kept(math.inf)
        if self._connector is not None:
            await self._connector.close()

    def _kept_at(self, place: _Place) -> Connection | None:
        """A connection that is open still, the last one that answered first: the others may grow old."""
        while place.kept:
            connection, since = place.kept.pop()
            if not connection.closed and time.monotonic() - since <= self._network.keepalive_s:
                return connection
            connection.close()
        return None

    def _put_back(self, kept: _Kept, connection: Connection) -> None:
        """Keep it if its answer was read to the end; aiohttp closes it otherwise."""
        protocol = connection.protocol
        if protocol is None or protocol.should_close or self._connector is None or self._connector.closed:
            connection.release()
            return
        kept.append((connection, time.monotonic()))
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(self._network.keepalive_s, self._sweep)

    def _sweep(self) -> None:
        """Close what nobody has asked for `keepalive_s`, and look again after that time while any are left."""
        self._close_kept(time.monotonic() - self._network.keepalive_s)
        left, self._sweeping = any(self._kept.values()), None
        if left:
            self._sweeping = asyncio.get_running_loop().call_later(self._network.keepalive_s, self._sweep)

    def _close_kept(self, since_before: float) -> None:
        for kept in self._kept.values():
            while kept and kept[0][1] <= since_before:
                kept.popleft()[0].close()

    def _pool(self) -> PunctualConnector:
        if self._connector is None:
            self._connector = PunctualConnector(limit=0, keepalive_timeout=self._network.keepalive_s)
        return self._connector

    def _find(self, method: str, url: str) -> _Place:
        """Raises aiohttp.InvalidURL."""
        if len(self._places) >= _MAX_PLACES:
            self._places.clear()
        address, target, headers = _address(method, URL(url, encoded=True), self._network.proxy, self._roots)
        place = self._places[method, url] = _Place(address, self._kept[address.connection_key], target, headers, {})
        return place


def _address(
    method: str, url: URL, proxy_url: str | None, roots: Roots
) -> tuple[aiohttp.ClientRequest, str, Mapping[str, str]]:
    """Of a place: how it is reached, what stands in the first line, and what every request there has."""
    if url.scheme not in ("http", "https"):
        raise aiohttp.NonHttpUrlClientError(url)
    loop = asyncio.get_running_loop()
    proxy = None if proxy_url is None else URL(proxy_url)
    secure = "https" in (url.scheme, proxy and proxy.scheme)
    tls = roots.context() if secure else True
    address = aiohttp.ClientRequest(method, url, headers=_OWN_HEADERS, loop=loop, proxy=proxy, ssl=tls)
    headers = {name.lower(): value for name, value in address.headers.items()}
    if proxy is None or address.is_ssl():
        return address, url.raw_path_qs, headers
    credential = aiohttp.ClientRequest("GET", proxy, loop=loop).headers.get("authorization")
    return address, str(url), headers if credential is None else {**headers, "proxy-authorization": credential}


def _head(request: WireRequest, place: _Place) -> bytes:
    """What goes out before the body. Raises ValueError for a header that would be more than one line."""
    own = tuple(request.headers.items())
    common = place.heads.get(own)
    if common is None:
        if len(place.heads) >= _MAX_HEADS:
            place.heads.clear()
        common = place.heads[own] = _common(request, place)
    named = b"%bx-request-id: %b\r\n" % (common, _line(request.request_id)) if request.request_id else common
    if request.body or "content-length" in place.headers:
        return b"%bcontent-length: %d\r\n\r\n" % (named, len(request.body))
    return named + b"\r\n"


def _common(request: WireRequest, place: _Place) -> bytes:
    """The head but for what differs from one request to the next, which is ours to say."""
    headers = dict(place.headers)
    for name, value in request.headers.items():
        headers[name.lower()] = value
    for name in ("content-length", "x-request-id"):
        headers.pop(name, None)
    lines = [f"{request.method} {place.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return b"".join([b"%b\r\n" % _line(line) for line in lines])


def _line(text: str) -> bytes:
    if "\n" in text or "\r" in text or "\0" in text:
        raise ValueError("a header holds a line break or a zero; none can be sent")
    return text.encode()


async def _exchange(
    connection: Connection, head: bytes, body: bytes
) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
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
    return message, content


class _Incoming:
    """An answer of aiohttp's."""

    __slots__ = ("_content", "_put_back", "headers", "status")

    def __init__(
        self, put_back: Callable[[], None], message: RawResponseMessage, content: aiohttp.StreamReader
    ) -> None:
        self._put_back = put_back
        self._content = content
        self.status = message.code
        self.headers: Mapping[str, str] = message.headers

    async def piece(self) -> bytes:
        content = self._content
        if content.at_eof():
            return b""
        if content.is_eof() and content.exception() is None and not content._protocol._reading_paused:
            # All is here, nobody waits to be woken: aiohttp would feed its parser and its socket nothing to find that out.
            rest = b"".join(content._buffer)
            content._buffer.clear()
            return rest
        try:
            return await content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise httpx.ReadError(_words(error)) from error

    def close(self) -> None:
        self._put_back()


@lru_cache(maxsize=256)
def _connecting_within(timeout_ms: int) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=timeout_ms / 1000)


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


_TLS_OBJECT = re.compile(r" ssl:(?:<[^>]*>|\w+)")


def _words(error: Exception) -> str:
    """Without aiohttp's word about TLS, the address of an object in memory."""
    return _TLS_OBJECT.sub("", str(error)) or type(error).__name__
