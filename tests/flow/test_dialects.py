"""One fleet with a provider of every wire format: the same body in, the same shape of reply out, whoever answers."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.contract.dialects.google_account import new_key, service_account, token_endpoint

from heimdall_fleet.client import HeimdallClient
from heimdall_fleet.kafka.driver.reading import TopicReader
from heimdall_fleet.kafka.settings import KafkaSettings
from heimdall_fleet.providers.scripted import fingerprint
from heimdall_fleet.report.explanation import explanation, story
from heimdall_fleet.stack import processes
from heimdall_fleet.stack.local import Stack, StackOptions, local_stack
from heimdall_fleet.stack.providers import start_scripted
from heimdall_schemas.audit import AUDIT

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

CALM: Mapping[str, Any] = {"*": {"latency_ms": {"median": 5.0}, "output_tokens": {"median": 20.0}}}
PATHS = {
    "openai": "/v1", "openai_responses": "/v1", "anthropic": "", "gemini": "/v1beta", "bedrock": "", "cohere": "/v2",
    "openrouter": "/api/v1", "groq": "/openai/v1", "mistral": "/v1", "deepseek": "", "xai": "/v1", "together": "/v1",
    "fireworks": "/inference/v1", "ollama": "/v1", "vllm": "/v1", "custom": "/v1",
}  # fmt: skip
TYPES = [*PATHS, "azure", "vertex"]
HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Good morning, fleet!"}]
TOOLS = [
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}},
]
PATIENCE = timedelta(seconds=30)


def model_of(provider_type: str) -> str:
    """The one model of the provider of this type; the provider has the name of the model's author."""
    return f"at-{provider_type.replace('_', '-')}/one"


def provider(url: str, provider_type: str, account: Path) -> dict[str, Any]:
    """Its section of the configuration, with a scripted server's address. `account`: a Google service account."""
    author = model_of(provider_type).partition("/")[0]
    entry: dict[str, Any] = {"type": provider_type, "keys": [{"name": "k", "value": f"scripted-{provider_type}"}]}
    entry["network"] = {"max_retries": 0}
    entry["models"] = ["one", model_of(provider_type)]  # a gateway would serve the models of the others too
    if provider_type == "azure":
        return {**entry, "meta": {"endpoint": f"{url}/{author}"}}
    if provider_type == "vertex":
        meta = {"project_id": "my-project", "auth_credentials": str(account)}
        return {**entry, "keys": [], "base_url": f"{url}/{author}", "meta": meta}
    entry["base_url"] = f"{url}/{author}{PATHS[provider_type]}"
    if provider_type == "bedrock":
        entry["meta"] = {"region": "us-east-1", "secret_access_key": "scripted"}
    return entry


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def mixed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    directory = tmp_path_factory.mktemp("mixed")
    scripted = await start_scripted({"seed": 1, "behaviours": CALM}, directory, None)
    try:
        config, account = directory / "heimdall.yaml", directory / "account.json"
        async with token_endpoint() as google:
            account.write_text(service_account(google.url, new_key()))
            config.write_text(yaml.safe_dump(configuration(scripted.url, account)))
            async with local_stack(StackOptions(directory, config=config)) as running:
                yield running
            assert google.grants, "nobody asked for a token"
    finally:
        await processes.stop([scripted.child])


def configuration(url: str, account: Path) -> dict[str, Any]:
    facts = {"price": {"input": 1, "output": 2}, "context_window": 100_000, "tools": True, "structured_output": True}
    return {
        "version": 1,
        "kafka": {"fetch_max_wait_ms": 10},
        "providers": {model_of(each).partition("/")[0]: provider(url, each, account) for each in TYPES},
        "models": {model_of(each): facts for each in TYPES},
        "observe": {"metrics": {"host": "127.0.0.1"}},
    }


@pytest_asyncio.fixture(loop_scope="session")
async def client(mixed: Stack) -> AsyncIterator[HeimdallClient]:
    async with HeimdallClient(mixed.bootstrap) as opened:
        yield opened


def url_of(stack: Stack) -> str:
    """Where the scripted providers listen."""
    address: str = yaml.safe_load(stack.config.read_text())["providers"]["at-openai"]["base_url"]
    return address.removesuffix("/at-openai/v1")


async def behave(stack: Stack, behaviours: Mapping[str, Any]) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.put(f"{url_of(stack)}/_plan", json={"seed": 1, "behaviours": {**CALM, **behaviours}})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("provider_type", TYPES)
async def test_every_dialect_answers_with_the_same_shape(client: HeimdallClient, provider_type: str) -> None:
    reply = await client.complete(messages=HELLO, model=model_of(provider_type), deadline=PATIENCE)
    assert reply.model == model_of(provider_type)
    assert reply.text
    body = reply.model_dump(mode="json", exclude_none=True)
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["choices"][0]["message"]["role"] == "assistant"
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
    assert [attempt.failure for attempt in reply.heimdall.attempts] == [None]


