"""Answers of Gemini's generateContent, whole, streamed and refused, in the canonical shape."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.providers.answer_reader import AnswerReader
from heimdall_fleet.providers.dialect import Action, AttemptError, Call, Target
from heimdall_fleet.providers.gemini_answer import FAILED, FINISH_REASONS, usage_of
from heimdall_fleet.providers.registry import dialect_for
from heimdall_schemas.failure import FailureCode as Code

CallBuilder = Callable[..., Call]
DIALECT = dialect_for("gemini")
USAGE = {"promptTokenCount": 3, "candidatesTokenCount": 5, "thoughtsTokenCount": 2, "totalTokenCount": 10}


def response(*parts: dict[str, Any], reason: str | None = "STOP", **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}}
    if reason:
        candidate["finishReason"] = reason
    return {"candidates": [candidate], "usageMetadata": USAGE, "responseId": "r1"} | more


def read(value: Any, call: Call) -> dict[str, Any]:
    return DIALECT.from_wire(value if isinstance(value, bytes) else orjson.dumps(value), call)


def failed_with(value: Any, call: Call) -> Code:
    with pytest.raises(AttemptError) as caught:
        read(value, call)
    return caught.value.failure.code


def test_a_plain_answer_is_canonical(call: CallBuilder) -> None:
    completion = read(response({"text": "hm", "thought": True}, {"text": "Hel"}, {"text": "lo"}), call("gemini"))
    assert completion["id"] == "r1"
    choice = completion["choices"][0]
    assert choice["message"]["content"] == "Hello"
    assert choice["message"]["reasoning_content"] == "hm"
    assert (choice["finish_reason"], choice["native_finish_reason"]) == ("stop", "STOP")
    assert completion["usage"]["completion_tokens"] == 7


def test_a_function_call_gets_an_id_and_its_signature_goes_back_with_it(call: CallBuilder) -> None:
    part = {"functionCall": {"name": "f", "args": {"q": 1}}, "thoughtSignature": "sig"}
    choice = read(response(part), call("gemini"))["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    (tool,) = choice["message"]["tool_calls"]
    assert tool["function"] == {"name": "f", "arguments": '{"q":1}'}
    assert tool["id"] == "call_r1_0"
    messages = [
        {"role": "user", "content": "hi"},
        choice["message"],
        {"role": "tool", "tool_call_id": tool["id"], "content": "1"},
    ]
    body = DIALECT.to_wire(call("gemini", {"messages": messages}, model="gemini-3.8-flash")).body
    sent = orjson.loads(body)["contents"][1]["parts"][0]
    assert sent == {
        "functionCall": {"name": "f", "args": {"q": 1}, "id": "call_r1_0"},
        "thoughtSignature": "sig",
    }


@pytest.mark.parametrize(
    ("native", "canonical"),
    [*FINISH_REASONS.items(), ("IMAGE_NEVER_HEARD_OF", "content_filter"), ("NEVER_HEARD_OF", "stop")],
)
def test_finish_reasons(native: str, canonical: str, call: CallBuilder) -> None:
    choice = read(response({"text": "a"}, reason=native), call("gemini"))["choices"][0]
    assert (choice["finish_reason"], choice["native_finish_reason"]) == (canonical, native)


@pytest.mark.parametrize("native", sorted(FAILED))
def test_a_broken_answer_is_a_failed_attempt(native: str, call: CallBuilder) -> None:
    assert failed_with(response(reason=native), call("gemini")) is Code.PROVIDER_MALFORMED


def test_a_blocked_prompt_is_an_empty_filtered_answer(call: CallBuilder) -> None:
    completion = read({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": USAGE}, call("gemini"))
    choice = completion["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("content_filter", "")


def test_every_candidate_is_a_choice(call: CallBuilder) -> None:
    value = response({"text": "a"})
    value["candidates"].append({"index": 1, "content": {"parts": [{"text": "b"}]}, "finishReason": "MAX_TOKENS"})
    choices = read(value, call("gemini"))["choices"]
    assert [(c["message"]["content"], c["finish_reason"]) for c in choices] == [("a", "stop"), ("b", "length")]


@pytest.mark.parametrize(
    ("raw", "prompt", "completion", "reasoning"),
    [
        ({}, 0, 0, 0),
        (USAGE, 3, 7, 2),
        ({**USAGE, "totalTokenCount": 8}, 3, 5, 2),
        ({**USAGE, "toolUsePromptTokenCount": 4, "totalTokenCount": 12}, 7, 5, 2),
        ({"promptTokenCount": 3, "thoughtsTokenCount": 2, "totalTokenCount": 5}, 3, 2, 2),
        ({"promptTokenCount": 3, "candidatesTokenCount": None}, 3, 0, 0),
    ],
)
def test_usage_counts_thoughts_once(raw: dict[str, Any], prompt: int, completion: int, reasoning: int) -> None:
    usage = usage_of(raw)
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (prompt, completion)
    assert usage["completion_tokens_details"]["reasoning_tokens"] == reasoning


def test_cached_tokens_are_part_of_the_prompt() -> None:
    usage = usage_of({**USAGE, "cachedContentTokenCount": 2})
    assert usage["prompt_tokens"] == 3
    assert usage["prompt_tokens_details"] == {"cached_tokens": 2}


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"", Code.PROVIDER_MALFORMED),
        (b"{}", Code.PROVIDER_MALFORMED),
        (orjson.dumps(response({"text": "a"}))[:50], Code.PROVIDER_TRUNCATED),
        (response({"text": "a"}, reason=None), Code.PROVIDER_TRUNCATED),
        ({"error": {"code": 503, "message": "m", "status": "UNAVAILABLE"}}, Code.PROVIDER_OVERLOADED),
    ],
)
def test_what_is_no_answer_is_a_failed_attempt(value: Any, code: Code, call: CallBuilder) -> None:
    assert failed_with(value, call("gemini")) is code


PARTS: tuple[dict[str, Any], ...] = (
    {"text": "hm", "thought": True},
    {"text": "He\u2028"},
    {"text": "llo"},
    {"functionCall": {"name": "f", "args": {"q": 1}, "id": "t1"}},
)


@given(cut=st.lists(st.integers(0, 2000), max_size=8))
def test_a_stream_in_any_chunking_says_the_same_as_a_plain_answer(cut: list[int]) -> None:
    target = Target("g", "gemini", "https://api.test", "m", "author/name", {}, {}, None, {})
    request = Call({"messages": []}, target, "", {}, stream=True)
    events = [*(response(part, reason=None) for part in PARTS), response(reason="STOP")]
    data = b"".join(b"data: %b\r\n\r\n" % orjson.dumps(event) for event in events)
    marks = sorted({0, len(data), *(mark % len(data) for mark in cut)})
    reader = DIALECT.reader(request)
    chunks = [chunk for a, b in pairwise(marks) for chunk in reader.feed(data[a:b])]
    streamed, plain = reader.finish(), read(response(*PARTS), request)
    streamed.pop("created"), plain.pop("created")
    assert streamed == plain
    assert [chunk["usage"] for chunk in chunks if not chunk["choices"]] == [plain["usage"]]


def sse(*events: Any) -> bytes:
    return b"".join(b"data: %b\n\n" % orjson.dumps(event) for event in events)


ERROR = {"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED"}}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", Code.PROVIDER_TRUNCATED),
        (sse(response({"text": "a"}, reason=None)), Code.PROVIDER_TRUNCATED),
        (sse(response({"text": "a"}, reason=None), ERROR), Code.PROVIDER_RATE_LIMITED),
        (sse([ERROR]), Code.PROVIDER_RATE_LIMITED),
        (orjson.dumps([ERROR]), Code.PROVIDER_RATE_LIMITED),
        (orjson.dumps(ERROR), Code.PROVIDER_RATE_LIMITED),
        (b"[{", Code.PROVIDER_TRUNCATED),
        (b"[]", Code.PROVIDER_MALFORMED),
    ],
)
def test_a_stream_that_is_not_one_whole_answer_is_a_failed_attempt(data: bytes, code: Code, call: CallBuilder) -> None:
    reader = AnswerReader(DIALECT, call("gemini", stream=True))

    def read_all() -> None:
        reader.feed(data)
        reader.finish()

    with pytest.raises(AttemptError) as caught:
        read_all()
    assert caught.value.failure.code is code


def detailed(kind: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/google.rpc.{kind}", **fields}


@pytest.mark.parametrize(
    ("status", "word", "details", "code", "action", "wait_ms"),
    [
        (400, "INVALID_ARGUMENT", [], Code.PROVIDER_REJECTED, Action.FINAL, None),
        (400, "INVALID_ARGUMENT", [detailed("ErrorInfo", reason="API_KEY_INVALID")], Code.PROVIDER_AUTH, None, None),
        (403, "PERMISSION_DENIED", [], Code.PROVIDER_AUTH, Action.OTHER_PROVIDER, None),
        (404, "NOT_FOUND", [], Code.PROVIDER_NOT_FOUND, Action.OTHER_PROVIDER, None),
        (
            429,
            "RESOURCE_EXHAUSTED",
            [detailed("RetryInfo", retryDelay="12s")],
            Code.PROVIDER_RATE_LIMITED,
            Action.OTHER_KEY,
            12000,
        ),
        (500, "INTERNAL", [], Code.PROVIDER_ERROR, Action.SAME_KEY, None),
        (503, "UNAVAILABLE", [], Code.PROVIDER_OVERLOADED, Action.OTHER_PROVIDER, None),
        (504, "DEADLINE_EXCEEDED", [], Code.PROVIDER_TIMEOUT, Action.SAME_KEY, None),
    ],
)
def test_each_error_means_one_thing(
    status: int, word: str, details: list[Any], code: Code, action: Action | None, wait_ms: int | None
) -> None:
    error = {"code": status, "message": "m", "status": word, "details": details}
    failure = DIALECT.failure(status, {}, orjson.dumps([{"error": error}]))
    assert failure.code is code
    assert action is None or failure.action is action
    assert failure.retry_after_ms == wait_ms


def test_too_long_a_prompt_is_an_overflow() -> None:
    message = "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576)."
    failure = DIALECT.failure(400, {}, orjson.dumps({"error": {"code": 400, "message": message}}))
    assert (failure.code, failure.context_overflow) == (Code.CALLER_CONTEXT_TOO_LONG, True)
