"""One whole answer in the place of a stream; what a stream holds is in the tests of each dialect."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import orjson
import pytest

from heimdall_fleet.providers.answer_reader import AnswerReader, chunk_of
from heimdall_fleet.providers.assembly import Assembly
from heimdall_fleet.providers.dialect import AttemptError, Call
from heimdall_fleet.providers.registry import dialect_for
from heimdall_schemas.failure import FailureCode as Code

CallBuilder = Callable[..., Call]
TOOL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
MESSAGES: list[dict[str, Any]] = [
    {"content": "Hello"},
    {"content": None, "tool_calls": [TOOL, TOOL | {"id": "b"}]},
    {"content": "42", "reasoning_content": "hm"},
]


def whole(*messages: dict[str, Any]) -> bytes:
    choices = [
        {"index": index, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
        for index, message in enumerate(messages)
    ]
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    return orjson.dumps({"id": "c1", "created": 1, "model": "there", "choices": choices, "usage": usage})


def reader_of(call: Call) -> AnswerReader:
    return AnswerReader(dialect_for(call.target.type), call)


@pytest.mark.parametrize("before", [b"", b"\n", b" \r\n\t"])
@pytest.mark.parametrize("cuts", [(), (1,), (2, 3, 4, 40)])
def test_one_json_object_is_the_answer_in_any_pieces(before: bytes, cuts: tuple[int, ...], call: CallBuilder) -> None:
    request, body = call(stream=True), before + whole(MESSAGES[0])
    reader = reader_of(request)
    assert [reader.feed(body[start:end]) for start, end in pairwise((0, *cuts, len(body)))] == [[]] * (len(cuts) + 1)
    assert reader.whole
    assert reader.finish() == dialect_for("openai").from_wire(body, request)


def test_a_stream_is_none_though_its_first_lines_are_empty(call: CallBuilder) -> None:
    part = {"id": "c", "created": 1, "choices": [{"index": 0, "delta": {"content": "{"}, "finish_reason": "stop"}]}
    reader = reader_of(call(stream=True))
    assert reader.feed(b"\n\r\n") == []
    assert reader.feed(b"data: %b\n\n" % orjson.dumps(part))
    reader.feed(b"data: [DONE]\n\n")
    assert not reader.whole
    assert reader.finish()["choices"][0]["message"]["content"] == "{"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", Code.PROVIDER_TRUNCATED),
        (b" \n", Code.PROVIDER_TRUNCATED),
        (whole(MESSAGES[0])[:-3], Code.PROVIDER_TRUNCATED),
        (b"<html>busy</html>", Code.PROVIDER_MALFORMED),
        (b"{}", Code.PROVIDER_MALFORMED),
        (whole(MESSAGES[0]) + b"\n{}", Code.PROVIDER_MALFORMED),
        (b'{"error": {"message": "x", "code": 503}}', Code.PROVIDER_OVERLOADED),
        (b'[{"error": {"message": "x", "code": 503}}]', Code.PROVIDER_OVERLOADED),
    ],
)
def test_half_a_body_an_error_and_a_page_are_no_answer(body: bytes, code: Code, call: CallBuilder) -> None:
    reader = reader_of(call(stream=True))
    reader.feed(body)
    with pytest.raises(AttemptError) as caught:
        reader.finish()
    assert caught.value.failure.code is code


@pytest.mark.parametrize("messages", [[message] for message in MESSAGES] + [MESSAGES], ids=repr)
def test_the_chunk_of_a_whole_answer_says_all_of_it(messages: list[dict[str, Any]], call: CallBuilder) -> None:
    answer = dialect_for("openai").from_wire(whole(*messages), call())
    chunk = chunk_of(answer)
    assert chunk["object"] == "chat.completion.chunk"
    assert all(value is not None for choice in chunk["choices"] for value in choice["delta"].values())
    assembly = Assembly()
    assembly.add(chunk)
    assert assembly.completion() == answer
