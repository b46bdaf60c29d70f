"""Answers of Anthropic's Messages API, whole and streamed, in the canonical shape."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.providers.answer_reader import AnswerReader
from heimdall_fleet.providers.anthropic_answer import FINISH_REASONS, usage_of
from heimdall_fleet.providers.dialect import AttemptError, AttemptFailure, Call, Target
from heimdall_fleet.providers.registry import dialect_for
from heimdall_schemas.failure import FailureCode as Code

CallBuilder = Callable[..., Call]
DIALECT = dialect_for("anthropic")
TOOLS = [{"type": "function", "function": {"name": "look.up", "parameters": {"type": "object"}}}]


def message(*content: dict[str, Any], stop_reason: Any = "end_turn", **more: Any) -> bytes:
    usage = {"input_tokens": 3, "output_tokens": 5}
    return orjson.dumps(
        {"id": "msg_1", "type": "message", "content": content, "stop_reason": stop_reason, "usage": usage} | more
    )


def read(body: bytes, call: Call) -> dict[str, Any]:
    return DIALECT.from_wire(body, call)


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event)) for event in events)


START = {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 3, "output_tokens": 1}}}
STOP = {"type": "message_stop"}


def ended(reason: str = "end_turn") -> list[dict[str, Any]]:
    return [{"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 5}}, STOP]


def block(index: int, content: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def test_a_plain_answer_is_canonical(call: CallBuilder) -> None:
    completion = read(message({"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}), call("anthropic"))
    assert isinstance(completion.pop("created"), int)
    assert completion == {
        "id": "msg_1",
        "object": "chat.completion",
        "model": "author/name",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
                "native_finish_reason": "end_turn",
            }
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 5,
            "total_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


@pytest.mark.parametrize(("native", "canonical"), [*FINISH_REASONS.items(), ("never_heard_of", "stop")])
def test_stop_reasons(native: str, canonical: str, call: CallBuilder) -> None:
    content: dict[str, Any] = {"type": "text", "text": "a"}
    if native == "tool_use":
        content = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    choice = read(message(content, stop_reason=native), call("anthropic"))["choices"][0]
    assert choice["finish_reason"] == canonical
    assert choice["native_finish_reason" if native != canonical else "finish_reason"] == native


def test_tool_calls_come_back_under_the_callers_names(call: CallBuilder) -> None:
    request = call("anthropic", {"tools": TOOLS})
    name = orjson.loads(DIALECT.to_wire(request).body)["tools"][0]["name"]
    content = {"type": "tool_use", "id": "t1", "name": name, "input": {"q": 1}}
    found = read(message(content, {"type": "never_heard_of"}, stop_reason="tool_use"), request)["choices"][0]
    assert found["finish_reason"] == "tool_calls"
    assert found["message"]["content"] is None
    assert found["message"]["tool_calls"] == [
        {"id": "t1", "type": "function", "function": {"name": "look.up", "arguments": '{"q":1}'}}
    ]


def test_reasoning_is_text_and_what_must_go_back(call: CallBuilder) -> None:
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "text", "text": "a"},
    ]
    found = read(message(*content), call("anthropic"))["choices"][0]["message"]
    assert (found["content"], found["reasoning_content"]) == ("a", "hm")
    replayed = call("anthropic", {"messages": [{"role": "user", "content": "hi"}, found]}, facts={"prefill": True})
    assert orjson.loads(DIALECT.to_wire(replayed).body)["messages"][1]["content"] == content


def test_the_forced_function_of_a_schema_is_the_content(call: CallBuilder) -> None:
    content = {"type": "tool_use", "id": "t", "name": "answer_in_json", "input": {"n": 1}}
    choice = read(message(content, stop_reason="tool_use"), call("anthropic"))["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": '{"n":1}', "refusal": None}
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("raw", "prompt", "completion", "cached", "reasoning"),
    [
        ({}, 0, 0, 0, 0),
        ({"input_tokens": 1, "output_tokens": 2}, 1, 2, 0, 0),
        ({"input_tokens": 1, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 100}, 111, 0, 10, 0),
        ({"input_tokens": None, "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}}, 0, 9, 0, 4),
    ],
)
def test_usage_counts_the_cache_into_the_prompt(
    raw: dict[str, Any], prompt: int, completion: int, cached: int, reasoning: int
) -> None:
    usage = usage_of(raw)
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (prompt, completion)
    assert usage["prompt_tokens_details"]["cached_tokens"] == cached
    assert usage["completion_tokens_details"]["reasoning_tokens"] == reasoning


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", Code.PROVIDER_MALFORMED),
        (b"<html>", Code.PROVIDER_MALFORMED),
        (b"[]", Code.PROVIDER_MALFORMED),
        (b"{}", Code.PROVIDER_MALFORMED),
        (message({"type": "text", "text": "a"})[:60], Code.PROVIDER_TRUNCATED),
        (message({"type": "text", "text": "a"}, stop_reason=None), Code.PROVIDER_TRUNCATED),
        (b'{"type":"error","error":{"type":"overloaded_error","message":"m"}}', Code.PROVIDER_OVERLOADED),
        (b'{"type":"error"}', Code.PROVIDER_ERROR),
    ],
)
def test_what_is_no_answer_is_a_failed_attempt(body: bytes, code: Code, call: CallBuilder) -> None:
    with pytest.raises(AttemptError) as caught:
        read(body, call("anthropic"))
    assert caught.value.failure.code is code


def stream_of_everything(name: str) -> bytes:
    thinking: tuple[dict[str, Any], ...] = (
        {"type": "thinking_delta", "thinking": "h"},
        {"type": "thinking_delta", "thinking": "m"},
        {"type": "signature_delta", "signature": "s"},
    )
    text = ({"type": "text_delta", "text": "He\u2028"}, {"type": "text_delta", "text": "llo"}, {"type": "new_delta"})
    arguments = [{"type": "input_json_delta", "partial_json": part} for part in ("", '{"q"', ":1}")]
    return sse(
        START,
        {"type": "ping"},
        *block(0, {"type": "thinking", "thinking": ""}, *thinking),
        *block(1, {"type": "text", "text": ""}, *text),
        {"type": "never_heard_of"},
        *block(2, {"type": "tool_use", "id": "t1", "name": name, "input": {}}, *arguments),
        *ended("tool_use"),
    )


def whole_of_everything(name: str) -> bytes:
    return message(
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "He\u2028llo"},
        {"type": "tool_use", "id": "t1", "name": name, "input": {"q": 1}},
        stop_reason="tool_use",
    )


@given(cut=st.lists(st.integers(0, 2000), max_size=8))
def test_a_stream_in_any_chunking_says_the_same_as_a_plain_answer(cut: list[int]) -> None:
    target = Target("a", "anthropic", "https://api.test", "m", "author/name", {}, {}, None, {})
    request = Call({"messages": [], "tools": TOOLS}, target, "", {}, stream=True)
    name = orjson.loads(DIALECT.to_wire(request).body)["tools"][0]["name"]
    data = stream_of_everything(name)
    marks = sorted({0, len(data), *(mark % len(data) for mark in cut)})
    reader = DIALECT.reader(request)
    chunks = [chunk for a, b in pairwise(marks) for chunk in reader.feed(data[a:b])]
    streamed, plain = reader.finish(), read(whole_of_everything(name), request)
    streamed.pop("created"), plain.pop("created")
    assert streamed == plain
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == plain["usage"]


def failed(call: Call, data: bytes) -> AttemptFailure:
    reader = AnswerReader(DIALECT, call)

    def read_all() -> None:
        reader.feed(data)
        reader.finish()

    with pytest.raises(AttemptError) as caught:
        read_all()
    return caught.value.failure


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", Code.PROVIDER_TRUNCATED),
        (sse(START), Code.PROVIDER_TRUNCATED),
        (sse(START, *block(0, {"type": "text", "text": "a"}), *ended()[:1]), Code.PROVIDER_TRUNCATED),
        (sse(START, STOP), Code.PROVIDER_TRUNCATED),
        (sse(START, {"type": "error", "error": {"type": "overloaded_error"}}), Code.PROVIDER_OVERLOADED),
        (b"data: {\n\n", Code.PROVIDER_MALFORMED),
        (b"data: 1\n\n", Code.PROVIDER_MALFORMED),
        (b'{"type":"error","error":{"type":"rate_limit_error"}}', Code.PROVIDER_RATE_LIMITED),
        (b"<html>", Code.PROVIDER_MALFORMED),
    ],
)
def test_a_stream_that_is_not_one_whole_answer_is_a_failed_attempt(data: bytes, code: Code, call: CallBuilder) -> None:
    assert failed(call("anthropic", stream=True), data).code is code


def test_functions_that_were_called_are_declared_even_if_the_caller_lists_none(call: CallBuilder) -> None:
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": ""}}]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]
    body = orjson.loads(DIALECT.to_wire(call("anthropic", {"messages": messages})).body)
    assert body["tools"] == [{"name": "f", "input_schema": {"type": "object", "properties": {}}}]
    assert body["tool_choice"] == {"type": "none"}
