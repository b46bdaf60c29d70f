"""The one HTTP module: httpx's headers and errors at the seam, aiohttp's connections below it.

httpx's own pool costs CPU that grows with the open connections. The transport of `httpx_aiohttp` re-quotes the path
(`%3A` becomes `:`, which breaks an AWS signature) and reports a closed connection as a connect time-out; and the two
objects that httpx makes for a call cost half as much as the call. So a `WireRequest` goes to a connection of aiohttp's
as it is (`transport.py`): docs/adr/0004-http-transport.md has the figures, `bench/http_client.py` prints them.

The transport's errors, and what `failure_of_transport` makes of them:

    httpx.ConnectError, ConnectTimeout, ProxyError    no connection: nothing was sent
    StaleConnection                                   a kept connection was closed before any byte of the answer
    httpx.ReadError                                   a fresh one was; or the answer broke off
    httpx.RemoteProtocolError                         what came is not HTTP
    httpx.UnsupportedProtocol, LocalProtocolError     the configured URL or a header cannot be sent
    TimeoutError                                      the deadline, or the longest silence, passed
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple, Protocol, Self

from heimdall_fleet.lean_httpx import httpx
from heimdall_fleet.providers.body import BodyReader, whole
from heimdall_fleet.providers.dialect import Action, AttemptError, AttemptFailure, WireRequest
from heimdall_fleet.providers.failures import scrub
from heimdall_fleet.providers.transport import AiohttpTransport, Network, StaleConnection
from heimdall_fleet.providers.wire_headers import masked
from heimdall_fleet.timelimit import TimeLimit, TimeLimits
from heimdall_schemas.failure import FailureCode


class CallLimits(NamedTuple):
    """What one call may take. `total_timeout_ms` is the provider's time-out or the rest of the deadline.
    `idle_timeout_ms` is the longest silence inside an answer; the wait for its head is bounded by the total alone."""

    total_timeout_ms: int
    connect_timeout_ms: int = 5_000
    idle_timeout_ms: int = 60_000
    max_bytes: int = 32 * 1024 * 1024
    max_decompressed_bytes: int = 16 * 1024 * 1024


class Answer(NamedTuple):
    """A whole answer of any status; the body is decompressed. `named` are its headers as they came."""

    status: int
    body: bytes
    named: Mapping[str, str]

    @property
    def headers(self) -> httpx.Headers:
        """A Mapping with lower-case names; made when asked for, which only failures are."""
        return _headers(self.named)


class Incoming(Protocol):
    """An answer whose head has come. Looking a header up does not mind the case of its name."""

    status: int
    headers: Mapping[str, str]

    async def piece(self) -> bytes:
        """What comes next of the body, nothing at its end. Raises httpx.TransportError."""
        ...

    def close(self) -> None:
        """Let go of the connection, which is kept when the whole answer was read."""
        ...


class Transport(Protocol):
    """Sends requests; `AiohttpTransport` is the real one."""

    async def send(self, request: WireRequest, connect_timeout_ms: int) -> Incoming:
        """The request is sent, the head of its answer is there. Raises httpx.TransportError."""
        ...

    async def aclose(self) -> None: ...


TRANSPORT_ERRORS = (httpx.TransportError, TimeoutError)


class HttpClient:
    """Calls over kept connections, usually one client for each provider. Every problem comes out as AttemptError.
    How many calls run at once is the caller's business: a connection is opened whenever none is free."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._time_limits = TimeLimits()

    @classmethod
    def over(cls, network: Network) -> Self:
        return cls(AiohttpTransport(network))

    async def post(self, request: WireRequest, limits: CallLimits) -> Answer:
        exchange = Exchange(self._transport, request, limits, self._time_limits)
        try:
            with self._time_limits.until(exchange.deadline) as limit:
                exchange.opened_by(await self._transport.send(request, limits.connect_timeout_ms))
                body = await exchange.collect(limit)
        except TRANSPORT_ERRORS as error:
            raise exchange.failed(error) from error
        finally:
            exchange.close()
        return Answer(exchange.status, body, exchange.named)

    def stream(self, request: WireRequest, limits: CallLimits) -> "Exchange":
        """`async with client.stream(…) as answer:` then iterate it, or `await answer.read()` when the status is bad."""
        return Exchange(self._transport, request, limits, self._time_limits)

    async def aclose(self) -> None:
        await self._transport.aclose()


