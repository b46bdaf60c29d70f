"""One canonical body to each dialect, its scripted server, and back: one shape of reply, whoever answered."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from heimdall_fleet.providers.compat import PROFILES
from heimdall_fleet.providers.dialect import Action, AttemptError, AttemptFailure, Call
from heimdall_fleet.providers.registry import DIALECTS
from heimdall_fleet.providers.scripted import Spread
from heimdall_schemas.failure import FailureCode as Code

Complete = Callable[[Call], Awaitable[dict[str, Any]]]
CallTo = Callable[..., Call]
SetBehaviour = Callable[..., None]

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAMILIES = sorted(DIALECTS)
WIRES = ["openai", *sorted(set(DIALECTS) - set(PROFILES))]
"""One family for each wire format."""
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
PARAMETERS = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
TOOL = {"type": "function", "function": {"name": "look.up", "description": "Looks up.", "parameters": PARAMETERS}}
SCHEMA = {"type": "object", "properties": {"answer": {"type": "string", "minLength": 1}}, "required": ["answer"]}
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
LOOKED_UP = {"id": "call_1", "type": "function", "function": {"name": "look.up", "arguments": '{"query":"x"}'}}

either_way = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
every_family = pytest.mark.parametrize("family", FAMILIES)
every_wire = pytest.mark.parametrize("family", WIRES)


def message_of(completion: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = completion["choices"][0]["message"]
    return message


def check_shape(completion: dict[str, Any], finish_reason: str) -> None:
    assert {"id", "object", "created", "model", "choices", "usage"} <= completion.keys()
    assert completion["object"] == "chat.completion"
    assert completion["model"] == "author/model"
    (choice,) = completion["choices"]
    assert {"index", "message", "logprobs", "finish_reason"} <= choice.keys()
    assert choice["finish_reason"] == finish_reason
    assert {"role", "content", "refusal"} <= choice["message"].keys()
    usage = completion["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 1
    assert usage["completion_tokens_details"].keys() == {"reasoning_tokens"}
    assert "cached_tokens" in usage["prompt_tokens_details"]


@every_family
@either_way
async def test_a_conversation_is_answered(family: str, stream: bool, call_to: CallTo, complete: Complete) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": [{"type": "text", "text": "Why?"}]},
    ]
    completion = await complete(call_to(family, stream=stream, messages=messages, heimdall={"tenant": "t"}))
    check_shape(completion, "stop")
    assert completion["usage"]["completion_tokens"] == 12
    same_words = await complete(call_to("openai", messages=messages))
    assert message_of(completion)["content"] == message_of(same_words)["content"]


@every_family
@either_way
async def test_the_limit_of_the_output_reaches_the_server(
    family: str, stream: bool, behave: SetBehaviour, call_to: CallTo, complete: Complete
) -> None:
    behave(output_tokens=Spread(40))
    completion = await complete(call_to(family, stream=stream, max_completion_tokens=16))
    check_shape(completion, "length")
    assert completion["usage"]["completion_tokens"] == 16


@every_family
@either_way
async def test_a_forced_tool_is_called_under_its_own_name(
    family: str, stream: bool, call_to: CallTo, complete: Complete
) -> None:
    choice = {"type": "function", "function": {"name": "look.up"}}
    completion = await complete(call_to(family, stream=stream, tools=[TOOL], tool_choice=choice))
    if family == "ollama":  # it cannot be told which function to call
        check_shape(completion, "stop")
        return
    check_shape(completion, "tool_calls")
    message = message_of(completion)
    assert message["content"] is None
    (tool,) = message["tool_calls"]
    assert tool.keys() == {"id", "type", "function"}
    assert tool["function"]["name"] == "look.up"
    assert orjson.loads(tool["function"]["arguments"]).keys() == {"query"}


@every_family
@either_way
async def test_the_results_of_tools_are_taken(family: str, stream: bool, call_to: CallTo, complete: Complete) -> None:
    second = {**LOOKED_UP, "id": "call_2"}
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [LOOKED_UP, second]},
        {"role": "tool", "tool_call_id": "call_1", "content": "first"},
        {"role": "tool", "tool_call_id": "call_2", "content": '{"n":2}'},
        {"role": "user", "content": "go on"},
    ]
    check_shape(await complete(call_to(family, stream=stream, messages=messages, tools=[TOOL])), "stop")


@every_family
@either_way
async def test_structured_output_is_json_in_the_content(
    family: str, stream: bool, call_to: CallTo, complete: Complete
) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}
    completion = await complete(call_to(family, stream=stream, response_format=wanted))
    check_shape(completion, "stop")
    assert isinstance(orjson.loads(message_of(completion)["content"]), dict)
    assert "tool_calls" not in message_of(completion)


@every_family
@either_way
async def test_an_image_is_taken(family: str, stream: bool, call_to: CallTo, complete: Complete) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, IMAGE]}]
    check_shape(await complete(call_to(family, stream=stream, messages=messages)), "stop")


@every_family
@either_way
async def test_a_caller_may_ask_for_reasoning(family: str, stream: bool, call_to: CallTo, complete: Complete) -> None:
    completion = await complete(call_to(family, stream=stream, reasoning_effort="low", max_tokens=4000))
    check_shape(completion, "stop")


FAILURES: list[tuple[dict[str, Any], Code, Action]] = [
    ({"errors": {401: 1.0}}, Code.PROVIDER_AUTH, Action.OTHER_KEY),
    ({"errors": {404: 1.0}}, Code.PROVIDER_NOT_FOUND, Action.OTHER_PROVIDER),
    ({"errors": {429: 1.0}, "retry_after_s": 7}, Code.PROVIDER_RATE_LIMITED, Action.OTHER_KEY),
    ({"errors": {500: 1.0}}, Code.PROVIDER_ERROR, Action.SAME_KEY),
    ({"errors": {503: 1.0}}, Code.PROVIDER_OVERLOADED, Action.OTHER_PROVIDER),
]


async def failed(complete: Complete, call: Call) -> AttemptFailure:
    with pytest.raises(AttemptError) as caught:
        await complete(call)
    return caught.value.failure


@every_wire
@either_way
@pytest.mark.parametrize("case", FAILURES, ids=["401", "404", "429", "500", "503"])
async def test_an_error_status_has_one_meaning_everywhere(
    case: tuple[dict[str, Any], Code, Action],
    family: str,
    stream: bool,
    behave: SetBehaviour,
    call_to: CallTo,
    complete: Complete,
) -> None:
    behaviour, code, action = case
    behave(**behaviour)
    failure = await failed(complete, call_to(family, stream=stream))
    assert (failure.code, failure.action) == (code, action)
    assert failure.retry_after_ms == (7000 if code is Code.PROVIDER_RATE_LIMITED else None)


@every_wire
async def test_a_rejected_request_is_final(
    family: str, behave: SetBehaviour, call_to: CallTo, complete: Complete
) -> None:
    behave(errors={400: 1.0})
    failure = await failed(complete, call_to(family))
    assert (failure.code, failure.action) == (Code.PROVIDER_REJECTED, Action.FINAL)


@every_wire
@either_way
async def test_an_error_inside_a_200_is_a_failed_attempt(
    family: str, stream: bool, behave: SetBehaviour, call_to: CallTo, complete: Complete
) -> None:
    behave(error_in_200=1.0)
    failure = await failed(complete, call_to(family, stream=stream))
    assert failure.code in {Code.PROVIDER_ERROR, Code.PROVIDER_MALFORMED}


@every_wire
async def test_a_cut_stream_is_never_a_short_answer(
    family: str, behave: SetBehaviour, call_to: CallTo, complete: Complete
) -> None:
    behave(cut_stream=1.0)
    assert (await failed(complete, call_to(family, stream=True))).code is Code.PROVIDER_TRUNCATED


@every_wire
async def test_half_a_body_is_a_failed_attempt(
    family: str, behave: SetBehaviour, call_to: CallTo, complete: Complete
) -> None:
    behave(truncated_body=1.0)
    assert (await failed(complete, call_to(family))).code is Code.PROVIDER_TRUNCATED
