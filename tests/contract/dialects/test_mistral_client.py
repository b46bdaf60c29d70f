"""The official Mistral client against the scripted server."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from mistralai.client import Mistral
from mistralai.client.errors import MistralError

from heimdall_fleet.providers.scripted import ScriptedProviders

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "mistral-large-latest"
HELLO: list[Any] = [{"role": "user", "content": "hi"}]
TOOL: Any = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
SetBehaviour = Callable[..., None]


@pytest_asyncio.fixture(loop_scope="module")
async def client(servers: ScriptedProviders) -> AsyncIterator[Mistral]:
    async with Mistral(api_key="x", server_url=f"{servers.url}/mistral") as made:
        yield made


async def test_a_stream_says_the_same_as_a_plain_answer(client: Mistral) -> None:
    plain = await client.chat.complete_async(model=MODEL, messages=HELLO)
    assert plain.choices[0].message is not None
    content = plain.choices[0].message.content
    assert isinstance(content, str)
    assert len(content.split()) == 12
    stream = await client.chat.stream_async(model=MODEL, messages=HELLO)
    events = [event.data async for event in stream]
    assert "".join(str(event.choices[0].delta.content or "") for event in events if event.choices) == content
    assert events[-1].usage == plain.usage


async def test_a_tool_call(client: Mistral) -> None:
    plain = await client.chat.complete_async(model=MODEL, messages=HELLO, tools=[TOOL], tool_choice="required")
    assert plain.choices[0].message is not None
    (tool,) = plain.choices[0].message.tool_calls or []
    assert tool.function.name == "look_up"
    assert plain.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("status", [400, 401, 429, 500])
async def test_an_error_status(status: int, behave: SetBehaviour, client: Mistral) -> None:
    behave(errors={status: 1.0})
    with pytest.raises(MistralError) as caught:
        await client.chat.complete_async(model=MODEL, messages=HELLO)
    assert caught.value.status_code == status
