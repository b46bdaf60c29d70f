"""OpenAI's Responses: requests, answers, streams and errors."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.providers.answer_reader import AnswerReader
from heimdall_fleet.providers.dialect import Action, AttemptError, Call, Target
from heimdall_fleet.providers.registry import dialect_for
from heimdall_fleet.providers.responses_answer import usage_of
from heimdall_schemas.failure import FailureCode as Code

CallBuilder = Callable[..., Call]
FAMILY = "openai_responses"
DIALECT = dialect_for(FAMILY)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
USAGE = {
    "input_tokens": 3,
    "input_tokens_details": {"cached_tokens": 2},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 4},
}


def wire(call: Call) -> tuple[dict[str, Any], tuple[str, ...]]:
    request = DIALECT.to_wire(call)
    return orjson.loads(request.body), request.dropped


def test_a_plain_call_stores_nothing(call: CallBuilder) -> None:
    request = DIALECT.to_wire(call(FAMILY, secret="sk-x"))
    assert (request.url, request.headers["authorization"]) == ("https://api.test/v1/responses", "Bearer sk-x")
    message = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
    assert orjson.loads(request.body) == {"model": "name-there", "input": [message], "store": False}


def test_a_conversation_becomes_items(call: CallBuilder) -> None:
    tool = {"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
    details = [{"type": "reasoning.encrypted", "data": "d", "id": "rs_1", "format": "openai-responses-v1"}]
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "assistant", "content": "ok", "tool_calls": [tool], "reasoning_details": details},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]
    assert wire(call(FAMILY, {"messages": messages}))[0]["input"] == [
        {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "be brief"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "d"},
        {"type": "message", "role": "assistant", "content": "ok"},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "1"},
    ]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            {"type": "image_url", "image_url": {"url": "https://x.test/a", "detail": "low"}},
            {"type": "input_image", "image_url": "https://x.test/a", "detail": "low"},
        ),
        (
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"}},
            {"type": "input_file", "file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"},
        ),
        ({"type": "file", "file": {"file_id": "file-1"}}, {"type": "input_file", "file_id": "file-1"}),
    ],
)
def test_content_parts(part: dict[str, Any], expected: dict[str, Any], call: CallBuilder) -> None:
    messages = [{"role": "user", "content": [part]}]
    assert wire(call(FAMILY, {"messages": messages}))[0]["input"][0]["content"] == [expected]


def test_what_cannot_be_sent_goes_to_another_provider(call: CallBuilder) -> None:
    part = {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}
    with pytest.raises(AttemptError) as caught:
        wire(call(FAMILY, {"messages": [{"role": "user", "content": [part]}]}))
    assert caught.value.failure.action is Action.OTHER_PROVIDER


@pytest.mark.parametrize(
    ("choice", "there"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "function": {"name": "f"}}, {"type": "function", "name": "f"}),
    ],
)
def test_tools_are_flat_and_not_strict_unless_asked(choice: Any, there: Any, call: CallBuilder) -> None:
    body, _ = wire(call(FAMILY, {"tools": [TOOL], "tool_choice": choice, "parallel_tool_calls": False}))
    parameters = {"type": "object", "properties": {}}
    assert body["tools"] == [{"type": "function", "name": "f", "parameters": parameters, "strict": False}]
    assert (body["tool_choice"], body["parallel_tool_calls"]) == (there, False)


def test_scalars_and_what_is_dropped(call: CallBuilder) -> None:
    given = {"max_tokens": 5, "temperature": 0.5, "top_p": 0.5, "user": "u", "metadata": {"a": "b"}, "verbosity": "low"}
    body, dropped = wire(call(FAMILY, {**given, "stop": ["x"], "n": 2, "seed": 1, "store": True}))
    del body["model"], body["input"]
    assert body == {
        "max_output_tokens": 16,
        "temperature": 0.5,
        "top_p": 0.5,
        "user": "u",
        "metadata": {"a": "b"},
        "text": {"verbosity": "low"},
        "store": True,
    }
    assert dropped == ("n", "seed", "stop")


@pytest.mark.parametrize(
    ("body", "facts", "effort", "dropped"),
    [
        ({"temperature": 0.5}, {"reasoning": True}, "high", ("temperature",)),
        ({"temperature": 0.5}, {"reasoning": True, "sampling": True}, "high", ()),
        ({"reasoning_effort": "low"}, {"reasoning": True}, "low", ()),
        ({"reasoning_effort": "max"}, {"reasoning": True, "efforts": ["low", "high"]}, "high", ()),
        ({"reasoning": {"max_tokens": 1024}}, {}, "low", ()),
        ({}, {}, None, ()),
        ({"reasoning_effort": "low"}, {"reasoning": False}, None, ("reasoning_effort",)),
    ],
)
def test_reasoning_is_the_callers_word_else_the_buckets(
    body: dict[str, Any], facts: dict[str, Any], effort: str | None, dropped: tuple[str, ...], call: CallBuilder
) -> None:
    settings = {"reasoning_effort": "high", "thinking_budget": 30000}
    found, named = wire(call(FAMILY, body, facts=facts, settings=settings))
    assert (found.get("reasoning", {}).get("effort"), named) == (effort, dropped)
    assert ("include" in found) == (facts.get("reasoning") is True)


def test_structured_output(call: CallBuilder) -> None:
    schema = {"name": "x", "schema": {"type": "object"}, "strict": True}
    body, _ = wire(call(FAMILY, {"response_format": {"type": "json_schema", "json_schema": schema}}))
    assert body["text"] == {"format": {"type": "json_schema", **schema}}
    body, _ = wire(call(FAMILY, {"response_format": {"type": "json_object"}}))
    assert body["text"] == {"format": {"type": "json_object"}}


REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "h"}, {"type": "summary_text", "text": "m"}],
    "encrypted_content": "d",
}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "t", "name": "f", "arguments": '{"q":1}'}
MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "Hello"}, {"type": "never_heard_of"}]}


def response(*output: dict[str, Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "status": status, "output": output, "usage": USAGE} | more


def read(value: Any, call: Call) -> dict[str, Any]:
    return DIALECT.from_wire(value if isinstance(value, bytes) else orjson.dumps(value), call)


@pytest.mark.parametrize(
    ("value", "reason", "native"),
    [
        (response(MESSAGE), "stop", "completed"),
        (response(MESSAGE, CALL, {"type": "never_heard_of"}), "tool_calls", "completed"),
        (
            response(MESSAGE, status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
            "length",
            "max_output_tokens",
        ),
        (response(status="incomplete", incomplete_details={"reason": "content_filter"}), "content_filter", None),
        (response(status="incomplete", incomplete_details={"reason": "steered"}), "length", "steered"),
    ],
)
def test_the_status_is_the_finish_reason(
    value: dict[str, Any], reason: str, native: str | None, call: CallBuilder
) -> None:
    choice = read(value, call(FAMILY))["choices"][0]
    assert (choice["finish_reason"], choice.get("native_finish_reason")) == (reason, native)


def test_a_refusal_is_not_content(call: CallBuilder) -> None:
    item = {"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}
    message = read(response(item), call(FAMILY))["choices"][0]["message"]
    assert (message["content"], message["refusal"]) == ("", "no")


def test_usage() -> None:
    usage = usage_of(USAGE)
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (3, 5)
    assert usage["prompt_tokens_details"] == {"cached_tokens": 2}
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 4}


FAILED = {"error": {"code": "rate_limit_exceeded", "message": "m"}}


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"", Code.PROVIDER_MALFORMED),
        (b"{}", Code.PROVIDER_MALFORMED),
        (orjson.dumps(response(MESSAGE))[:30], Code.PROVIDER_TRUNCATED),
        (response(status="failed", **FAILED), Code.PROVIDER_RATE_LIMITED),
        (response(status="cancelled"), Code.PROVIDER_ERROR),
        (response(status="queued"), Code.PROVIDER_ERROR),
    ],
)
def test_what_is_no_answer_is_a_failed_attempt(value: Any, code: Code, call: CallBuilder) -> None:
    with pytest.raises(AttemptError) as caught:
        read(value, call(FAMILY))
    assert caught.value.failure.code is code


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (each["type"].encode(), orjson.dumps(each)) for each in events)


def delta(kind: str, text: str, index: int = 0) -> dict[str, Any]:
    return {"type": f"response.{kind}.delta", "output_index": index, "delta": text}


CREATED = {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}}
EVENTS = (
    CREATED,
    {"type": "response.output_item.added", "output_index": 0, "item": {**REASONING, "summary": []}},
    {"type": "response.reasoning_summary_part.added", "summary_index": 0},
    delta("reasoning_summary_text", "h"),
    {"type": "response.reasoning_summary_part.added", "summary_index": 1},
    delta("reasoning_summary_text", "m"),
    {"type": "response.output_item.done", "output_index": 0, "item": REASONING},
    delta("output_text", "Hel", 1),
    delta("output_text", "lo", 1),
    {"type": "response.never_heard_of"},
    {"type": "response.output_item.added", "output_index": 2, "item": {**CALL, "arguments": ""}},
    delta("function_call_arguments", '{"q"', 2),
    delta("function_call_arguments", ":1}", 2),
    {"type": "response.output_item.done", "output_index": 2, "item": CALL},
)
END = {"type": "response.completed", "response": response(REASONING, MESSAGE, CALL)}


@given(cut=st.lists(st.integers(0, 3000), max_size=8))
def test_a_stream_in_any_chunking_says_the_same_as_a_plain_answer(cut: list[int]) -> None:
    request = Call({"messages": []}, Target("o", FAMILY, "", "m", "author/m", {}, {}, None, {}), "", {}, stream=True)
    data = sse(*EVENTS, END)
    marks = sorted({0, len(data), *(mark % len(data) for mark in cut)})
    reader = DIALECT.reader(request)
    for a, b in pairwise(marks):
        reader.feed(data[a:b])
    streamed, plain = reader.finish(), read(response(REASONING, MESSAGE, CALL), request)
    streamed.pop("created"), plain.pop("created")
    assert streamed == plain
    message = plain["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Hello", "h\n\nm")
    assert message["reasoning_details"][0]["data"] == "d"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", Code.PROVIDER_TRUNCATED),
        (sse(*EVENTS), Code.PROVIDER_TRUNCATED),
        (sse(CREATED, {"type": "error", "code": "server_is_overloaded", "message": "m"}), Code.PROVIDER_OVERLOADED),
        (
            sse(CREATED, {"type": "response.failed", "response": response(status="failed", **FAILED)}),
            Code.PROVIDER_RATE_LIMITED,
        ),
        (orjson.dumps(FAILED), Code.PROVIDER_RATE_LIMITED),
    ],
)
def test_a_stream_that_is_not_one_whole_answer_is_a_failed_attempt(data: bytes, code: Code, call: CallBuilder) -> None:
    reader = AnswerReader(DIALECT, call(FAMILY, stream=True))

    def read_all() -> None:
        reader.feed(data)
        reader.finish()

    with pytest.raises(AttemptError) as caught:
        read_all()
    assert caught.value.failure.code is code


def test_an_error_has_openais_shape() -> None:
    body = orjson.dumps({"error": {"message": "m", "type": "insufficient_quota", "code": "insufficient_quota"}})
    failure = DIALECT.failure(429, {}, body)
    assert (failure.code, failure.action, failure.disable_key) == (Code.PROVIDER_QUOTA, Action.OTHER_KEY, True)
