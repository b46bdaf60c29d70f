from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from heimdall_schemas.codec import Limits
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.request import AUTO, NO_OPTIONS, Lane, Options, Request, deadline_ms, read_request

HELLO = [{"role": "user", "content": "Hello!"}]
SECRET = "the-secret-prompt"


def read(**body: Any) -> Request:
    options, plain = read_request(orjson.dumps({"messages": HELLO, **body}))
    request = Request.model_validate(plain)
    assert request.heimdall == options
    return request


def refusal(**body: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        read(**body)
    return caught.value


def outcome(messages: Any) -> FailureCode | None:
    try:
        read(messages=messages)
    except Failure as failure:
        return failure.code
    return None


def test_messages_alone_are_a_request_for_routing() -> None:
    request = read()
    assert (request.model, request.heimdall.lane, request.max_output_tokens) == (AUTO, Lane.STANDARD, None)


def test_null_is_what_was_not_set() -> None:
    """Serializers of many languages write it for every field that their caller left alone."""
    unset = dict.fromkeys(Options.model_fields)
    assert read(heimdall=None).heimdall == NO_OPTIONS
    assert read(heimdall=unset).heimdall == NO_OPTIONS
    assert read(heimdall={**unset, "lane": "batch"}).heimdall == Options(lane=Lane.BATCH)


def test_unknown_fields_of_the_body_are_kept_and_the_plain_body_is_given_back() -> None:
    value = {"messages": [{"role": "user", "content": "Hi", "name": "ada"}], "seed": 3, "x_new": {"deep": [1]}}
    options, body = read_request(orjson.dumps(value))
    assert (options, body) == (NO_OPTIONS, value)
    assert Request.model_validate(body).model_extra == {"seed": 3, "x_new": {"deep": [1]}}


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "input_video", "video": {"id": 1}}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": {}}]},
        {"role": "tool", "tool_call_id": "c", "content": "{}"},
        {"role": "developer", "content": ""},
    ],
)
def test_the_kinds_of_turns_that_producers_send_are_read(message: dict[str, Any]) -> None:
    assert read(messages=[message]).messages[0].role == message["role"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": SECRET}, "messages"),
        ({"messages": [SECRET]}, "messages[0]"),
        ({"messages": [{"role": SECRET, "content": SECRET}]}, "messages[0].role"),
        ({"messages": [{"content": SECRET}]}, "messages[0].role"),
        ({"messages": [*HELLO, {"role": "user", "content": {"text": SECRET}}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": [{"text": SECRET}]}]}, "type"),
        ({"model": ""}, "model"),
        ({"model": 7}, "model"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "100"}, "max_tokens"),
        ({"stream": "true"}, "stream"),
        ({"max_completion_tokens": True}, "max_completion_tokens"),
        ({"temperature": "0.5"}, "temperature"),
        ({"top_p": "1"}, "top_p"),
        ({"tools": SECRET}, "tools"),
        ({"stream": SECRET}, "stream"),
        ({"heimdall": {"tennant": SECRET}}, "heimdall.tennant"),
        ({"heimdall": {"alpha": 1.5}}, "heimdall.alpha"),
        ({"heimdall": {"lane": SECRET}}, "heimdall.lane"),
        ({"heimdall": {"deadline": "2026-11-21T12:00:00"}}, "heimdall.deadline"),
        ({"heimdall": {"deadline": SECRET}}, "heimdall.deadline"),
        ({"heimdall": {"deadline": "2026-11-21T12:00:00Z", "ttl_ms": 5}}, "deadline and ttl_ms"),
        ({"heimdall": {"ttl_ms": 0}}, "heimdall.ttl_ms"),
        ({"heimdall": {"deadline": 30}}, "heimdall.deadline: must be a time with its zone"),
        ({"heimdall": {"deadline": "1764000000"}}, "heimdall.deadline: must be a time with its zone"),
        ({"heimdall": {"ttl_ms": True}}, "heimdall.ttl_ms"),
        ({"heimdall": {"ttl_ms": "5000"}}, "heimdall.ttl_ms"),
        ({"heimdall": {"alpha": True}}, "heimdall.alpha"),
        ({"heimdall": {"alpha": "0.5"}}, "heimdall.alpha"),
        ({"heimdall": {"max_cost_usd": "0.5"}}, "heimdall.max_cost_usd"),
        ({"heimdall": {"cache": "no"}}, "heimdall.cache"),
        ({"heimdall": {"candidates": []}}, "heimdall.candidates"),
        ({"heimdall": {"request_id": SECRET + " "}}, "heimdall.request_id"),
        ({"heimdall": []}, "heimdall"),
    ],
)
def test_a_refusal_names_the_field_and_never_repeats_what_stood_there(body: dict[str, Any], named: str) -> None:
    failure = refusal(**body)
    assert failure.code is FailureCode.CALLER_BAD_REQUEST
    assert named in failure.message
    assert SECRET not in failure.message
    assert SECRET not in str(failure.as_error())


def test_whole_numbers_stand_for_fractions_and_the_other_way_round() -> None:
    options = read(heimdall={"alpha": 0, "max_cost_usd": 2, "ttl_ms": 5000.0}).heimdall
    assert (options.alpha, options.max_cost_usd, options.ttl_ms) == (0.0, 2.0, 5000)


def test_a_refusal_speaks_of_the_body_and_not_of_our_classes() -> None:
    message = refusal(messages=[{"role": "user", "content": [{"text": "Hi"}]}], tool_choice=7).message
    assert "messages[0].content: Input should be a valid string" in message
    assert "messages[0].content[0].type: is required" in message
    assert "tool_choice: must be an object" in message


def test_a_refusal_names_at_most_eight_faults() -> None:
    message = refusal(messages=[{"role": "robot"}] * 20).message
    assert message.count("role: Input") == 8
    assert message.endswith("and 12 more")


def test_too_many_messages_are_refused_before_each_is_looked_at() -> None:
    with pytest.raises(Failure) as caught:
        read_request(orjson.dumps({"messages": [None] * 4}), Limits(max_messages=3))
    assert caught.value.code is FailureCode.CALLER_TOO_LARGE
    assert "limits.max_messages" in caught.value.message


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "heimdall"]), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_any_json_in_the_place_of_messages_is_read_or_refused(value: Any) -> None:
    assert outcome(value) in (None, FailureCode.CALLER_BAD_REQUEST)


