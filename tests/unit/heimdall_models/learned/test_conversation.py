import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_models.conversation import SCAN_CHARS, Conversation, read_conversation

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
MESSAGES = st.lists(
    st.fixed_dictionaries({}, optional={"role": JSON, "content": JSON, "tool_calls": JSON, "name": JSON}), max_size=6
)


def user(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


@given(st.fixed_dictionaries({"messages": MESSAGES | JSON}, optional={"tools": JSON, "response_format": JSON}))
def test_no_body_makes_the_reader_raise(body: dict[str, Any]) -> None:
    assert isinstance(read_conversation(body), Conversation)


def test_string_content_and_a_part_list_of_the_same_text_are_the_same_conversation() -> None:
    assert read_conversation(user("hello")) == read_conversation(user([{"type": "text", "text": "hello"}]))


def test_an_image_is_counted_and_its_data_is_not_scanned() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    found = read_conversation(user([{"type": "text", "text": "what is this?"}, image]))
    assert (found.text, found.image_count, found.user_chars) == ("what is this?", 1, len("what is this?"))


@pytest.mark.parametrize("kind", ["image_url", "input_image", "image"])
def test_an_image_with_an_empty_text_beside_it_is_an_image(kind: str) -> None:
    question = {"type": "text", "text": "what is this?"}
    assert read_conversation(user([question, {"type": kind, "text": ""}])) == read_conversation(
        user([question, {"type": kind}])
    )


def test_the_last_user_turn_is_what_is_scanned() -> None:
    body = {
        "messages": [
            {"role": "system", "content": "You are terse."},
            {"role": "user", "content": "x" * 100},
            {"role": "assistant", "content": "y" * 50},
            {"role": "user", "content": "z" * 80},
        ]
    }
    found = read_conversation(body)
    assert found.text == "z" * 80
    assert (found.user_turns, found.assistant_turns, found.system_chars) == (2, 1, len("You are terse."))


def test_a_short_follow_up_is_scanned_with_the_turn_before_it() -> None:
    body = {"messages": [{"role": "user", "content": "Prove the theorem."}, {"role": "user", "content": "why?"}]}
    assert read_conversation(body).text == "Prove the theorem.\nwhy?"


def test_without_a_user_turn_the_last_text_is_scanned() -> None:
    assert read_conversation({"messages": [{"role": "system", "content": "Say hi."}]}).text == "Say hi."


def test_tools_calls_and_structured_output_are_counted() -> None:
    body = user("weather?") | {
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
        "response_format": {"type": "json_schema"},
        "max_completion_tokens": 50,
    }
    body["messages"].append({"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "weather"}}]})
    found = read_conversation(body)
    assert (found.tool_definition_count, found.tool_call_count, found.max_tokens) == (1, 1, 50)
    assert found.structured_output
    assert found.tool_definition_chars > 50


def test_a_long_text_is_clipped_to_head_and_tail_and_says_so() -> None:
    found = read_conversation(user("a" * 9000 + "b" * 9000))
    assert found.text == "a" * SCAN_CHARS + "b" * SCAN_CHARS
    assert found.truncated
    assert found.ask_chars == 18_000


@pytest.mark.parametrize(
    "body",
    [
        user("x" * 10_000_000),
        {"messages": [{"role": "user", "content": "x"}] * 100_000},
        user([{"type": "text", "text": "x"}] * 100_000),
        user("x") | {"tools": [{"a": ["b"] * 100_000}]},
    ],
    ids=["ten megabytes", "many messages", "many parts", "huge tool"],
)
def test_a_huge_body_takes_bounded_time(body: dict[str, Any]) -> None:
    started = time.process_time()
    read_conversation(body)
    assert time.process_time() - started < 0.25


def test_sizes_of_parts_that_were_not_walked_are_extrapolated() -> None:
    found = read_conversation(user([{"type": "text", "text": "abcd"}, {"type": "image_url"}] * 50_000))
    assert found.truncated
    assert (found.user_chars, found.image_count) == (200_000, 50_000)


def test_sizes_of_messages_that_were_not_walked_are_extrapolated() -> None:
    found = read_conversation({"messages": [{"role": "user", "content": "abcd"}] * 100_000})
    assert found.truncated
    assert found.user_chars == 400_000
    assert found.message_count == 100_000
