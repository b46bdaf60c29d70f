"""A dispatch worker on a bench: scripted HTTP answers, a recording producer, everything else is the real thing."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import orjson
import pytest

from heimdall_fleet.dispatch.bounds import Bounds
from heimdall_fleet.dispatch.cancel import Cancellations
from heimdall_fleet.dispatch.capacity.pool import Alarm, Pool
from heimdall_fleet.dispatch.capacity.turnstile import Turnstile
from heimdall_fleet.dispatch.clock import SystemClock
from heimdall_fleet.dispatch.leases import Leases
from heimdall_fleet.dispatch.room import Room
from heimdall_fleet.dispatch.routes import Place, RouteBook
from heimdall_fleet.dispatch.run import Attempt, Ending, Parked, Run
from heimdall_fleet.dispatch.settings import (
    DispatchSettings,
    FailoverSettings,
    KeySettings,
    ModelSettings,
    NetworkSettings,
    ProviderSettings,
)
from heimdall_fleet.dispatch.worker import DispatchWorker
from heimdall_fleet.dlq import Undertaker
from heimdall_fleet.kafka.errors import KafkaFailure, NeverSent
from heimdall_fleet.kafka.records import Outgoing, Record
from heimdall_fleet.providers.dialect import AttemptFailure, WireRequest
from heimdall_fleet.providers.http import HttpClient
from heimdall_fleet.providers.registry import DIALECTS
from heimdall_fleet.providers.vertex_tokens import GoogleTokens, TokenSource
from heimdall_fleet.state.memory import MemoryState
from heimdall_models.catalogue import Price, Rate
from heimdall_schemas import headers as h
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.order import Plan, Step, plan_header
from heimdall_schemas.topics import Topics

TOPICS = Topics()
PRICE = Price(Rate(input=1_000_000, output=2_000_000))
MODELS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "anthropic/claude": (("anthropic", "claude"),),
    "openai/gpt-5": (("openai", "gpt-5"),),
    "openai/gpt-mini": (("openai", "gpt-mini"),),
    "google/gemini": (("google", "gemini"),),
    "qwen/coder": (("openrouter", "qwen/coder"),),
    "deepseek/r1": (("openrouter", "deepseek/r1"),),
}
WINDOWS = {"google/gemini": 1_000_000, "openai/gpt-5": 400_000, "anthropic/claude": 200_000, "openai/gpt-mini": 128_000}
NETWORK = NetworkSettings(timeout_ms=5_000, backoff_initial_ms=1, backoff_max_ms=2, max_retries=1)

Answerer = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]


def completion(model: str = "m", text: str = "hello", **usage: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150, **usage},
    }


class RecordingProducer:
    """Confirms and keeps what it was given. `refuse`: every send to a topic fails, `once`: the next ones do."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.refuse: dict[str, KafkaFailure] = {}
        self.once: dict[str, list[KafkaFailure]] = {}
        self.delay_s = 0.0
        self.partitions = 24

    def send(self, record: Outgoing) -> "asyncio.Future[int]":
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        refusals = self.once.get(record.topic)
        failure = refusals.pop(0) if refusals else self.refuse.get(record.topic)
        if isinstance(failure, NeverSent):
            raise failure
        if failure is not None:
            done.set_exception(failure)
            return done
        self.sent.append(record)
        asyncio.get_running_loop().call_later(self.delay_s, _confirm, done)
        return done

    def send_batch(self, topic: str, partition: int, records: Sequence[Outgoing]) -> "asyncio.Future[int]":
        raise NotImplementedError

    async def partition_count(self, topic: str) -> int:
        return self.partitions

    async def flush(self, timeout_s: float) -> bool:
        return True

    def to(self, topic: str) -> list[Outgoing]:
        return [record for record in self.sent if record.topic == topic]


def _confirm(sending: "asyncio.Future[int]") -> None:
    if not sending.done():
        sending.set_result(0)


