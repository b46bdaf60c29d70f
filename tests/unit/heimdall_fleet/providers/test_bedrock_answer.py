"""Answers of Bedrock's Converse, whole, framed and refused, in the canonical shape."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.providers.answer_reader import AnswerReader
from heimdall_fleet.providers.bedrock_answer import FAILED, FINISH_REASONS, usage_of
from heimdall_fleet.providers.dialect import Action, AttemptError, Call, Target
from heimdall_fleet.providers.eventstream import frame
from heimdall_fleet.providers.registry import dialect_for
from heimdall_schemas.failure import FailureCode as Code

CallBuilder = Callable[..., Call]
DIALECT = dialect_for("bedrock")
USAGE = {"inputTokens": 3, "outputTokens": 5, "totalTokens": 8}
TOOL_USE = {"toolUseId": "t1", "name": "f"}


def response(*content: dict[str, Any], reason: str = "end_turn") -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    return {"output": {"message": message}, "stopReason": reason, "usage": USAGE}


def event(name: str, value: dict[str, Any]) -> bytes:
    return frame({":message-type": "event", ":event-type": name}, orjson.dumps(value))


def read(value: Any, call: Call) -> dict[str, Any]:
    return DIALECT.from_wire(value if isinstance(value, bytes) else orjson.dumps(value), call)


CONTENT: tuple[dict[str, Any], ...] = (
    {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
    {"reasoningContent": {"redactedContent": "ZGF0YQ=="}},
    {"text": "Hello"},
    {"toolUse": {**TOOL_USE, "input": {"q": 1}}},
    {"neverHeardOf": {}},
)


def deltas(index: int, *values: dict[str, Any]) -> list[bytes]:
    pieces = [event("contentBlockDelta", {"contentBlockIndex": index, "delta": value}) for value in values]
    return [*pieces, event("contentBlockStop", {"contentBlockIndex": index})]


FRAMES = b"".join(
    [
        event("messageStart", {"role": "assistant"}),
        *deltas(
            0,
            {"reasoningContent": {"text": "h"}},
            {"reasoningContent": {"text": "m"}},
            {"reasoningContent": {"signature": "s"}},
        ),
        *deltas(1, {"reasoningContent": {"redactedContent": "ZGF0YQ=="}}),
        *deltas(2, {"text": "Hel"}, {"text": "lo"}, {"neverHeardOf": 1}),
        event("contentBlockStart", {"contentBlockIndex": 3, "start": {"toolUse": TOOL_USE}}),
        *deltas(3, {"toolUse": {"input": '{"q"'}}, {"toolUse": {"input": ":1}"}}),
        event("neverHeardOf", {}),
        event("messageStop", {"stopReason": "tool_use"}),
        event("metadata", {"usage": USAGE}),
    ]
)


@given(cut=st.lists(st.integers(0, 3000), max_size=8))
def test_a_stream_in_any_chunking_says_the_same_as_a_plain_answer(cut: list[int]) -> None:
    target = Target("b", "bedrock", "", "amazon.nova", "author/name", {}, {}, None, {})
    request = Call({"messages": []}, target, "", {}, stream=True)
    marks = sorted({0, len(FRAMES), *(mark % len(FRAMES) for mark in cut)})
    reader = DIALECT.reader(request)
    chunks = [chunk for a, b in pairwise(marks) for chunk in reader.feed(FRAMES[a:b])]
    streamed, plain = reader.finish(), read(response(*CONTENT, reason="tool_use"), request)
    for completion in (streamed, plain):
        completion.pop("created"), completion.pop("id")
    assert streamed == plain
    assert chunks[-1]["usage"] == plain["usage"]
    message = plain["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Hello", "hm")
    function = {"name": "f", "arguments": '{"q":1}'}
    assert message["tool_calls"] == [{"id": "t1", "type": "function", "function": function}]


@pytest.mark.parametrize("model", ["anthropic.claude-haiku-4-5", "amazon.nova-2-lite-v1:0"])
def test_reasoning_goes_back_as_it_came(model: str, call: CallBuilder) -> None:
    message = read(response(*CONTENT[:3]), call("bedrock", model=model))["choices"][0]["message"]
    replayed = call("bedrock", {"messages": [{"role": "user", "content": "hi"}, message]}, model=model)
    assert orjson.loads(DIALECT.to_wire(replayed).body)["messages"][1]["content"] == list(CONTENT[:3])


@pytest.mark.parametrize(("native", "canonical"), [*FINISH_REASONS.items(), ("never_heard_of", "stop")])
def test_stop_reasons(native: str, canonical: str, call: CallBuilder) -> None:
    content = {"toolUse": {**TOOL_USE, "input": {}}} if native == "tool_use" else {"text": "a"}
    assert read(response(content, reason=native), call("bedrock"))["choices"][0]["finish_reason"] == canonical


def test_the_forced_function_of_a_schema_is_the_content(call: CallBuilder) -> None:
    content = {"toolUse": {"toolUseId": "t", "name": "answer_in_json", "input": {"n": 1}}}
    choice = read(response(content, reason="tool_use"), call("bedrock"))["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": '{"n":1}', "refusal": None}
    assert choice["finish_reason"] == "stop"


def test_usage_counts_the_cache_into_the_prompt() -> None:
    usage = usage_of({**USAGE, "cacheReadInputTokens": 10, "cacheWriteInputTokens": 100})
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (113, 5)
    assert usage["prompt_tokens_details"] == {"cached_tokens": 10, "cache_write_tokens": 100}


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"", Code.PROVIDER_MALFORMED),
        (b"{}", Code.PROVIDER_MALFORMED),
        (orjson.dumps(response({"text": "a"}))[:50], Code.PROVIDER_TRUNCATED),
        *((response({"text": "a"}, reason=reason), Code.PROVIDER_MALFORMED) for reason in sorted(FAILED)),
    ],
)
def test_what_is_no_answer_is_a_failed_attempt(value: Any, code: Code, call: CallBuilder) -> None:
    with pytest.raises(AttemptError) as caught:
        read(value, call("bedrock"))
    assert caught.value.failure.code is code


def thrown(name: str, message: str = "m") -> bytes:
    headers = {":message-type": "exception", ":exception-type": name}
    return frame(headers, orjson.dumps({"message": message}))


TEXT = event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "a"}})
FAILED_WHOLE = frame({":message-type": "error", ":error-code": "InternalError", ":error-message": "m"}, b"")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", Code.PROVIDER_TRUNCATED),
        (TEXT, Code.PROVIDER_TRUNCATED),
        (FRAMES[:-20], None),
        (TEXT + thrown("throttlingException"), Code.PROVIDER_RATE_LIMITED),
        (TEXT + thrown("serviceUnavailableException"), Code.PROVIDER_OVERLOADED),
        (TEXT + thrown("internalServerException"), Code.PROVIDER_ERROR),
        (TEXT + thrown("modelStreamErrorException"), Code.PROVIDER_ERROR),
        (thrown("validationException", "Input is too long for requested model."), Code.CALLER_CONTEXT_TOO_LONG),
        (thrown("validationException"), Code.PROVIDER_REJECTED),
        (FAILED_WHOLE, Code.PROVIDER_ERROR),
        (frame({":event-type": "messageStop"}, b"{"), Code.PROVIDER_MALFORMED),
        (b'{"message": "m"}', Code.PROVIDER_MALFORMED),
        (b"<html>", Code.PROVIDER_MALFORMED),
    ],
)
def test_a_stream_that_is_not_one_whole_answer_is_a_failed_attempt(
    data: bytes, code: Code | None, call: CallBuilder
) -> None:
    reader = AnswerReader(DIALECT, call("bedrock", stream=True))

    def read_all() -> None:
        reader.feed(data)
        reader.finish()

    if code is None:  # only the counts are missing
        read_all()
        return
    with pytest.raises(AttemptError) as caught:
        read_all()
    assert caught.value.failure.code is code


@pytest.mark.parametrize(
    ("status", "name", "message", "code", "action"),
    [
        (400, "ValidationException", "m", Code.PROVIDER_REJECTED, Action.FINAL),
        (400, "ValidationException", "Input is too long", Code.CALLER_CONTEXT_TOO_LONG, Action.OTHER_MODEL),
        (400, "ServiceQuotaExceededException", "m", Code.PROVIDER_RATE_LIMITED, Action.OTHER_KEY),
        (403, "AccessDeniedException", "m", Code.PROVIDER_AUTH, Action.OTHER_PROVIDER),
        (403, "UnrecognizedClientException", "m", Code.PROVIDER_AUTH, Action.OTHER_KEY),
        (404, "ResourceNotFoundException", "m", Code.PROVIDER_NOT_FOUND, Action.OTHER_PROVIDER),
        (408, "ModelTimeoutException", "m", Code.PROVIDER_TIMEOUT, Action.SAME_KEY),
        (424, "ModelErrorException", "m", Code.PROVIDER_ERROR, Action.SAME_KEY),
        (429, "ThrottlingException", "m", Code.PROVIDER_RATE_LIMITED, Action.OTHER_KEY),
        (429, "ModelNotReadyException", "m", Code.PROVIDER_OVERLOADED, Action.OTHER_PROVIDER),
        (500, "InternalServerException", "m", Code.PROVIDER_ERROR, Action.SAME_KEY),
        (503, "ServiceUnavailableException", "m", Code.PROVIDER_OVERLOADED, Action.OTHER_PROVIDER),
    ],
)
def test_each_error_means_one_thing(status: int, name: str, message: str, code: Code, action: Action) -> None:
    headers = {"x-amzn-errortype": f"{name}:http://internal.amazon.com/coral/"}
    failure = DIALECT.failure(status, headers, orjson.dumps({"message": message}))
    assert (failure.code, failure.action) == (code, action)
