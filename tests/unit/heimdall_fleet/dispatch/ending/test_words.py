from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.dispatch.ending.words import WITHHELD, kept

PROMPT = "Please summarise the letter of Mrs Ann Example about her lost umbrella."


def asked(*contents: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content} for content in contents]}


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens is too large: 9000; at most 4096",
        "messages[0].content: Input should be a valid string",
        "This model's maximum context length is 8192 tokens",
        "",
    ],
)
def test_a_message_of_the_providers_own_is_kept(message: str) -> None:
    assert kept(message, asked(PROMPT, "hi", [{"type": "text", "text": "And now?"}, {"type": "image_url"}])) == message


@given(st.integers(0, len(PROMPT) - 19), st.integers(0, 30))
def test_a_message_with_nineteen_characters_of_the_prompt_is_withheld_wherever_they_stand(at: int, before: int) -> None:
    message = "x" * before + PROMPT[at : at + 19] + " is invalid"
    assert kept(message, asked(PROMPT)) == WITHHELD


def test_a_short_prompt_is_withheld_as_a_whole_also_from_a_list_of_parts() -> None:
    assert kept("invalid value: 'my name'", asked("my name")) == WITHHELD
    assert kept("invalid value: 'my name'", asked([{"type": "text", "text": "my name"}])) == WITHHELD


def test_of_a_long_conversation_both_ends_are_looked_at() -> None:
    long = PROMPT + "z" * 1_000_000 + "the end of it all, my friend"
    assert kept(f"cannot read {PROMPT}", asked(long)) == WITHHELD
    assert kept("cannot read the end of it all, my friend", asked(long)) == WITHHELD


@pytest.mark.parametrize("messages", [None, "text", [5], [{"content": None}], [{"content": [7]}]])
def test_a_body_of_another_shape_is_no_reason_to_fail(messages: Any) -> None:
    assert kept("the body is wrong", {"messages": messages}) == "the body is wrong"