async def test_vertex_is_called_with_the_token_that_its_service_account_was_given(
    mixed: Stack, client: HeimdallClient
) -> None:
    model = model_of("vertex")
    reply = await client.complete(messages=HELLO, model=model, deadline=PATIENCE)
    assert reply.heimdall.selected_provider == "at-vertex"
    async with httpx.AsyncClient() as http:
        calls = (await http.get(f"{url_of(mixed)}/_calls")).json()["calls"]
    assert {call["key"] for call in calls if call["provider"] == "at-vertex"} == {fingerprint("ya29.1")}


@pytest.mark.parametrize("provider_type", TYPES)
async def test_every_dialect_streams_what_it_then_says_whole(client: HeimdallClient, provider_type: str) -> None:
    stream = client.stream(messages=HELLO, model=model_of(provider_type), deadline=PATIENCE)
    chunks = [chunk async for chunk in stream]
    said = "".join(chunk.text for chunk in chunks)
    assert [chunk.heimdall.sequence for chunk in chunks] == list(range(len(chunks)))
    assert stream.final is not None
    assert said == stream.final.text != ""


@pytest.mark.parametrize("provider_type", TYPES)
async def test_every_dialect_calls_tools_in_the_same_shape(client: HeimdallClient, provider_type: str) -> None:
    asked = {"messages": HELLO, "tools": TOOLS, "tool_choice": "required"}
    reply = await client.complete(asked, model=model_of(provider_type), deadline=PATIENCE)
    body = reply.model_dump(mode="json", exclude_none=True)
    if provider_type == "ollama":
        assert body["heimdall"]["dropped"] == ["tool_choice"]
        return
    assert body["choices"][0]["finish_reason"] == "tool_calls"
    (call,) = body["choices"][0]["message"]["tool_calls"]
    assert (call["type"], call["function"]["name"]) == ("function", "weather")
    assert call["id"]


async def test_providers_that_go_down_one_after_the_other_show_where_and_lose_nothing(
    mixed: Stack, client: HeimdallClient
) -> None:
    """Under load; metrics and the explanation name each failed attempt, and every request has one end."""
    types = ["anthropic", "gemini", "openai"]  # they cost the same: the name decides
    candidates = [model_of(each) for each in types]
    down: dict[str, Any] = {}
    asked: list[str] = []
    for gone in [None, *types[:-1]]:
        if gone:
            down[model_of(gone).partition("/")[0]] = {"errors": {"500": 1.0}}
            await behave(mixed, down)
        handles = [
            await client.submit(messages=HELLO, candidates=candidates, alpha=0.5, deadline=PATIENCE) for _ in range(15)
        ]
        asked += [handle.request_id for handle in handles]
        replies = await asyncio.gather(*(handle.result() for handle in handles))
        assert {reply.model for reply in replies} <= {each for each in candidates if each.partition("/")[0] not in down}
    await behave(mixed, {})
    records = await audit_of(mixed, set(asked))
    assert Counter(record["request_id"] for record in records if record["kind"] == "outcome") == Counter(asked)
    failed = [record for record in records if record["kind"] == "outcome" and len(record["attempts"]) > 1]
    assert {record["attempts"][0]["provider"] for record in failed} == {"at-anthropic", "at-gemini"}
    counted = await failed_calls(mixed)
    for record in failed:
        first = record["attempts"][0]
        told = story(explanation([each for each in records if each["request_id"] == record["request_id"]]))
        assert f"{first['provider']} {first['model']} key k: {first['failure']}" in told
        assert counted[first["provider"], first["failure"]] > 0


async def failed_calls(stack: Stack) -> dict[tuple[str, str], float]:
    """What the metrics say: calls that failed, by provider and failure code."""
    async with httpx.AsyncClient() as http:
        page = (await http.get(stack.metrics["dispatch"])).text
    return {
        (sample.labels["provider"], sample.labels["error_type"]): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "heimdall_request_errors_total"
    }


async def audit_of(stack: Stack, ids: set[str]) -> list[dict[str, Any]]:
    """Everything the audit says of these requests; outcomes come after the replies."""
    settings = KafkaSettings(bootstrap_servers=stack.bootstrap, fetch_max_wait_ms=10)
    async with asyncio.timeout(20):
        while True:
            async with TopicReader(settings) as reader:
                raw = [AUDIT.validate_json(r.value or b"") async for r in reader.read([stack.topics.audit])]
            found = [record.model_dump(mode="json") for record in raw if record.request_id in ids]
            if sum(record["kind"] == "outcome" for record in found) >= len(ids):
                return found
