"""The ASGI app of the scripted providers: decide the fate of a call, wait, send, and log it."""

import asyncio
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

import orjson

from heimdall_fleet.providers.scripted.answers import Asked, Scripted, answer_to
from heimdall_fleet.providers.scripted.anthropic import AnthropicWire
from heimdall_fleet.providers.scripted.bedrock import BedrockWire
from heimdall_fleet.providers.scripted.calls import CallLog, CallRecord, Outcome, fingerprint
from heimdall_fleet.providers.scripted.cohere import CohereWire
from heimdall_fleet.providers.scripted.fate import ERROR_WORDS, Fate, Odds, RateWindows, draw_for
from heimdall_fleet.providers.scripted.gemini import GeminiWire
from heimdall_fleet.providers.scripted.openai import OpenAIWire
from heimdall_fleet.providers.scripted.plan import Plan, read_plan
from heimdall_fleet.providers.scripted.responses import ResponsesWire
from heimdall_fleet.providers.scripted.vertex import VertexClaudeWire
from heimdall_fleet.providers.scripted.wire import Wire
from heimdall_schemas.failure import Failure

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

WIRES: tuple[Wire, ...] = (
    OpenAIWire(),
    AnthropicWire(),
    GeminiWire(),
    BedrockWire(),
    ResponsesWire(),
    CohereWire(),
    VertexClaudeWire(),
)
_JSON = (b"content-type", b"application/json")
_FOREVER_S = 86_400.0


class ConnectionCut(Exception):
    """Leaves the app in the middle of an answer: the server then closes the connection."""


