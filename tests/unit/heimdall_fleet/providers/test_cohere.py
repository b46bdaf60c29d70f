"""Cohere's chat: requests, answers, streams and errors."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.providers.cohere_answer import FINISH_REASONS, usage_of
from heimdall_fleet.providers.dialect import Action, AttemptError, Call, Target
from heimdall_fleet.providers.registry import dialect_for
from heimdall_schemas.failure import FailureCode as Code

CallBuilder = Callable[..., Call]
DIALECT = dialect_for("cohere")
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "d", "parameters": {"type": "object"}}}
    for name in ("f", "g")
]
USAGE = {"tokens": {"input_tokens": 3.0, "output_tokens": 5.0}, "cached_tokens": 2.0}


def wire(call: Call) -> tuple[dict[str, Any], tuple[str, ...]]:
    request = DIALECT.to_wire(call)
    return orjson.loads(request.body), request.dropped


def test_a_call_goes_to_chat_with_a_bearer_key(call: CallBuilder) -> None:
    request = DIALECT.to_wire(call("cohere", base_url="https://c.test/v2/", secret="key"))
    assert (request.url, request.headers["authorization"]) == ("https://c.test/v2/chat", "Bearer key")
    assert orjson.loads(request.body) == {
        "model": "name-there",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    }


def test_a_conversation_keeps_its_roles(call: CallBuilder) -> None:
    tool = {"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
    details = [
        {"type": "reasoning.text", "text": "hm", "format": "cohere-v2"},
        {"type": "reasoning.text", "text": "other", "format": "anthropic-claude-v1"},
    ]
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": "hi", "name": "bob"},
        {"role": "assistant", "content": None, "tool_calls": [tool], "reasoning_details": details},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "1"}]},
        {"role": "assistant", "content": ""},
    ]
    assert wire(call("cohere", {"messages": messages}))[0]["messages"] == [
        {"role": "system", "content": [{"type": "text", "text": "be brief"}]},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "hm"}],
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]


def test_what_cannot_be_sent_goes_to_another_provider(call: CallBuilder) -> None:
    part = {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}
    with pytest.raises(AttemptError) as caught:
        wire(call("cohere", {"messages": [{"role": "user", "content": [part]}]}))
    assert caught.value.failure.action is Action.OTHER_PROVIDER


@pytest.mark.parametrize(
    ("choice", "there", "names"),
    [
        (None, None, ["f", "g"]),
        ("auto", None, ["f", "g"]),
        ("none", "NONE", ["f", "g"]),
        ("required", "REQUIRED", ["f", "g"]),
        ({"type": "function", "function": {"name": "g"}}, "REQUIRED", ["g"]),
    ],
)
def test_a_named_function_is_the_only_one_and_required(
    choice: Any, there: str | None, names: list[str], call: CallBuilder
) -> None:
    body, _ = wire(call("cohere", {"tools": TOOLS, "tool_choice": choice}))
    assert body.get("tool_choice") == there
    assert [tool["function"]["name"] for tool in body["tools"]] == names


def test_scalars_have_their_names_there_and_the_rest_is_dropped_by_name(call: CallBuilder) -> None:
    given = {"max_tokens": 9, "temperature": 0.5, "top_p": 0.5, "top_k": 3, "stop": ["x"], "seed": 7, "logprobs": True}
    body, dropped = wire(call("cohere", {**given, "n": 2, "user": "u", "response_format": {"type": "json_object"}}))
    del body["messages"], body["model"]
    assert body == {
        "max_tokens": 9,
        "temperature": 0.5,
        "p": 0.5,
        "k": 3,
        "stop_sequences": ["x"],
        "seed": 7,
        "logprobs": True,
        "response_format": {"type": "json_object"},
    }
    assert dropped == ("n", "user")


def test_structured_output_has_its_schema(call: CallBuilder) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    body, _ = wire(call("cohere", {"response_format": wanted}))
    assert body["response_format"] == {"type": "json_object", "json_schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("body", "facts", "thinking", "dropped"),
    [
        ({}, {"reasoning": True}, {"type": "enabled", "token_budget": 15000}, ()),
        ({}, {}, None, ()),
        ({"reasoning_effort": "low"}, {}, {"type": "enabled", "token_budget": 1024}, ()),
        ({"reasoning_effort": "none"}, {"reasoning": True}, {"type": "disabled"}, ()),
        ({"reasoning_effort": "low"}, {"reasoning": False}, None, ("reasoning_effort",)),
    ],
)
def test_reasoning_is_the_callers_word_else_the_buckets(
    body: dict[str, Any],
    facts: dict[str, Any],
    thinking: dict[str, Any] | None,
    dropped: tuple[str, ...],
    call: CallBuilder,
) -> None:
    settings = {"reasoning_effort": "medium", "thinking_budget": 15000}
    found, named = wire(call("cohere", body, facts=facts, settings=settings))
    assert (found.get("thinking"), named) == (thinking, dropped)


def response(reason: str = "COMPLETE", **message: Any) -> dict[str, Any]:
    return {"id": "c1", "finish_reason": reason, "message": {"role": "assistant", **message}, "usage": USAGE}


def read(value: Any, call: Call) -> dict[str, Any]:
    return DIALECT.from_wire(value if isinstance(value, bytes) else orjson.dumps(value), call)


def code_of(value: Any, call: Call) -> Code:
    with pytest.raises(AttemptError) as caught:
        read(value, call)
    return caught.value.failure.code


@pytest.mark.parametrize(("native", "canonical"), [*FINISH_REASONS.items(), ("NEVER_HEARD_OF", "stop")])
def test_finish_reasons(native: str, canonical: str, call: CallBuilder) -> None:
    tools = [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    message = {"tool_calls": tools} if native == "TOOL_CALL" else {"content": [{"type": "text", "text": "a"}]}
    assert read(response(native, **message), call("cohere"))["choices"][0]["finish_reason"] == canonical


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"", Code.PROVIDER_MALFORMED),
        (b"{}", Code.PROVIDER_MALFORMED),
        (orjson.dumps(response())[:30], Code.PROVIDER_TRUNCATED),
        (response("ERROR"), Code.PROVIDER_ERROR),
        (response("TIMEOUT"), Code.PROVIDER_TIMEOUT),
    ],
)
def test_what_is_no_answer_is_a_failed_attempt(value: Any, code: Code, call: CallBuilder) -> None:
    assert code_of(value, call("cohere")) is code


@pytest.mark.parametrize(
    ("raw", "prompt", "completion", "cached"),
    [
        (USAGE, 3, 5, 2),
        ({"billed_units": {"input_tokens": 1.0, "output_tokens": 2.0}}, 1, 2, 0),
        ({"tokens": {"input_tokens": None}, "cached_tokens": None}, 0, 0, 0),
    ],
)
def test_usage_comes_as_floats_or_not_at_all(raw: dict[str, Any], prompt: int, completion: int, cached: int) -> None:
    usage = usage_of(raw)
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (prompt, completion)
    assert usage["prompt_tokens_details"] == {"cached_tokens": cached}


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (each["type"].encode(), orjson.dumps(each)) for each in events)


def content(kind: str, index: int, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "index": index, "delta": {"message": {"content": fields}}}


def tool(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "index": 0, "delta": {"message": {"tool_calls": fields}}}


START = {"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant"}}}
EVENTS = (
    START,
    {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "pl"}}},
    {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "an "}}},
    content("content-start", 0, type="thinking", thinking="h"),
    content("content-delta", 0, thinking="m"),
    {"type": "content-end", "index": 0},
    content("content-start", 1, type="text", text=""),
    content("content-delta", 1, text="Hel"),
    content("content-delta", 1, text="lo"),
    {"type": "content-end", "index": 1},
    {"type": "never-heard-of"},
    tool("tool-call-start", id="t", type="function", function={"name": "f", "arguments": ""}),
    tool("tool-call-delta", function={"arguments": '{"q"'}),
    tool("tool-call-delta", function={"arguments": ":1}"}),
    {"type": "tool-call-end", "index": 0},
)
END = {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL", "usage": USAGE}}


@given(cut=st.lists(st.integers(0, 3000), max_size=8))
def test_a_stream_in_any_chunking_says_the_same_as_a_plain_answer(cut: list[int]) -> None:
    request = Call({"messages": []}, Target("c", "cohere", "", "m", "author/m", {}, {}, None, {}), "", {}, stream=True)
    data = sse(*EVENTS, END)
    marks = sorted({0, len(data), *(mark % len(data) for mark in cut)})
    reader = DIALECT.reader(request)
    for a, b in pairwise(marks):
        reader.feed(data[a:b])
    plain = read(
        response(
            "TOOL_CALL",
            tool_plan="plan ",
            content=[{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Hello"}],
            tool_calls=[{"id": "t", "type": "function", "function": {"name": "f", "arguments": '{"q":1}'}}],
        ),
        request,
    )
    streamed = reader.finish()
    streamed.pop("created"), plain.pop("created")
    assert streamed == plain
    assert plain["choices"][0]["message"]["reasoning_content"] == "plan hm"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", Code.PROVIDER_TRUNCATED),
        (sse(*EVENTS), Code.PROVIDER_TRUNCATED),
        (sse(START, {"type": "message-end", "delta": {"error": "boom"}}), Code.PROVIDER_ERROR),
        (sse(START, {"type": "message-end", "delta": {"finish_reason": "TIMEOUT"}}), Code.PROVIDER_TIMEOUT),
    ],
)
def test_a_stream_that_is_not_one_whole_answer_is_a_failed_attempt(data: bytes, code: Code, call: CallBuilder) -> None:
    reader = DIALECT.reader(call("cohere", stream=True))

    def read_all() -> None:
        reader.feed(data)
        reader.finish()

    with pytest.raises(AttemptError) as caught:
        read_all()
    assert caught.value.failure.code is code


@pytest.mark.parametrize(
    ("status", "message", "code", "action"),
    [
        (400, "invalid request", Code.PROVIDER_REJECTED, Action.FINAL),
        (400, "too many tokens: the prompt is 300000", Code.CALLER_CONTEXT_TOO_LONG, Action.OTHER_MODEL),
        (401, "invalid api token", Code.PROVIDER_AUTH, Action.OTHER_KEY),
        (402, "unpaid", Code.PROVIDER_QUOTA, Action.OTHER_PROVIDER),
        (404, "model not found", Code.PROVIDER_NOT_FOUND, Action.OTHER_PROVIDER),
        (422, "unprocessable", Code.PROVIDER_REJECTED, Action.FINAL),
        (429, "too many requests", Code.PROVIDER_RATE_LIMITED, Action.OTHER_KEY),
        (498, "invalid token", Code.PROVIDER_REFUSED, Action.FINAL),
        (500, "oops", Code.PROVIDER_ERROR, Action.SAME_KEY),
        (503, "busy", Code.PROVIDER_OVERLOADED, Action.OTHER_PROVIDER),
    ],
)
def test_each_error_means_one_thing(status: int, message: str, code: Code, action: Action) -> None:
    failure = DIALECT.failure(status, {}, orjson.dumps({"id": "x", "message": message}))
    assert (failure.code, failure.action) == (code, action)
