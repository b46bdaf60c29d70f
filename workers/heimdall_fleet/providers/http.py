"""The one HTTP module: httpx's requests, responses and errors at the seam, aiohttp's connections below it.

httpx's own pool costs CPU that grows with the open connections. The transport of `httpx_aiohttp` re-quotes the path
(`%3A` becomes `:`, which breaks an AWS signature) and reports a closed connection as a connect time-out; so ours is
its own. `bench/http_client.py` measures it against both and against bare aiohttp.

The transport's errors, and what `failure_of_transport` makes of them:

    httpx.ConnectError, ConnectTimeout, ProxyError    no connection: nothing was sent
    StaleConnection                                   a kept connection was closed before any byte of the answer
    httpx.ReadError                                   a fresh one was; or the answer broke off
    httpx.RemoteProtocolError                         what came is not HTTP
    httpx.UnsupportedProtocol, LocalProtocolError     the configured URL or a header cannot be sent
    TimeoutError                                      the deadline, or the longest silence, passed
"""

import asyncio
import io
import ssl
from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Self

import aiohttp
import certifi
import httpx
from aiohttp.client_proto import ResponseHandler
from aiohttp.tracing import Trace
from yarl import URL

from heimdall_fleet import __version__
from heimdall_fleet.providers.body import BodyReader, whole
from heimdall_fleet.providers.dialect import Action, AttemptError, AttemptFailure, WireRequest
from heimdall_fleet.providers.failures import scrub
from heimdall_schemas.failure import FailureCode

# A server that gave up an idle connection says so within a round trip; after a longer silence it was at work.
STALE_WITHIN_S = 1.0
# aiohttp warns about a larger body given as bytes; as a file it is sent in pieces.
_SEND_WHOLE_BYTES = 1024 * 1024
_CREDENTIAL_HEADERS = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key", "x-amz-security-token"})
_FRESH: ContextVar[bool] = ContextVar("heimdall_fresh_connection", default=False)


@dataclass(frozen=True, slots=True)
class Network:
    """How one provider is reached. `ca_file` replaces the public roots; proxy variables are not read."""

    proxy: str | None = None
    ca_file: str | None = None
    keepalive_s: float = 15.0


@dataclass(frozen=True, slots=True)
class CallLimits:
    """What one call may take. `total_timeout_ms` is the provider's time-out or the rest of the deadline.

    `idle_timeout_ms` is the longest silence inside an answer; the wait for its head is bounded by the total alone.
    """

    total_timeout_ms: int
    connect_timeout_ms: int = 5_000
    idle_timeout_ms: int = 60_000
    max_bytes: int = 32 * 1024 * 1024
    max_decompressed_bytes: int = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of any status. `headers` is a Mapping with lower-case names; the body is decompressed."""

    status: int
    headers: httpx.Headers
    body: bytes


TRANSPORT_ERRORS = (httpx.TransportError, httpx.InvalidURL, TimeoutError)


class StaleConnection(httpx.RemoteProtocolError):
    """A kept connection was closed before any byte of the answer: the request was not read."""


class HttpClient:
    """Calls over kept connections, usually one client for each provider. Every problem comes out as AttemptError.

    How many calls run at once is the caller's business: a connection is opened whenever none is free. `transport` is
    an argument, so that a test can pass `httpx.ASGITransport` or `httpx.MockTransport`.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    @classmethod
    def over(cls, network: Network) -> Self:
        return cls(AiohttpTransport(network))

    async def post(self, request: WireRequest, limits: CallLimits) -> Answer:
        exchange = Exchange(self._transport, request, limits)
        try:
            # One timer for the whole call: each costs as much as parsing the answer's head.
            async with asyncio.timeout_at(exchange.deadline) as timer:
                await exchange.open()
                body = await exchange.collect(timer)
        except TRANSPORT_ERRORS as error:
            raise exchange.failed(error) from error
        finally:
            await exchange.close()
        return Answer(exchange.status, exchange.headers, body)

    def stream(self, request: WireRequest, limits: CallLimits) -> "Exchange":
        """`async with client.stream(…) as answer:` then iterate it, or `await answer.read()` when the status is bad."""
        return Exchange(self._transport, request, limits)

    async def aclose(self) -> None:
        await self._transport.aclose()


