"""The official Anthropic client against the scripted server."""

from collections.abc import AsyncIterator, Callable

import anthropic
import pytest
import pytest_asyncio
from anthropic.types import Message, ToolUseBlock

from heimdall_fleet.providers.scripted import ScriptedProviders

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "claude-haiku-4-5"
HELLO: list[anthropic.types.MessageParam] = [{"role": "user", "content": "hi"}]
TOOL: anthropic.types.ToolParam = {"name": "look_up", "input_schema": {"type": "object", "properties": {}}}
SetBehaviour = Callable[..., None]


@pytest_asyncio.fixture(loop_scope="module")
async def client(servers: ScriptedProviders) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        api_key="sk-ant-api03-x", base_url=f"{servers.url}/anthropic", max_retries=0
    ) as made:
        yield made


def text_of(message: Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


async def test_a_plain_answer(client: anthropic.AsyncAnthropic) -> None:
    message = await client.messages.create(model=MODEL, max_tokens=100, messages=HELLO)
    assert len(text_of(message).split()) == 12
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == 12
    assert message.usage.input_tokens > 0


async def test_a_stream_says_the_same_as_a_plain_answer(client: anthropic.AsyncAnthropic) -> None:
    plain = await client.messages.create(model=MODEL, max_tokens=5, messages=HELLO)
    async with client.messages.stream(model=MODEL, max_tokens=5, messages=HELLO) as stream:
        pieces = [piece async for piece in stream.text_stream]
        streamed = await stream.get_final_message()
    assert "".join(pieces) == text_of(streamed) == text_of(plain)
    assert streamed.stop_reason == plain.stop_reason == "max_tokens"
    assert streamed.usage.output_tokens == plain.usage.output_tokens == 5


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_call(streamed: bool, client: anthropic.AsyncAnthropic) -> None:
    choice: anthropic.types.ToolChoiceToolParam = {"type": "tool", "name": "look_up"}
    if streamed:
        async with client.messages.stream(
            model=MODEL, max_tokens=100, messages=HELLO, tools=[TOOL], tool_choice=choice
        ) as stream:
            message: Message = await stream.get_final_message()
    else:
        message = await client.messages.create(
            model=MODEL, max_tokens=100, messages=HELLO, tools=[TOOL], tool_choice=choice
        )
    (block,) = message.content
    assert isinstance(block, ToolUseBlock)
    assert block.name == "look_up"
    assert "query" in block.input
    assert message.stop_reason == "tool_use"


@pytest.mark.parametrize("streamed", [False, True])
async def test_thinking(streamed: bool, client: anthropic.AsyncAnthropic) -> None:
    thinking: anthropic.types.ThinkingConfigEnabledParam = {"type": "enabled", "budget_tokens": 1024}
    if streamed:
        async with client.messages.stream(model=MODEL, max_tokens=2000, messages=HELLO, thinking=thinking) as stream:
            message: Message = await stream.get_final_message()
    else:
        message = await client.messages.create(model=MODEL, max_tokens=2000, messages=HELLO, thinking=thinking)
    thought = message.content[0]
    assert thought.type == "thinking"
    assert thought.signature.startswith("signature-")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, anthropic.BadRequestError),
        (401, anthropic.AuthenticationError),
        (403, anthropic.PermissionDeniedError),
        (404, anthropic.NotFoundError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
        (529, anthropic.OverloadedError),
    ],
)
async def test_an_error_status(
    status: int, kind: type[anthropic.APIStatusError], behave: SetBehaviour, client: anthropic.AsyncAnthropic
) -> None:
    behave(errors={status: 1.0}, retry_after_s=3)
    with pytest.raises(kind) as caught:
        await client.messages.create(model=MODEL, max_tokens=10, messages=HELLO)
    assert caught.value.type is not None
    assert caught.value.response.headers.get("retry-after") == ("3" if status == 429 else None)


async def test_an_error_inside_a_stream(behave: SetBehaviour, client: anthropic.AsyncAnthropic) -> None:
    behave(error_in_200=1.0)
    with pytest.raises(anthropic.APIStatusError, match="The server had an error"):
        async with client.messages.stream(model=MODEL, max_tokens=10, messages=HELLO) as stream:
            await stream.get_final_message()
