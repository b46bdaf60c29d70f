"""The official AWS client (boto3, bedrock-runtime) against the scripted server."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from heimdall_fleet.providers.scripted import ScriptedProviders

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "anthropic.claude-3-5-sonnet-20241022-v2:0"
SetBehaviour = Callable[..., None]
Converse = Callable[..., Any]
TOOL = {"toolSpec": {"name": "look_up", "inputSchema": {"json": {"type": "object", "properties": {}}}}}


@pytest.fixture
def client(servers: ScriptedProviders) -> Any:
    return boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=f"{servers.url}/bedrock",
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="secret",
        config=Config(retries={"max_attempts": 0}),
    )


async def ask(client: Any, *, stream: bool = False, **more: Any) -> Any:
    """A blocking client, in a thread. A stream comes back as the list of its events."""
    messages = [{"role": "user", "content": [{"text": "hi"}]}]

    def call() -> Any:
        if not stream:
            return client.converse(modelId=MODEL, messages=messages, **more)
        return list(client.converse_stream(modelId=MODEL, messages=messages, **more)["stream"])

    return await asyncio.to_thread(call)


def of(events: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [event[name] for event in events if name in event]


async def test_a_plain_answer(client: Any, servers: ScriptedProviders) -> None:
    response = await ask(client)
    text = response["output"]["message"]["content"][0]["text"]
    assert len(text.split()) == 12
    assert response["stopReason"] == "end_turn"
    assert response["usage"]["outputTokens"] == 12
    assert servers.calls[-1].model == MODEL


async def test_a_stream_says_the_same_as_a_plain_answer(client: Any) -> None:
    plain = await ask(client, inferenceConfig={"maxTokens": 5})
    events = await ask(client, stream=True, inferenceConfig={"maxTokens": 5})
    text = "".join(event["delta"]["text"] for event in of(events, "contentBlockDelta"))
    assert text == plain["output"]["message"]["content"][0]["text"]
    assert of(events, "messageStop")[0]["stopReason"] == plain["stopReason"] == "max_tokens"
    assert of(events, "metadata")[0]["usage"] == plain["usage"]


async def test_a_tool_call(client: Any) -> None:
    config = {"tools": [TOOL], "toolChoice": {"tool": {"name": "look_up"}}}
    plain = await ask(client, toolConfig=config)
    tool = plain["output"]["message"]["content"][0]["toolUse"]
    assert (tool["name"], plain["stopReason"]) == ("look_up", "tool_use")
    events = await ask(client, stream=True, toolConfig=config)
    assert of(events, "contentBlockStart")[0]["start"]["toolUse"]["name"] == "look_up"
    pieces = [event["delta"]["toolUse"]["input"] for event in of(events, "contentBlockDelta")]
    assert tool["input"]["query"] in "".join(pieces)


async def test_thinking(client: Any) -> None:
    fields = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    plain = await ask(client, additionalModelRequestFields=fields)
    thought = plain["output"]["message"]["content"][0]["reasoningContent"]["reasoningText"]
    assert thought["signature"].startswith("signature-")
    events = await ask(client, stream=True, additionalModelRequestFields=fields)
    deltas = [event["delta"].get("reasoningContent", {}) for event in of(events, "contentBlockDelta")]
    assert deltas[0] == {"text": thought["text"]}
    assert deltas[1] == {"signature": thought["signature"]}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "ValidationException"),
        (403, "AccessDeniedException"),
        (404, "ResourceNotFoundException"),
        (429, "ThrottlingException"),
        (500, "InternalServerException"),
        (503, "ServiceUnavailableException"),
    ],
)
async def test_an_error_status(status: int, name: str, stream: bool, behave: SetBehaviour, client: Any) -> None:
    behave(errors={status: 1.0})
    with pytest.raises(ClientError) as caught:
        await ask(client, stream=stream)
    response = cast("dict[str, Any]", caught.value.response)
    assert response["Error"]["Code"] == name
    assert response["ResponseMetadata"]["HTTPStatusCode"] == status


async def test_an_exception_inside_a_stream(behave: SetBehaviour, client: Any) -> None:
    behave(error_in_200=1.0)
    with pytest.raises(EventStreamError, match="The server had an error"):
        await ask(client, stream=True)
