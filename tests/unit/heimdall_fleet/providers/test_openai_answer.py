"""Answers of OpenAI-compatible servers, whole and streamed, in the canonical shape."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.providers.answer_reader import AnswerReader
from heimdall_fleet.providers.dialect import AttemptError, AttemptFailure, Call, Target
from heimdall_fleet.providers.registry import dialect_for
from heimdall_schemas.failure import FailureCode as Code

CallBuilder = Callable[..., Call]
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}


def answer(message: dict[str, Any] | None = None, finish_reason: str | None = "stop", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "Hello"} if message is None else message
    choices = [{"index": 0, "message": message, "finish_reason": finish_reason}]
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices} | more


def read(call: Call, value: Any) -> dict[str, Any]:
    body = value if isinstance(value, bytes) else orjson.dumps(value)
    return dialect_for(call.target.type).from_wire(body, call)


def failed(call: Call, value: Any) -> AttemptFailure:
    with pytest.raises(AttemptError) as caught:
        read(call, value)
    return caught.value.failure


def test_a_plain_answer_is_canonical(call: CallBuilder) -> None:
    completion = read(call(), answer(usage=USAGE, system_fingerprint="fp"))
    assert completion == {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "author/name",
        "system_fingerprint": "fp",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE
        | {"prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}},
    }


@pytest.mark.parametrize(
    ("message", "text", "reasoning"),
    [
        ({"content": "a", "reasoning_content": "b"}, "a", "b"),
        ({"content": "a", "reasoning": "b"}, "a", "b"),
        ({"content": "a", "reasoning": None}, "a", None),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "b"}]},
                    {"type": "text", "text": "a"},
                    {"type": "reference", "reference_ids": [1]},
                ]
            },
            "a",
            "b",
        ),
        ({}, None, None),
    ],
)
def test_content_is_one_string_and_reasoning_has_one_name(
    message: dict[str, Any], text: str | None, reasoning: str | None, call: CallBuilder
) -> None:
    found = read(call(), answer(message))["choices"][0]["message"]
    assert (found["content"], found.get("reasoning_content")) == (text, reasoning)
    assert "reasoning" not in found


@pytest.mark.parametrize(
    ("arguments", "expected"), [('{"a":1}', '{"a":1}'), ({"a": 1}, '{"a":1}'), ("", "{}"), (None, "{}")]
)
def test_tool_arguments_are_a_json_string(arguments: Any, expected: str, call: CallBuilder) -> None:
    tools = [{"function": {"name": "f", "arguments": arguments}}]
    choice = read(call("mistral"), answer({"content": None, "tool_calls": tools}))["choices"][0]
    expected_call = {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": expected}}
    assert choice["message"]["tool_calls"] == [expected_call]
    assert choice["finish_reason"] == "tool_calls"


def test_no_tool_calls_are_absent_rather_than_null(call: CallBuilder) -> None:
    nothing: Any
    for nothing in (None, []):
        message = read(call(), answer({"content": "a", "tool_calls": nothing}))["choices"][0]["message"]
        assert "tool_calls" not in message


@pytest.mark.parametrize(
    ("reason", "canonical", "native"),
    [
        ("length", "length", None),
        ("content_filter", "content_filter", None),
        ("model_length", "length", "model_length"),
        ("eos", "stop", "eos"),
        ("never_heard_of", "stop", "never_heard_of"),
    ],
)
def test_a_finish_reason_is_canonical_and_the_native_one_is_kept(
    reason: str, canonical: str, native: str | None, call: CallBuilder
) -> None:
    choice = read(call(), answer(finish_reason=reason))["choices"][0]
    assert (choice["finish_reason"], choice.get("native_finish_reason")) == (canonical, native)


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 3}}, (5, 7, 3, 0)),
        ({"prompt_tokens": 5, "completion_tokens": 7, "prompt_cache_hit_tokens": 3}, (5, 7, 3, 0)),
        ({"prompt_tokens": 5.0, "completion_tokens": None, "prompt_tokens_details": None}, (5, 0, 0, 0)),
        (USAGE | {"completion_tokens_details": {"reasoning_tokens": 4}}, (5, 7, 0, 4)),
        (USAGE | {"completion_tokens_details": {"reasoning_tokens": 4}, "total_tokens": 16}, (5, 11, 0, 4)),
    ],
)
def test_usage_is_canonical(usage: dict[str, Any], counts: tuple[int, int, int, int], call: CallBuilder) -> None:
    found = read(call(), answer(usage=usage))["usage"]
    assert counts == (
        found["prompt_tokens"],
        found["completion_tokens"],
        found["prompt_tokens_details"]["cached_tokens"],
        found["completion_tokens_details"]["reasoning_tokens"],
    )
    assert found["total_tokens"] == counts[0] + counts[1]


def test_the_cost_that_the_provider_reports_is_kept(call: CallBuilder) -> None:
    assert read(call("openrouter"), answer(usage=USAGE | {"cost": 0.0012}))["usage"]["cost"] == 0.0012


def test_an_answer_without_usage_has_no_usage(call: CallBuilder) -> None:
    assert "usage" not in read(call(), answer(usage=None))


def test_missing_identity_is_filled_in(call: CallBuilder) -> None:
    completion = read(call(), {"choices": answer()["choices"]})
    assert completion["id"].startswith("chatcmpl-")
    assert completion["created"] > 1_700_000_000


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"error": {"message": "boom", "code": 502}}, Code.PROVIDER_ERROR),
        ({"error": {"message": "x", "metadata": {"error_type": "rate_limit_exceeded"}}}, Code.PROVIDER_RATE_LIMITED),
        ({"object": "error", "message": "overlong maximum context length", "code": 400}, Code.CALLER_CONTEXT_TOO_LONG),
        (answer(finish_reason="error"), Code.PROVIDER_ERROR),
        (answer(finish_reason=None), Code.PROVIDER_MALFORMED),
        ({"choices": []}, Code.PROVIDER_MALFORMED),
        ({"choices": None}, Code.PROVIDER_MALFORMED),
        ({"choices": [None]}, Code.PROVIDER_MALFORMED),
        ({"choices": [{"message": None}]}, Code.PROVIDER_MALFORMED),
        (answer({"content": 7}), Code.PROVIDER_MALFORMED),
        (answer({"tool_calls": [{"function": {}}]}), Code.PROVIDER_MALFORMED),
        (b"<html>hello</html>", Code.PROVIDER_MALFORMED),
        (b"", Code.PROVIDER_MALFORMED),
        (b"hello", Code.PROVIDER_MALFORMED),
        (b"[1]", Code.PROVIDER_MALFORMED),
        (b"\xff\xfe{", Code.PROVIDER_MALFORMED),
        (b'{"choices": nope}', Code.PROVIDER_MALFORMED),
        (orjson.dumps(answer())[:-20], Code.PROVIDER_TRUNCATED),
        (b"{", Code.PROVIDER_TRUNCATED),
    ],
)
def test_a_200_that_is_no_answer_is_a_failed_attempt(body: Any, code: Code, call: CallBuilder) -> None:
    assert failed(call(), body).code is code


def test_the_key_in_an_error_of_a_200_is_masked(call: CallBuilder) -> None:
    failure = failed(call(secret="plain-secret"), {"error": {"message": "bad plain-secret"}})
    assert failure.message == "bad [secret]"


def event(value: Any) -> bytes:
    return b"data: " + (value if isinstance(value, bytes) else orjson.dumps(value)) + b"\n\n"


def chunk(delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    return event({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices} | more)


DONE = event(b"[DONE]")
USED = event({"id": "c1", "object": "x", "created": 1, "model": "m", "choices": [], "usage": USAGE})
TEXT = [
    b": OPENROUTER PROCESSING\n\n",
    chunk({"role": "assistant", "content": ""}, usage=None),
    chunk({"reasoning": "because"}),
    chunk({"content": "Hel"}),
    chunk({"content": "lo \u2028 \x85"}),
    chunk({}, "stop"),
    USED,
    DONE,
]
TOOLS = [
    chunk({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
    chunk({"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "g"}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"x"'}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}),
    chunk({}, "tool_calls"),
    DONE,
]


def stream(call: Call, *pieces: bytes) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    reader = AnswerReader(dialect_for(call.target.type), call)
    chunks = [chunk for piece in pieces for chunk in reader.feed(piece)]
    return chunks, reader.finish()


def stream_failed(call: Call, *pieces: bytes) -> AttemptFailure:
    with pytest.raises(AttemptError) as caught:
        stream(call, *pieces)
    return caught.value.failure


def test_a_stream_gives_its_chunks_and_the_whole_answer(call: CallBuilder) -> None:
    chunks, completion = stream(call(stream=True), *TEXT)
    assert len(chunks) == 6
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk["model"] for chunk in chunks} == {"author/name"}
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 12
    message = completion["choices"][0]["message"]
    assert message["content"] == "Hello \u2028 \x85"
    assert message["reasoning_content"] == "because"
    assert completion["choices"][0]["finish_reason"] == "stop"
    assert completion["usage"]["completion_tokens"] == 7
    assert completion["object"] == "chat.completion"
    assert (completion["id"], completion["model"]) == ("c1", "author/name")


def test_tool_calls_are_joined_from_their_fragments(call: CallBuilder) -> None:
    _, completion = stream(call(stream=True), *TOOLS)
    assert completion["choices"][0]["message"]["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    assert completion["choices"][0]["message"]["content"] is None


def test_several_choices_are_kept_apart(call: CallBuilder) -> None:
    parts = [{"index": n, "delta": {"content": str(n)}, "finish_reason": "stop"} for n in (1, 0)]
    _, completion = stream(call(stream=True), event({"choices": parts}), DONE)
    assert [choice["message"]["content"] for choice in completion["choices"]] == ["0", "1"]


def test_usage_on_the_last_choice_chunk_counts_as_well(call: CallBuilder) -> None:
    _, completion = stream(call("mistral", stream=True), chunk({"content": "a"}, "stop", usage=USAGE), DONE)
    assert completion["usage"]["total_tokens"] == 12


def test_usage_of_groq_is_found(call: CallBuilder) -> None:
    _, completion = stream(
        call("groq", stream=True), chunk({"content": "a"}, "stop", x_groq={"id": "r", "usage": USAGE}), DONE
    )
    assert completion["usage"]["total_tokens"] == 12


def test_the_filter_results_that_open_an_azure_stream_are_no_chunk(call: CallBuilder) -> None:
    opening = event({"id": "", "object": "", "model": "", "choices": [], "prompt_filter_results": []})
    chunks, completion = stream(call("azure", stream=True), opening, *TEXT)
    assert len(chunks) == 6
    assert completion["id"] == "c1"


def test_what_follows_the_end_marker_is_ignored(call: CallBuilder) -> None:
    _, completion = stream(call(stream=True), *TEXT, b"data: rubbish\n\n", event({"error": "late"}))
    assert completion["choices"][0]["finish_reason"] == "stop"


def test_an_end_marker_without_a_blank_line_is_enough(call: CallBuilder) -> None:
    _, completion = stream(call(stream=True), *TEXT[:-1], b"data: [DONE]")
    assert completion["choices"][0]["message"]["content"]


@given(st.data())
def test_any_chunking_of_the_bytes_gives_the_same_answer(data: st.DataObject) -> None:
    request = _call_for_hypothesis()
    whole = b"".join(data.draw(st.sampled_from([TEXT, TOOLS])))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=20)))
    edges = [0, *cuts, len(whole)]
    pieces = [whole[start:end] for start, end in pairwise(edges)]
    assert stream(request, *pieces) == stream(request, whole)


@pytest.mark.parametrize("kept", range(len(TEXT)))
def test_a_stream_cut_at_any_event_is_a_failure_and_never_a_short_answer(kept: int, call: CallBuilder) -> None:
    assert stream_failed(call(stream=True), *TEXT[:kept]).code is Code.PROVIDER_TRUNCATED


@pytest.mark.parametrize(
    ("pieces", "code"),
    [
        ([chunk({"content": "a"}), DONE], Code.PROVIDER_TRUNCATED),
        ([DONE], Code.PROVIDER_TRUNCATED),
        ([event({"error": {"message": "x", "code": 429}})], Code.PROVIDER_RATE_LIMITED),
        ([*TEXT[:4], event({"error": {"message": "x", "type": "server_error"}})], Code.PROVIDER_ERROR),
        ([b"event: error\n" + event({"message": "x"})], Code.PROVIDER_ERROR),
        ([chunk({}, "error", error={"message": "x", "code": 503})], Code.PROVIDER_OVERLOADED),
        ([chunk({}, "error")], Code.PROVIDER_ERROR),
        ([b"data: {broken\n\n"], Code.PROVIDER_MALFORMED),
        ([b"data: 7\n\n"], Code.PROVIDER_MALFORMED),
        ([event({"choices": [3]})], Code.PROVIDER_MALFORMED),
        ([chunk({"tool_calls": [3]})], Code.PROVIDER_MALFORMED),
        ([b"<html>hello</html>"], Code.PROVIDER_MALFORMED),
        ([orjson.dumps({"error": {"message": "x", "code": 503}})], Code.PROVIDER_OVERLOADED),
        ([b""], Code.PROVIDER_TRUNCATED),
    ],
)
def test_a_stream_that_is_no_answer_is_a_failed_attempt(pieces: list[bytes], code: Code, call: CallBuilder) -> None:
    assert stream_failed(call(stream=True), *pieces).code is code


def _call_for_hypothesis() -> Call:
    target = Target("openai", "openai", "https://x", "m", "author/name", {}, {}, None, {})
    return Call({"messages": []}, target, "", {}, True)


WORDS = "choices message delta content tool_calls function name error finish_reason index id"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(WORDS.split()),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(st.dictionaries(st.sampled_from(["choices", "error", "usage", "x_groq"]), JSON, max_size=3))
def test_only_an_attempt_error_leaves_the_readers(value: dict[str, Any]) -> None:
    request = _call_for_hypothesis()
    for reading in (lambda: read(request, value), lambda: stream(request, event(value), DONE)):
        try:
            completion = reading()
        except AttemptError:
            continue
        assert completion