class Notes:
    """Telemetry that remembers."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.hops: list[tuple[str, str, str, FailureCode]] = []
        self.alarms: list[Alarm] = []
        self.endings: list[Ending] = []
        self.parks: list[tuple[Parked, str]] = []
        self.buried: list[str] = []
        self.bugs: list[Exception] = []
        self.shadows: list[tuple[str, str]] = []

    def attempted(self, run: Run, attempt: Attempt, failure: AttemptFailure | None) -> None:
        self.attempts.append(attempt)

    def fell_back(self, asked: str, origin: str, target: str, reason: FailureCode) -> None:
        self.hops.append((asked, origin, target, reason))

    def alarm(self, alarm: Alarm) -> None:
        self.alarms.append(alarm)

    def ended(self, run: Run, ending: Ending, duration_ms: float) -> None:
        self.endings.append(ending)

    def parked(self, run: Run, parked: Parked, delay: str) -> None:
        self.parks.append((parked, delay))

    def shadowed(self, model: str, end: str) -> None:
        self.shadows.append((model, end))

    def dead_lettered(self, request_id: str, failure: Failure) -> None:
        self.buried.append(request_id)

    def bug(self, request_id: str, error: Exception) -> None:
        self.bugs.append(error)


class Arrived:
    """A scripted answer as the transport hands it over: `http.Incoming`."""

    def __init__(self, response: httpx.Response) -> None:
        assert isinstance(response.stream, httpx.AsyncByteStream)
        self._pieces = aiter(response.stream)
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.closed = False

    async def piece(self) -> bytes:
        return await anext(self._pieces, b"")

    def close(self) -> None:
        self.closed = True


class Upstream:
    """Every provider at once: answers what `script` says, and keeps every request. An `http.Transport`."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.script: dict[str, list[Answerer]] = {}

    def on(self, provider: str, *answers: Answerer) -> None:
        """What `provider` answers, one after the other; the last one for ever."""
        self.script[provider] = list(answers)

    def called(self) -> list[str]:
        return [str(request.url.host).removesuffix(".test") for request in self.requests]

    async def send(self, wire: WireRequest, connect_timeout_ms: int) -> Arrived:
        headers = {**wire.headers, "x-request-id": wire.request_id}
        request = httpx.Request(wire.method, wire.url, headers=headers, content=wire.body)
        self.requests.append(request)
        answers = self.script.get(request.url.host.removesuffix(".test"), [ok()])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        response = answer(request)
        return Arrived(await response if isinstance(response, Awaitable) else response)

    async def aclose(self) -> None:
        return


def ok(text: str = "hello", **usage: Any) -> Answerer:
    return lambda request: httpx.Response(200, json=completion(text=text, **usage))


DECISION = {
    "selected_model": "openai/gpt-5",
    "selected_provider": "openai",
    "bucket": "hard",
    "bucket_probabilities": {"cheap": 0.1, "mid": 0.2, "hard": 0.7},
    "alpha_scores": {"openai/gpt-5": 0.5},
    "quality_score": 0.9,
    "cost_score": 0.4,
    "final_score": 0.5,
    "decision_latency_ms": 1.0,
    "cache_hit": False,
    "fallback_used": False,
    "fallback_reason": None,
    "guardrail_triggered": False,
    "decision_version": "1",
}


