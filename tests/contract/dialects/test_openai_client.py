"""The official OpenAI client against the scripted servers: Responses, and Chat Completions of every compatible one."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest
import pytest_asyncio

from heimdall_fleet.providers.scripted import ScriptedProviders

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "gpt-5"
SetBehaviour = Callable[..., None]
FLAT: Any = {"type": "function", "name": "look_up", "parameters": {"type": "object", "properties": {}}, "strict": False}
NESTED: Any = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
HELLO: list[Any] = [{"role": "user", "content": "hi"}]
ERRORS: list[tuple[int, type[openai.APIStatusError]]] = [
    (400, openai.BadRequestError),
    (401, openai.AuthenticationError),
    (403, openai.PermissionDeniedError),
    (404, openai.NotFoundError),
    (429, openai.RateLimitError),
    (500, openai.InternalServerError),
]


@pytest_asyncio.fixture(loop_scope="module")
async def client(servers: ScriptedProviders) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(api_key="sk-x", base_url=servers.base_url("openai"), max_retries=0) as made:
        yield made


async def streamed_response(client: openai.AsyncOpenAI, **more: Any) -> tuple[str, Any]:
    async with client.responses.stream(model=MODEL, input="hi", **more) as stream:
        text = "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])
        return text, await stream.get_final_response()


async def test_a_response(client: openai.AsyncOpenAI) -> None:
    plain = await client.responses.create(model=MODEL, input="hi")
    assert len(plain.output_text.split()) == 12
    assert plain.status == "completed"
    assert plain.usage is not None
    assert plain.usage.output_tokens == 12
    text, whole = await streamed_response(client)
    assert text == whole.output_text == plain.output_text
    assert whole.usage == plain.usage


async def test_a_response_that_is_cut_at_its_limit(client: openai.AsyncOpenAI) -> None:
    response = await client.responses.create(model=MODEL, input="hi", max_output_tokens=5)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


async def test_a_response_with_a_tool_call(client: openai.AsyncOpenAI) -> None:
    plain = await client.responses.create(model=MODEL, input="hi", tools=[FLAT], tool_choice="required")
    (call,) = plain.output
    assert call.type == "function_call"
    assert call.name == "look_up"
    _, whole = await streamed_response(client, tools=[FLAT], tool_choice="required")
    assert whole.output[0].arguments == call.arguments


async def test_a_response_with_reasoning(client: openai.AsyncOpenAI) -> None:
    plain = await client.responses.create(model=MODEL, input="hi", reasoning={"effort": "high"})
    assert plain.output[0].type == "reasoning"
    assert plain.output[0].encrypted_content
    _, whole = await streamed_response(client, reasoning={"effort": "high"})
    assert whole.output[0].summary[0].text == "Let me think."


@pytest.mark.parametrize(("status", "kind"), ERRORS)
async def test_an_error_status_of_responses(
    status: int, kind: type[openai.APIStatusError], behave: SetBehaviour, client: openai.AsyncOpenAI
) -> None:
    behave(errors={status: 1.0})
    with pytest.raises(kind):
        await client.responses.create(model=MODEL, input="hi")


async def test_an_error_inside_a_stream_of_responses(behave: SetBehaviour, client: openai.AsyncOpenAI) -> None:
    behave(error_in_200=1.0)
    stream = await client.responses.create(model=MODEL, input="hi", stream=True)
    (event,) = [event async for event in stream]
    assert event.type == "error"
    assert (event.code, event.message) == ("server_error", "The server had an error.")


async def test_a_chat_completion(client: openai.AsyncOpenAI) -> None:
    plain = await client.chat.completions.create(model=MODEL, messages=HELLO)
    content = plain.choices[0].message.content or ""
    assert len(content.split()) == 12
    options: Any = {"include_usage": True}
    stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True, stream_options=options)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == content
    assert chunks[-1].usage == plain.usage


async def test_a_chat_completion_with_a_tool_call(client: openai.AsyncOpenAI) -> None:
    plain = await client.chat.completions.create(model=MODEL, messages=HELLO, tools=[NESTED], tool_choice="required")
    (tool,) = plain.choices[0].message.tool_calls or []
    assert tool.type == "function"
    async with client.chat.completions.stream(
        model=MODEL, messages=HELLO, tools=[NESTED], tool_choice="required"
    ) as stream:
        whole = await stream.get_final_completion()
    (streamed,) = whole.choices[0].message.tool_calls or []
    assert streamed.type == "function"
    assert streamed.function.arguments == tool.function.arguments


@pytest.mark.parametrize(("status", "kind"), ERRORS)
async def test_an_error_status_of_chat_completions(
    status: int, kind: type[openai.APIStatusError], behave: SetBehaviour, client: openai.AsyncOpenAI
) -> None:
    behave(errors={status: 1.0}, retry_after_s=2)
    with pytest.raises(kind) as caught:
        await client.chat.completions.create(model=MODEL, messages=HELLO)
    assert caught.value.response.headers.get("retry-after") == ("2" if status == 429 else None)


async def test_an_error_inside_a_stream_of_chat_completions(behave: SetBehaviour, client: openai.AsyncOpenAI) -> None:
    behave(error_in_200=1.0)
    stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    with pytest.raises(openai.APIError, match="The server had an error"):
        _ = [chunk async for chunk in stream]
