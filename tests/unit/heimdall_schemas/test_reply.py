from typing import Any

import orjson
import pytest

from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.reply import ErrorReply, Reply, ReplyChunk, read_reply

FACTS = {"request_id": "r", "state": "answered"}


def completion(**more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "Hi"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "a/b", "choices": [choice]}
    return {**whole, "heimdall": FACTS, **more}


def test_an_answer_an_error_and_a_chunk_are_told_apart() -> None:
    chunk_facts = {"request_id": "r", "sequence": 0, "final": False}
    chunk = completion(object="chat.completion.chunk", choices=[{"delta": {}}], heimdall=chunk_facts)
    error = {"error": Failure(FailureCode.POLICY_BUDGET, "no").as_error(), "heimdall": {**FACTS, "state": "failed"}}
    kinds = [type(read_reply(orjson.dumps(body))) for body in (completion(), completion(error=None), chunk, error)]
    assert kinds == [Reply, Reply, ReplyChunk, ErrorReply]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "Hi"}, "Hi"),
        ({"content": None, "tool_calls": []}, ""),
        ({}, ""),
    ],
)
def test_the_text_of_a_reply_is_what_its_first_choice_says(message: dict[str, Any], text: str) -> None:
    choice = {"index": 0, "message": message, "finish_reason": None}
    reply = read_reply(orjson.dumps(completion(choices=[choice])))
    assert isinstance(reply, Reply)
    assert reply.text == text


def test_a_reply_without_choices_has_no_text() -> None:
    reply = read_reply(orjson.dumps(completion(choices=[])))
    assert isinstance(reply, Reply)
    assert reply.text == ""


@pytest.mark.parametrize(
    ("choices", "text"),
    [
        ([{"index": 0, "delta": {"content": "Hi"}}], "Hi"),
        ([{"index": 1, "delta": {"content": "second"}}], ""),
        ([{"index": 1, "delta": {"content": "second"}}, {"index": 0, "delta": {"content": "first"}}], "first"),
        ([{"index": 0, "delta": {"content": None, "tool_calls": []}}], ""),
        ([{"index": 0, "delta": None}], ""),
        ([], ""),
    ],
)
def test_the_text_of_a_chunk_is_what_it_adds_to_the_first_choice(choices: list[dict[str, Any]], text: str) -> None:
    facts = {"request_id": "r", "sequence": 0, "final": False}
    chunk = read_reply(orjson.dumps(completion(object="chat.completion.chunk", choices=choices, heimdall=facts)))
    assert isinstance(chunk, ReplyChunk)
    assert chunk.text == text


@pytest.mark.parametrize(
    "value", [None, b"", b"[]", b"7", b"{", b"{}", b'{"error": 3}', b'{"object": "chat.completion"}']
)
def test_a_record_that_is_no_reply_is_named_as_such(value: bytes | None) -> None:
    with pytest.raises(Failure, match="no reply") as caught:
        read_reply(value)
    assert caught.value.code is FailureCode.HEIMDALL_INTERNAL