@dataclass
class Bench:
    """One worker. Change `settings`, `providers` and so on before the first order."""

    settings: DispatchSettings = field(default_factory=lambda: DispatchSettings(worker="w1", look_again_ms=5))
    providers: dict[str, ProviderSettings] = field(default_factory=dict)
    state: Any = None
    producer: RecordingProducer = field(default_factory=RecordingProducer)
    notes: Notes = field(default_factory=Notes)
    upstream: Upstream = field(default_factory=Upstream)
    models: dict[str, ModelSettings] = field(default_factory=dict)
    clock: SystemClock = field(default_factory=SystemClock)
    tokens: TokenSource = field(default_factory=GoogleTokens)
    bounds: Bounds = field(default_factory=Bounds)
    offset: int = 0
    _worker: DispatchWorker | None = None

    def __post_init__(self) -> None:
        for name in ("anthropic", "openai", "google", "openrouter"):
            self.provider(name)
        for model_id in MODELS:
            self.models[model_id] = ModelSettings(price=PRICE, context_window=WINDOWS.get(model_id))
        self.state = MemoryState(self.clock.mono_ms)

    def provider(self, name: str, **changes: Any) -> None:
        keys = (KeySettings("a", f"sk-{name}-a", quota_group="a"), KeySettings("b", f"sk-{name}-b", quota_group="b"))
        fields: dict[str, Any] = {"keys": keys, "network": NETWORK, "type": "custom", **changes}
        self.providers[name] = ProviderSettings(name=name, base_url=f"https://{name}.test/v1", **fields)

    def failover(self, **changes: Any) -> None:
        self.settings = replace(self.settings, failover=FailoverSettings(**changes))

    @property
    def worker(self) -> DispatchWorker:
        if self._worker is None:
            turnstile = Turnstile()
            room = Room(
                settings=self.settings,
                topics=TOPICS,
                clock=self.clock,
                jitter=lambda: 0.5,
                book=RouteBook(
                    self.providers, self.models, lambda model_id: [Place(*each) for each in MODELS.get(model_id, ())]
                ),
                pool=Pool(self.providers.values(), turnstile.promised, turnstile.waiting),
                turnstile=turnstile,
                clients=dict.fromkeys(self.providers, HttpClient(self.upstream)),
                dialects=DIALECTS,
                tokens=self.tokens,
                state=self.state,
                leases=Leases(self.settings.worker),
                cancels=Cancellations(),
                producer=self.producer,
                telemetry=self.notes,
                bounds=self.bounds,
            )
            undertaker = Undertaker(TOPICS.dlq, "w1", "heimdall-dispatch", 1_000_000)
            self._worker = DispatchWorker(room, undertaker)
        return self._worker

    def order(
        self,
        *steps: str | Step,
        request_id: str = "r1",
        body: Mapping[str, Any] | None = None,
        reply_to: str = TOPICS.replies,
        ttl_ms: int = 30_000,
        **plan: Any,
    ) -> Record:
        """A record of a dispatch topic; a step is `model` (of the hard bucket) or `bucket:model`."""
        now_ms = self.clock.unix_ms()
        asked = tuple(step if isinstance(step, Step) else _step(step) for step in steps or ("openai/gpt-5",))
        fields = {"deadline_ms": now_ms + ttl_ms, "received_ms": now_ms, "p_chosen": 0.9, "token_count": 100, **plan}
        value = {"model": "auto", "messages": [{"role": "user", "content": "hi"}], **(body or {})}
        self.offset += 1
        headers = (
            (h.REQUEST_ID, request_id.encode()),
            (h.BUCKET, asked[0].bucket.encode()),
            (h.DECISION, orjson.dumps(DECISION)),
            (h.PLAN, plan_header(Plan(steps=asked, **fields))),
            (h.REPLY_TO, reply_to.encode()),
            (h.CORRELATION_ID, b"corr-" + request_id.encode()),
            (h.TRACEPARENT, b"00-trace"),
        )
        return Record("heimdall.dispatch.hard.v1", 17, self.offset, now_ms, None, orjson.dumps(value), headers)

    async def run(self, *steps: str | Step, **order: Any) -> dict[str, Any]:
        """Handle one order and return its reply."""
        await self.worker.handle(self.order(*steps, **order))
        return self.replies()[-1]

    def replies(self) -> list[dict[str, Any]]:
        return [orjson.loads(record.value or b"") for record in self.producer.to(TOPICS.replies)]

    def outcomes(self) -> list[dict[str, Any]]:
        return [orjson.loads(record.value or b"") for record in self.producer.to(TOPICS.audit)]


def _step(text: str) -> Step:
    bucket, colon, model = text.partition(":")
    return Step(model, bucket) if colon else Step(text, "hard")


@pytest.fixture
def bench() -> Bench:
    return Bench()
