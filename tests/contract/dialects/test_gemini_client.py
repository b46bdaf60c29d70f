"""The official Google client against the scripted server, as Gemini API and as Vertex."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio
from google import genai
from google.genai import errors, types

from heimdall_fleet.providers.scripted import ScriptedProviders

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "gemini-2.5-pro"
SetBehaviour = Callable[..., None]
FUNCTION = types.FunctionDeclaration(name="look_up", parameters_json_schema={"type": "object", "properties": {}})


@pytest_asyncio.fixture(loop_scope="module")
async def client(servers: ScriptedProviders) -> AsyncIterator[genai.Client]:
    async with httpx.AsyncClient() as http:
        options = types.HttpOptions(base_url=f"{servers.url}/gemini", api_version="v1beta", httpx_async_client=http)
        yield genai.Client(api_key="AIza-x", http_options=options)


def config(**more: Any) -> types.GenerateContentConfig:
    return types.GenerateContentConfig(
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True), **more
    )


def candidate_of(response: types.GenerateContentResponse) -> types.Candidate:
    assert response.candidates
    return response.candidates[0]


async def test_a_plain_answer(client: genai.Client) -> None:
    response = await client.aio.models.generate_content(model=MODEL, contents="hi", config=config())
    assert len((response.text or "").split()) == 12
    assert candidate_of(response).finish_reason is types.FinishReason.STOP
    assert response.usage_metadata is not None
    assert response.usage_metadata.candidates_token_count == 12


async def test_a_stream_says_the_same_as_a_plain_answer(client: genai.Client) -> None:
    limited = config(max_output_tokens=5)
    plain = await client.aio.models.generate_content(model=MODEL, contents="hi", config=limited)
    stream = await client.aio.models.generate_content_stream(model=MODEL, contents="hi", config=limited)
    events = [event async for event in stream]
    assert "".join(event.text or "" for event in events) == plain.text
    assert candidate_of(events[-1]).finish_reason is types.FinishReason.MAX_TOKENS
    assert events[-1].usage_metadata == plain.usage_metadata


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_call(streamed: bool, client: genai.Client) -> None:
    mode = types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.ANY, allowed_function_names=["look_up"])
    tools: list[Any] = [types.Tool(function_declarations=[FUNCTION])]
    forced = config(tools=tools, tool_config=types.ToolConfig(function_calling_config=mode))
    if streamed:
        stream = await client.aio.models.generate_content_stream(model=MODEL, contents="hi", config=forced)
        responses = [event async for event in stream]
    else:
        responses = [await client.aio.models.generate_content(model=MODEL, contents="hi", config=forced)]
    (call,) = [call for response in responses for call in response.function_calls or ()]
    assert call.name == "look_up"
    assert "query" in (call.args or {})


async def test_thinking_and_json(client: genai.Client) -> None:
    wanted = config(
        thinking_config=types.ThinkingConfig(thinking_budget=1024, include_thoughts=True),
        response_mime_type="application/json",
        response_json_schema={"type": "object"},
    )
    response = await client.aio.models.generate_content(model=MODEL, contents="hi", config=wanted)
    assert isinstance(response.parsed, dict)
    parts = (candidate_of(response).content or types.Content()).parts or []
    assert parts[0].thought is True
    assert response.usage_metadata is not None
    assert response.usage_metadata.thoughts_token_count


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("status", "kind", "word"),
    [
        (400, errors.ClientError, "INVALID_ARGUMENT"),
        (401, errors.ClientError, "UNAUTHENTICATED"),
        (429, errors.ClientError, "RESOURCE_EXHAUSTED"),
        (503, errors.ServerError, "UNAVAILABLE"),
    ],
)
async def test_an_error_status(
    status: int, kind: type[errors.APIError], word: str, streamed: bool, behave: SetBehaviour, client: genai.Client
) -> None:
    behave(errors={status: 1.0})
    with pytest.raises(kind) as caught:
        await ask(client, streamed)
    assert (caught.value.code, caught.value.status) == (status, word)


async def test_an_error_inside_a_stream(behave: SetBehaviour, client: genai.Client) -> None:
    behave(error_in_200=1.0)
    with pytest.raises(errors.APIError, match="The server had an error"):
        await ask(client, streamed=True)


async def ask(client: genai.Client, streamed: bool) -> None:
    if not streamed:
        await client.aio.models.generate_content(model=MODEL, contents="hi", config=config())
        return
    async for _ in await client.aio.models.generate_content_stream(model=MODEL, contents="hi", config=config()):
        pass