class ScriptedApp:
    """Answers as every provider at once, under `/{provider}/…`; `/_plan` and `/_calls` are its own."""

    def __init__(self, plan: Plan, log: CallLog, wires: tuple[Wire, ...] = WIRES) -> None:
        self._log = log
        self._wires = wires
        self._fingerprints: dict[str, str] = {}
        self.set_plan(plan)

    def set_plan(self, plan: Plan) -> None:
        """Start this plan now: outages count from here, rate windows are empty."""
        self.plan = plan
        self._odds: dict[tuple[str, str], Odds] = {}
        self._seen: Counter[tuple[str, str, str]] = Counter()
        self._windows = RateWindows()
        self._since_s = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith("/_"):
            await self._control(scope, receive, send)
            return
        provider, _, rest = path[1:].partition("/")
        wire = next((wire for wire in self._wires if wire.serves(rest)), None)
        if wire is not None and scope["method"] == "POST":
            await self._serve(provider, rest, wire, _Exchange(scope, receive, send))
        elif rest.endswith("models"):
            data = [{"id": name, "object": "model", "owned_by": provider} for name in self.plan.models(provider)]
            await _respond(send, 200, orjson.dumps({"object": "list", "data": data}))
        else:
            await _respond(send, 404, b'{"error":{"message":"no such path","type":"invalid_request_error"}}')

    async def _serve(self, provider: str, path: str, wire: Wire, exchange: "_Exchange") -> None:
        raw = await exchange.body()
        try:
            asked = wire.asked(provider, path, orjson.loads(raw))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            await _respond(exchange.send, 400, wire.error(400, f"the body cannot be read: {error!r}"))
            return
        headers = exchange.headers
        key = self._fingerprint(wire.key(headers))
        request_id = headers.get(b"x-request-id", b"").decode("latin-1") or None
        record = CallRecord(request_id, provider, asked.model, key, asked.stream, time.time())
        self._log.begin(record)
        try:
            await self._answer(wire, asked, record, exchange, raw)
        finally:
            self._log.end(record, time.time())

    async def _answer(self, wire: Wire, asked: Asked, record: CallRecord, exchange: "_Exchange", raw: bytes) -> None:
        odds = self._odds_of(asked)
        fate = self._fate(odds, asked, record, raw)
        record.status = fate.status
        if fate.outcome == "hang":
            record.outcome = "hang"
            await exchange.gone_within(_FOREVER_S)
        elif await exchange.gone_within(fate.latency_s):
            record.outcome = "gone"
        elif fate.outcome == "error":
            record.outcome = "error"
            await _respond_error(wire, fate, exchange.send)
        elif fate.outcome == "error_in_200":
            record.outcome = "error_in_200"
            kind = (b"content-type", wire.stream_type) if asked.stream else _JSON
            body = wire.error_inside("The server had an error.", stream=asked.stream)
            await _respond(exchange.send, 200, body, kind)
        else:
            answer = answer_to(asked, odds.behaviour.output_tokens)
            record.prompt_tokens, record.completion_tokens = answer.prompt_tokens, answer.completion_tokens
            record.outcome = "gone"
            deliver = _stream if asked.stream else _plain
            record.outcome = await deliver(wire, asked, answer, _Pace(fate, odds.behaviour.tokens_per_s), exchange)
            _raise_cut(record.outcome)

    def _odds_of(self, asked: Asked) -> Odds:
        name = asked.provider, asked.model
        odds = self._odds.get(name)
        if odds is None:
            odds = self._odds[name] = Odds(self.plan.behaviour(*name))
        return odds

    def _fate(self, odds: Odds, asked: Asked, record: CallRecord, raw: bytes) -> Fate:
        behaviour = odds.behaviour
        now_s = time.monotonic()
        if behaviour.refused_keys and record.key in behaviour.refused_keys:
            return Fate("error", 401, 0.0)
        if behaviour.rpm is not None:
            wait_s = self._windows.wait_s(f"{asked.provider} {record.key}", behaviour.rpm, now_s)
            if wait_s:
                return Fate("error", 429, 0.0, wait_s)
        draw = (0.5, 0.5)
        if odds.needs_draw:
            identity = asked.provider, asked.model, record.request_id or str(zlib.crc32(raw))
            draw = draw_for(self.plan.seed, *identity, self._seen[identity])
            self._seen[identity] += 1
        return odds.fate(draw, now_s - self._since_s, streaming=asked.stream)

    def _fingerprint(self, secret: str | None) -> str | None:
        if secret is None:
            return None
        known = self._fingerprints.get(secret)
        if known is None:
            known = self._fingerprints[secret] = fingerprint(secret)
        return known

    async def _control(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if path == "/_plan" and method == "PUT":
            try:
                self.set_plan(read_plan(await _Exchange(scope, receive, send).body()))
            except Failure as failure:
                await _respond(send, 400, orjson.dumps({"error": failure.as_error()}))
                return
            await _respond(send, 200, self.plan.to_json())
        elif path == "/_plan":
            await _respond(send, 200, self.plan.to_json())
        elif path == "/_calls":
            since = parse_qs(scope["query_string"].decode()).get("since", ["0"])[0]
            await _respond(send, 200, self._log.to_json(int(since) if since.isdigit() else 0))
        else:
            await _respond(send, 404, b'{"error":{"message":"paths: /_plan, /_calls"}}')


class _Exchange:
    """One ASGI exchange."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.send = send
        self._receive = receive

    async def body(self) -> bytes:
        message = await self._receive()
        body: bytes = message.get("body", b"")
        while message.get("more_body"):
            message = await self._receive()
            body += message.get("body", b"")
        return body

    async def gone_within(self, seconds: float) -> bool:
        """Wait this long, or until the client leaves; say whether it left."""
        if seconds <= 0:
            return False
        try:
            async with asyncio.timeout(seconds):
                await self._receive()
        except TimeoutError:
            return False
        return True


class _Pace:
    """How fast an answer is sent, and whether it reaches its end."""

    def __init__(self, fate: Fate, tokens_per_s: float | None) -> None:
        self.outcome: Outcome = fate.outcome
        self._tokens_per_s = tokens_per_s

    def seconds(self, tokens: int) -> float:
        return tokens / self._tokens_per_s if self._tokens_per_s else 0.0


async def _plain(wire: Wire, asked: Asked, answer: Scripted, pace: _Pace, exchange: _Exchange) -> Outcome:
    if await exchange.gone_within(pace.seconds(answer.completion_tokens)):
        return "gone"
    body = wire.whole(asked, answer, time.time())
    kept = body[: len(body) // 2] if pace.outcome == "truncated" else body
    await _respond(exchange.send, 200, kept, length=len(body))
    return pace.outcome


async def _stream(wire: Wire, asked: Asked, answer: Scripted, pace: _Pace, exchange: _Exchange) -> Outcome:
    headers = [(b"content-type", wire.stream_type), (b"cache-control", b"no-cache")]
    await exchange.send({"type": "http.response.start", "status": 200, "headers": headers})
    cut_at = answer.completion_tokens // 2 if pace.outcome == "cut" else None
    sent, waiting = 0, b""
    for piece, tokens in wire.pieces(asked, answer, time.time()):
        if cut_at is not None and sent >= cut_at and tokens:
            break
        sent += tokens
        waiting += piece
        wait_s = pace.seconds(tokens)
        if wait_s:
            await _send_piece(exchange.send, waiting)
            waiting = b""
            if await exchange.gone_within(wait_s):
                return "gone"
    await _send_piece(exchange.send, waiting)
    if pace.outcome != "cut":
        await exchange.send({"type": "http.response.body", "body": b""})
    return pace.outcome


def _raise_cut(outcome: Outcome) -> None:
    if outcome in ("cut", "truncated"):
        raise ConnectionCut


async def _send_piece(send: Send, piece: bytes) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _respond_error(wire: Wire, fate: Fate, send: Send) -> None:
    body = wire.error(fate.status, ERROR_WORDS.get(fate.status, f"status {fate.status} by plan"))
    more = () if fate.retry_after_s is None else ((b"retry-after", f"{fate.retry_after_s:g}".encode()),)
    await _respond(send, fate.status, body, _JSON, *more)


async def _respond(
    send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes], length: int | None = None
) -> None:
    """One response; `length` announces another length than the body has."""
    announced = str(len(body) if length is None else length).encode()
    all_headers = [*(headers or (_JSON,)), (b"content-length", announced)]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body, "more_body": length is not None and length != len(body)})
