"""Scripted servers over loopback, and a call made the way the fleet makes it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import orjson
import pytest
import pytest_asyncio

from heimdall_fleet.providers.answer_reader import AnswerReader
from heimdall_fleet.providers.dialect import AttemptError, Call, Target
from heimdall_fleet.providers.http import CallLimits, HttpClient
from heimdall_fleet.providers.registry import dialect_for
from heimdall_fleet.providers.scripted import Behaviour, Plan, ScriptedProviders, Spread
from heimdall_fleet.providers.transport import Network

LIMITS = CallLimits(total_timeout_ms=5_000, idle_timeout_ms=2_000)
LENGTH = Spread(12)

Complete = Callable[[Call], Awaitable[dict[str, Any]]]
SetBehaviour = Callable[..., None]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[ScriptedProviders]:
    async with ScriptedProviders(Plan()) as servers:
        yield servers


@pytest.fixture
def servers(running: ScriptedProviders) -> ScriptedProviders:
    """One server for a module, well-behaved again at each test."""
    running.set_plan(Plan(3, {"*": Behaviour(output_tokens=LENGTH)}))
    return running


@pytest.fixture
def behave(servers: ScriptedProviders) -> SetBehaviour:
    """Make every provider behave like this from now on."""

    def change(**behaviour: Any) -> None:
        servers.set_plan(Plan(3, {"*": Behaviour(**{"output_tokens": LENGTH, **behaviour})}))

    return change


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def complete() -> AsyncIterator[Complete]:
    """One attempt through the family's dialect and the fleet's own HTTP client. Raises AttemptError."""
    client = HttpClient.over(Network())

    async def attempt(call: Call) -> dict[str, Any]:
        dialect = dialect_for(call.target.type)
        wire = dialect.to_wire(call)
        if not call.stream:
            whole = await client.post(wire, LIMITS)
            if whole.status != 200:
                raise AttemptError(dialect.failure(whole.status, whole.headers, whole.body))
            return dialect.from_wire(whole.body, call)
        reader = AnswerReader(dialect, call)
        async with client.stream(wire, LIMITS) as answer:
            if answer.status != 200:
                raise AttemptError(dialect.failure(answer.status, answer.headers, await answer.read()))
            async for data in answer:
                for chunk in reader.feed(data):
                    assert chunk["object"] == "chat.completion.chunk"
                    assert orjson.dumps(chunk)
        return reader.finish()

    yield attempt
    await client.aclose()


META: Mapping[str, Mapping[str, Any]] = {
    "azure": {"api_version": "2024-02-15-preview", "deployments": {}},
    "bedrock": {"region": "us-east-1", "secret_access_key": "the-secret-access-key"},
    "vertex": {"project_id": "my-project", "location": "us-central1"},
}
MODELS: Mapping[str, str] = {
    "anthropic": "claude-haiku-4-5",
    "bedrock": "anthropic.claude-3-5-sonnet-20241022-v2:0",
    "cohere": "command-a-03-2025",
    "gemini": "gemini-2.5-pro",
    "vertex": "gemini-2.5-flash",
}
SECRETS: Mapping[str, str] = {"bedrock": "AKIAIOSFODNN7EXAMPLE"}


def call_to(family: str, servers: ScriptedProviders, *, stream: bool = False, **body: Any) -> Call:
    target = Target(
        provider=family,
        type=family,
        base_url=servers.base_url(family),
        model=MODELS.get(family, "model-there"),
        model_id="author/model",
        extra_headers={},
        meta=META.get(family, {}),
        max_output=None,
        facts={},
    )
    full = {"model": "auto", "messages": [{"role": "user", "content": "Why is the sky blue?"}], **body}
    return Call(full, target, SECRETS.get(family, "a-secret-of-the-fleet"), {}, stream, "request-1")


CallTo = Callable[..., Call]


@pytest.fixture(name="call_to")
def call_to_fixture(servers: ScriptedProviders) -> CallTo:
    def make(family: str, *, stream: bool = False, **body: Any) -> Call:
        return call_to(family, servers, stream=stream, **body)

    return make