class Exchange:
    """One request and its answer. Leaving the block early closes the connection, which stops the generation."""

    status: int
    headers: httpx.Headers

    def __init__(self, transport: httpx.AsyncBaseTransport, request: WireRequest, limits: CallLimits) -> None:
        self._transport = transport
        self._request = request
        self._limits = limits
        self._now = asyncio.get_running_loop().time
        self.deadline = self._now() + limits.total_timeout_ms / 1000
        self._response: httpx.Response | None = None
        self._body: tuple[AsyncIterator[bytes], BodyReader] | None = None

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout_at(self.deadline):
                await self.open()
        except TRANSPORT_ERRORS as error:
            raise self.failed(error) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces of the body as they come, decompressed and within the limits. Each step may raise AttemptError."""
        return self

    async def __anext__(self) -> bytes:
        pieces, reader = self._body or self._open_body()
        try:
            async with asyncio.timeout_at(self._latest()):
                piece = await anext(pieces, None)
        except TRANSPORT_ERRORS as error:
            raise self.failed(error) from error
        if piece is None:
            reader.finish()
            raise StopAsyncIteration
        return await whole(reader, piece)

    async def read(self) -> bytes:
        """The whole body. In an error answer the credentials that were sent are masked: some servers echo them."""
        try:
            async with asyncio.timeout_at(self._latest()) as timer:
                return await self.collect(timer)
        except TRANSPORT_ERRORS as error:
            raise self.failed(error) from error

    async def open(self) -> None:
        """Send the request and wait for the head of the answer; the time is the caller's to bound."""
        prepared = _prepared(self._request, self._limits.connect_timeout_ms)
        self._response = await self._transport.handle_async_request(prepared)
        self.status = self._response.status_code
        self.headers = self._response.headers

    async def collect(self, timer: asyncio.Timeout) -> bytes:
        """The whole body, with `timer` moved on at each piece."""
        pieces, reader = self._body or self._open_body()
        self._move(timer)
        parts = []
        async for piece in pieces:
            parts.append(await whole(reader, piece))
            self._move(timer)
        reader.finish()
        body = b"".join(parts)
        return _masked(body, self._request) if self.status >= 400 else body

    def failed(self, error: Exception) -> AttemptError:
        return AttemptError(failure_of_transport(error, in_body=self._response is not None))

    async def close(self) -> None:
        if self._response is not None:
            await self._response.aclose()

    def _latest(self) -> float:
        """When the next byte must be there, on the loop's clock."""
        return min(self.deadline, self._now() + self._limits.idle_timeout_ms / 1000)

    def _move(self, timer: asyncio.Timeout) -> None:
        latest = self._latest()
        if latest != timer.when():
            timer.reschedule(latest)

    def _open_body(self) -> tuple[AsyncIterator[bytes], BodyReader]:
        assert self._response is not None, "the exchange was not entered"
        assert isinstance(self._response.stream, httpx.AsyncByteStream)
        limits = self._limits
        reader = BodyReader(self.status, self.headers, limits.max_bytes, limits.max_decompressed_bytes)
        self._body = aiter(self._response.stream), reader
        return self._body


def _prepared(request: WireRequest, connect_timeout_ms: int) -> httpx.Request:
    return httpx.Request(
        request.method,
        _url(request.url),
        headers=[(name.encode("ascii"), value.encode("latin-1")) for name, value in request.headers.items()],
        stream=httpx.ByteStream(request.body),
        extensions={"timeout": {"connect": connect_timeout_ms / 1000}},
    )


@lru_cache(maxsize=1024)
def _url(url: str) -> httpx.URL:
    return httpx.URL(url)


def _masked(body: bytes, request: WireRequest) -> bytes:
    for name, value in request.headers.items():
        if name.lower() in _CREDENTIAL_HEADERS and value:
            body = body.replace(value.rsplit(" ", 1)[-1].encode(), b"[secret]")
    return body