class Exchange:
    """One request and its answer. Leaving the block early closes the connection, which stops the generation."""

    __slots__ = (
        "_incoming",
        "_limits",
        "_reader",
        "_request",
        "_silence_s",
        "_time_limits",
        "_transport",
        "deadline",
        "named",
        "status",
    )

    status: int
    named: Mapping[str, str]

    def __init__(self, transport: Transport, request: WireRequest, limits: CallLimits, time_limits: TimeLimits) -> None:
        self._transport = transport
        self._request = request
        self._limits = limits
        self._time_limits = time_limits
        self.deadline = time_limits.loop.time() + limits.total_timeout_ms / 1000
        silence_ms = limits.idle_timeout_ms
        self._silence_s = silence_ms / 1000 if silence_ms < limits.total_timeout_ms else None
        self._incoming: Incoming | None = None
        self._reader: BodyReader | None = None

    @property
    def headers(self) -> httpx.Headers:
        return _headers(self.named)

    async def __aenter__(self) -> Self:
        try:
            with self._time_limits.until(self.deadline):
                self.opened_by(await self._transport.send(self._request, self._limits.connect_timeout_ms))
        except TRANSPORT_ERRORS as error:
            raise self.failed(error) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next piece of the body, decompressed and within the limits. Raises AttemptError."""
        incoming, reader = self._opened()
        try:
            with self._time_limits.until(self._latest()):
                piece = await incoming.piece()
        except TRANSPORT_ERRORS as error:
            raise self.failed(error) from error
        if not piece:
            reader.finish()
            raise StopAsyncIteration
        return await whole(reader, reader.feed(piece))

    async def read(self) -> bytes:
        """The whole body. In an error answer credentials that were sent are masked: some servers echo them."""
        try:
            with self._time_limits.until(self._latest()) as limit:
                return await self.collect(limit)
        except TRANSPORT_ERRORS as error:
            raise self.failed(error) from error

    def opened_by(self, incoming: Incoming) -> None:
        """The head of the answer is there."""
        self._incoming, self.status, self.named = incoming, incoming.status, incoming.headers

    async def collect(self, limit: TimeLimit) -> bytes:
        """The whole body, with `limit` moved on at each piece where silence has one of its own."""
        incoming, reader = self._opened()
        parts = []
        while True:
            if self._silence_s is not None:
                limit.move(self._latest())
            piece = await incoming.piece()
            if not piece:
                break
            part = reader.feed(piece)
            parts.append(await whole(reader, part) if reader.more else part)
        reader.finish()
        body = b"".join(parts)
        return masked(body, self._request) if self.status >= 400 else body

    def failed(self, error: Exception) -> AttemptError:
        return AttemptError(failure_of_transport(error, in_body=self._incoming is not None))

    def close(self) -> None:
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.close()

    def _latest(self) -> float:
        """When the next byte must be there, on the loop's clock."""
        if self._silence_s is None:
            return self.deadline
        return min(self.deadline, self._time_limits.loop.time() + self._silence_s)

    def _opened(self) -> tuple[Incoming, BodyReader]:
        assert self._incoming is not None, "the exchange was not entered"
        if self._reader is None:
            limits = self._limits
            self._reader = BodyReader(self.status, self.named, limits.max_bytes, limits.max_decompressed_bytes)
        return self._incoming, self._reader


def _headers(named: Mapping[str, str]) -> httpx.Headers:
    return httpx.Headers(list(named.items()))


_UNREACHABLE = AttemptFailure(
    FailureCode.PROVIDER_UNREACHABLE, Action.SAME_KEY, "", counts_for_breaker=True, connection_only=True
)
_STALE = AttemptFailure(FailureCode.PROVIDER_UNREACHABLE, Action.SAME_KEY, "", retry_after_ms=0, connection_only=True)
_CLOSED = AttemptFailure(FailureCode.PROVIDER_UNREACHABLE, Action.SAME_KEY, "", counts_for_breaker=True)
_CUT = AttemptFailure(FailureCode.PROVIDER_TRUNCATED, Action.OTHER_PROVIDER, "", counts_for_breaker=True)
_LATE = AttemptFailure(FailureCode.PROVIDER_TIMEOUT, Action.OTHER_PROVIDER, "", counts_for_breaker=True)
_NOT_HTTP = AttemptFailure(FailureCode.PROVIDER_MALFORMED, Action.OTHER_PROVIDER, "", counts_for_breaker=True)
_MISCONFIGURED = AttemptFailure(FailureCode.HEIMDALL_CONFIG, Action.OTHER_PROVIDER, "", connection_only=True)

_UNKNOWN_AUTHORITY = ("unable to get local issuer", "self-signed certificate", "self signed certificate")
_OWN_AUTHORITY = "; name the authority that signed it in the provider's network.ca_file"


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
    hint = _OWN_AUTHORITY if any(words in str(error) for words in _UNKNOWN_AUTHORITY) else ""
    return replace(failure, message=scrub(f"{type(error).__name__}: {error}{hint}"))
