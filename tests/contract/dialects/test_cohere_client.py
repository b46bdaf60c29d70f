"""The official Cohere client against the scripted server."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import cohere
import httpx
import pytest
import pytest_asyncio
from cohere.core.api_error import ApiError

from heimdall_fleet.providers.scripted import ScriptedProviders

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "command-a-03-2025"
HELLO: list[Any] = [{"role": "user", "content": "hi"}]
TOOL: Any = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
SetBehaviour = Callable[..., None]
NO_RETRY: Any = {"max_retries": 0}


@pytest_asyncio.fixture(loop_scope="module")
async def client(servers: ScriptedProviders) -> AsyncIterator[cohere.AsyncClientV2]:
    async with httpx.AsyncClient() as http:
        yield cohere.AsyncClientV2(api_key="x", base_url=f"{servers.url}/cohere", httpx_client=http)


async def events_of(client: cohere.AsyncClientV2, **more: Any) -> list[Any]:
    stream = client.chat_stream(model=MODEL, messages=HELLO, request_options=NO_RETRY, **more)
    return [event async for event in stream]


def joined(events: list[Any], kind: str, name: str) -> str:
    deltas = [event.delta.message.content for event in events if event.type == kind]
    return "".join(getattr(delta, name) or "" for delta in deltas)


async def test_a_plain_answer(client: cohere.AsyncClientV2) -> None:
    response = await client.chat(model=MODEL, messages=HELLO)
    assert response.message.content is not None
    (part,) = response.message.content
    assert part.type == "text"
    assert len(part.text.split()) == 12
    assert response.finish_reason == "COMPLETE"
    assert response.usage is not None
    assert response.usage.tokens is not None
    assert response.usage.tokens.output_tokens == 12


async def test_a_stream_says_the_same_as_a_plain_answer(client: cohere.AsyncClientV2) -> None:
    plain = await client.chat(model=MODEL, messages=HELLO, max_tokens=5)
    assert plain.message.content is not None
    events = await events_of(client, max_tokens=5)
    text = joined(events, "content-start", "text") + joined(events, "content-delta", "text")
    assert plain.message.content[0].type == "text"
    assert text == plain.message.content[0].text
    assert events[-1].type == "message-end"
    assert events[-1].delta.finish_reason == plain.finish_reason == "MAX_TOKENS"
    assert events[-1].delta.usage == plain.usage


async def test_a_tool_call(client: cohere.AsyncClientV2) -> None:
    plain = await client.chat(model=MODEL, messages=HELLO, tools=[TOOL], tool_choice="REQUIRED")
    assert plain.finish_reason == "TOOL_CALL"
    assert plain.message.tool_calls is not None
    (tool,) = plain.message.tool_calls
    assert tool.function is not None
    events = await events_of(client, tools=[TOOL], tool_choice="REQUIRED")
    (start,) = [event.delta.message.tool_calls for event in events if event.type == "tool-call-start"]
    assert (start.id, start.function.name) == (tool.id, "look_up")
    pieces = [e.delta.message.tool_calls.function.arguments for e in events if e.type == "tool-call-delta"]
    assert "".join(pieces) == tool.function.arguments


async def test_thinking(client: cohere.AsyncClientV2) -> None:
    thinking = cohere.Thinking(type="enabled", token_budget=2000)
    plain = await client.chat(model=MODEL, messages=HELLO, thinking=thinking)
    assert plain.message.content is not None
    assert plain.message.content[0].type == "thinking"
    events = await events_of(client, thinking=thinking)
    assert joined(events, "content-delta", "thinking") == plain.message.content[0].thinking


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
async def test_an_error_status(status: int, behave: SetBehaviour, client: cohere.AsyncClientV2) -> None:
    behave(errors={status: 1.0})
    with pytest.raises(ApiError) as plain:
        await client.chat(model=MODEL, messages=HELLO, request_options=NO_RETRY)
    with pytest.raises(ApiError) as streamed:
        await events_of(client)
    for caught in (plain, streamed):
        assert caught.value.status_code == status
        assert "message" in str(caught.value.body)


async def test_an_error_inside_a_stream(behave: SetBehaviour, client: cohere.AsyncClientV2) -> None:
    behave(error_in_200=1.0)
    (end,) = await events_of(client)
    assert end.delta.finish_reason == "ERROR"
    assert end.delta.error == "The server had an error."