_UNREACHABLE = AttemptFailure(
    FailureCode.PROVIDER_UNREACHABLE, Action.SAME_KEY, "", counts_for_breaker=True, connection_only=True
)
_STALE = AttemptFailure(FailureCode.PROVIDER_UNREACHABLE, Action.SAME_KEY, "", retry_after_ms=0, connection_only=True)
_CLOSED = AttemptFailure(FailureCode.PROVIDER_UNREACHABLE, Action.SAME_KEY, "", counts_for_breaker=True)
_CUT = AttemptFailure(FailureCode.PROVIDER_TRUNCATED, Action.OTHER_PROVIDER, "", counts_for_breaker=True)
_LATE = AttemptFailure(FailureCode.PROVIDER_TIMEOUT, Action.OTHER_PROVIDER, "", counts_for_breaker=True)
_NOT_HTTP = AttemptFailure(FailureCode.PROVIDER_MALFORMED, Action.OTHER_PROVIDER, "", counts_for_breaker=True)
_MISCONFIGURED = AttemptFailure(FailureCode.HEIMDALL_CONFIG, Action.OTHER_PROVIDER, "", connection_only=True)


def failure_of_transport(error: Exception, *, in_body: bool) -> AttemptFailure:
    """What a transport error means, before the head of the answer or inside its body."""
    match error:
        case StaleConnection():
            failure = _STALE
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.ProxyError():
            failure = _UNREACHABLE
        case TimeoutError():
            where = "in the middle of the answer" if in_body else "before the answer began"
            return replace(_LATE, message=f"the time for the call, or the longest silence allowed, was over {where}")
        case httpx.RemoteProtocolError():
            failure = _NOT_HTTP
        case httpx.NetworkError():
            failure = _CUT if in_body else _CLOSED
        case _:
            failure = _MISCONFIGURED
    return replace(failure, message=scrub(f"{type(error).__name__}: {error}"))


class AiohttpTransport(httpx.AsyncBaseTransport):
    """An httpx transport over one aiohttp session: no redirects, no cookies, no environment, TLS verified.

    The session is opened by the first request, in the loop that runs it.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._session: aiohttp.ClientSession | None = None
        self._timeouts: dict[float, aiohttp.ClientTimeout] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        session = self._session or self._open()
        _FRESH.set(False)
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            answer = await session.request(
                request.method,
                _exact_url(str(request.url)),
                headers={name.decode("ascii"): value.decode("latin-1") for name, value in request.headers.raw},
                data=_payload(request),
                allow_redirects=False,
                timeout=self._timeout(request),
                proxy=self._network.proxy,
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            stale = not _FRESH.get() and loop.time() - started < STALE_WITHIN_S
            raise _as_httpx(error, stale=stale) from error
        # With the encoding named, httpx does not try three of them at every look-up.
        headers = httpx.Headers(answer.raw_headers, encoding="latin-1")
        return httpx.Response(answer.status, headers=headers, stream=_Body(answer), request=request)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        connector = _Connector(limit=0, ssl=_tls(self._network.ca_file), keepalive_timeout=self._network.keepalive_s)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            # An answer has a few kilobytes: unpacking it costs more than it saves, and a bomb needs an invitation.
            headers={"user-agent": f"heimdall-fleet/{__version__}", "accept-encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
        )
        return self._session

    def _timeout(self, request: httpx.Request) -> aiohttp.ClientTimeout:
        connect_s = request.extensions["timeout"]["connect"]
        if connect_s not in self._timeouts:
            self._timeouts[connect_s] = aiohttp.ClientTimeout(total=None, sock_connect=connect_s)
        return self._timeouts[connect_s]


class _Connector(aiohttp.TCPConnector):
    """Notes, for the task that asked, that its connection was opened just now."""

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        _FRESH.set(True)
        return await super()._create_connection(req, traces, timeout)


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await self._answer.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise httpx.ReadError(_words(error)) from error
        if not piece:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        self._answer.release()


@lru_cache(maxsize=1024)
def _exact_url(url: str) -> URL:
    return URL(url, encoded=True)


def _payload(request: httpx.Request) -> bytes | io.BytesIO | None:
    assert isinstance(request.stream, httpx.ByteStream)
    body = b"".join(request.stream)
    if len(body) > _SEND_WHOLE_BYTES:
        return io.BytesIO(body)
    return body or None


@lru_cache(maxsize=16)
def _tls(ca_file: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file or certifi.where())


# First match wins: aiohttp's classes overlap.
_HTTPX_ERRORS: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    (aiohttp.ClientProxyConnectionError, httpx.ProxyError),
    (aiohttp.ClientHttpProxyError, httpx.ProxyError),
    (aiohttp.ServerTimeoutError, httpx.ConnectTimeout),
    (aiohttp.ClientConnectorError, httpx.ConnectError),
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