SINGLE: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(-1, 3)
    | st.sampled_from(["", "auto", "user", "x" * 257])
    | st.just([])
    | st.just({})
)
TURN = st.fixed_dictionaries({}, optional={"role": SINGLE, "content": SINGLE, "name": SINGLE, "tool_calls": SINGLE})
ASKED = st.fixed_dictionaries({}, optional={"tenant": SINGLE, "lane": SINGLE, "ttl_ms": SINGLE, "alpha": SINGLE})
DECLARED = {name: SINGLE | st.none() for name in Request.model_fields if name not in ("messages", "heimdall")} | {
    "heimdall": SINGLE | ASKED,
    "unheard_of": SINGLE,
}
BODIES = st.fixed_dictionaries(
    {"messages": st.just(HELLO) | SINGLE | st.lists(st.sampled_from(HELLO) | TURN, max_size=3)}, optional=DECLARED
)


@given(BODIES)
def test_what_is_read_and_what_is_refused_is_what_the_schema_says(body: dict[str, Any]) -> None:
    try:
        expected = Request.model_validate(body).heimdall
    except ValidationError:
        with pytest.raises(Failure):
            read_request(orjson.dumps(body))
        return
    assert read_request(orjson.dumps(body)) == (expected, body)


def test_a_plain_body_is_refused_where_it_is_nested_deeper_than_is_allowed() -> None:
    plain = orjson.dumps({"messages": HELLO})
    assert read_request(plain, Limits(max_depth=3))
    with pytest.raises(Failure) as caught:
        read_request(plain, Limits(max_depth=2))
    assert "limits.max_json_depth" in caught.value.message


def test_what_is_nested_too_deep_is_too_large_wherever_it_stands() -> None:
    for value in (b'{"messages":[{"role":"user","content":"a"}],"x":' + b"[" * 70 + b"]" * 70 + b"}", b"[" * 2000):
        with pytest.raises(Failure) as caught:
            read_request(value)
        assert caught.value.code is FailureCode.CALLER_TOO_LARGE


@pytest.mark.parametrize(
    ("options", "header_ms", "expected"),
    [
        ({"deadline": "1970-01-01T00:00:09Z"}, 5, 9000),
        ({"deadline": "1970-01-01T01:00:09.250+01:00"}, None, 9250),
        ({"ttl_ms": 40}, 5, 1040),
        ({}, 5, 5),
        ({}, None, 1700),
    ],
)
def test_the_bodys_word_goes_before_the_headers_and_that_before_the_default(
    options: dict[str, Any], header_ms: int | None, expected: int
) -> None:
    assert deadline_ms(Options(**options), 1000, header_ms, 700) == expected


def test_the_newer_name_for_the_output_limit_goes_first() -> None:
    assert read(max_tokens=5, max_completion_tokens=9).max_output_tokens == 9
    assert read(max_tokens=5).max_output_tokens == 5


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"heimdall": {"dedline": "x"}}, "heimdall.dedline", "did you mean deadline?"),
        ({"heimdall": []}, "heimdall", "heimdall: must be an object"),
        ({"messages": [3]}, "messages[0]", "messages[0]: must be an object"),
        ({"heimdall": {"webhook": "x"}}, "heimdall.webhook", "take it out"),
        ({"heimdall": {"deadline": "2026-11-23T01:00:00"}}, "heimdall.deadline", "needs its zone"),
        ({"heimdall": {"deadline": "2026-11-23T01:00:00Z", "ttl_ms": 5}}, "heimdall", ": deadline and ttl_ms are both"),
        ({"messages": None}, "messages", "messages: "),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "is required"),
    ],
)
def test_a_refusal_names_the_field_at_fault_and_says_how_to_mend_it(body: Any, param: str, words: str) -> None:
    failure = refusal(**body)
    assert failure.as_error()["param"] == param
    assert words in failure.message
