"""The canonical body in the words of Anthropic's Messages API."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import orjson
import pytest

from heimdall_fleet.providers.dialect import Action, AttemptError, Call
from heimdall_fleet.providers.registry import dialect_for
from heimdall_schemas.failure import FailureCode as Code

CallBuilder = Callable[..., Call]
PIXEL = "data:image/png;base64,aGk="
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
OLD, BUDGET, ADAPTIVE, NEWEST = "claude-3-5-sonnet-20241022", "claude-haiku-4-5", "claude-sonnet-4-6", "claude-opus-5-5"


def wire(call: Call) -> tuple[dict[str, Any], tuple[str, ...]]:
    request = dialect_for("anthropic").to_wire(call)
    return orjson.loads(request.body), request.dropped


def sent(call: Call) -> dict[str, Any]:
    return wire(call)[0]


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def test_a_plain_body(call: CallBuilder) -> None:
    body = sent(call("anthropic", {"heimdall": {"tenant": "t"}}, model=OLD))
    assert body == {"model": OLD, "max_tokens": 4096, "messages": [user(text("hi"))]}


@pytest.mark.parametrize(
    ("body", "target", "expected"),
    [
        ({}, {}, 4096),
        ({}, {"max_output": 8192}, 8192),
        ({}, {"max_output": 8192, "usual_output": 4000}, 4000),
        ({"max_tokens": 6000}, {"max_output": 8192, "usual_output": 4000}, 6000),
        ({"max_tokens": 6000}, {"usual_output": 4000}, 6000),
        ({"max_tokens": 100}, {"max_output": 8192}, 100),
        ({"max_completion_tokens": 200, "max_tokens": 100}, {}, 200),
        ({"max_tokens": 9000}, {"max_output": 4096}, 4096),
    ],
)
def test_max_tokens_is_always_sent(
    body: dict[str, Any], target: dict[str, int], expected: int, call: CallBuilder
) -> None:
    assert sent(call("anthropic", body, **target))["max_tokens"] == expected


CONVERSATIONS: list[tuple[list[dict[str, Any]], list[str], list[tuple[str, list[str]]]]] = [
    (
        [
            {"role": "system", "content": "a"},
            {"role": "developer", "content": [text("b"), text(" ")]},
            {"role": "user", "content": "c"},
        ],
        ["a", "b"],
        [("user", ["c"])],
    ),
    (
        [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}, {"role": "user", "content": "c"}],
        [],
        [("user", ["a", "b", "c"])],
    ),
    (
        [
            {"role": "user", "content": "a", "name": "bob"},
            {"role": "assistant", "content": ""},
            {"role": "assistant", "content": "b"},
            {"role": "assistant", "content": "c  "},
        ],
        [],
        [("user", ["a"]), ("assistant", ["b", "c"])],
    ),
    ([{"role": "system", "content": "a"}], [], [("user", ["a"])]),
    ([{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}], [], [("user", ["(no message)"])]),
    ([{"role": "user", "content": " "}], [], [("user", ["(no message)"])]),
]


@pytest.mark.parametrize(("messages", "system", "turns"), CONVERSATIONS)
def test_system_stands_apart_and_roles_alternate(
    messages: list[dict[str, Any]], system: list[str], turns: list[tuple[str, list[str]]], call: CallBuilder
) -> None:
    body = sent(call("anthropic", {"messages": messages}, model=OLD))
    assert [block["text"] for block in body.get("system", [])] == system
    found = [(turn["role"], [block["text"] for block in turn["content"]]) for turn in body["messages"]]
    assert found[: len(turns)] == turns
    assert all(first[0] != second[0] for first, second in pairwise(found))


def test_all_results_of_tools_come_first_in_one_user_turn(call: CallBuilder) -> None:
    messages = [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
                {"id": "b b", "type": "function", "function": {"name": "g.h", "arguments": ""}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "user", "content": "quick"},
        {"role": "tool", "tool_call_id": "b b", "content": [text("2")]},
    ]
    _, calls, results = sent(call("anthropic", {"messages": messages}))["messages"]
    first, second = calls["content"]
    assert first == {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}
    assert second["input"] == {}
    assert second["name"].startswith("g_h_")
    assert results["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": [text("1")]},
        {"type": "tool_result", "tool_use_id": second["id"], "content": [text("2")]},
        text("quick"),
    ]


def test_signed_reasoning_goes_back_first_and_foreign_reasoning_does_not(call: CallBuilder) -> None:
    details = [
        {"type": "reasoning.text", "text": "hm", "signature": "s", "format": "anthropic-claude-v1"},
        {"type": "reasoning.encrypted", "data": "d", "format": "anthropic-claude-v1"},
        {"type": "reasoning.encrypted", "data": "other", "format": "google-gemini-v1"},
    ]
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "a", "reasoning_details": details, "reasoning_content": "hm"},
        {"role": "user", "content": "b"},
    ]
    assert sent(call("anthropic", {"messages": messages}))["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        text("a"),
    ]


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            {"type": "image_url", "image_url": {"url": PIXEL}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://x.test/a.png", "detail": "low"}},
            {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}},
        ),
        (
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"}},
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="},
                "title": "a.pdf",
            },
        ),
        (
            {"type": "file", "file": {"file_data": "aGk=", "filename": "a.txt"}},
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "hi"},
                "title": "a.txt",
            },
        ),
        (
            {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
            {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        ),
        (
            {"type": "text", "text": "a", "prompt_cache_breakpoint": True},
            {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
        ),
    ],
)
def test_content_parts(part: dict[str, Any], block: dict[str, Any], call: CallBuilder) -> None:
    assert sent(call("anthropic", {"messages": [user(part)]}))["messages"] == [user(block)]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "image_url", "image_url": {"url": "data:image/tiff;base64,aGk="}},
        {"type": "hologram"},
    ],
)
def test_what_cannot_be_sent_goes_to_another_provider_rather_than_missing(
    part: dict[str, Any], call: CallBuilder
) -> None:
    with pytest.raises(AttemptError) as caught:
        sent(call("anthropic", {"messages": [user(part)]}))
    failure = caught.value.failure
    assert (failure.code, failure.action, failure.connection_only) == (
        Code.PROVIDER_REJECTED,
        Action.OTHER_PROVIDER,
        True,
    )


def test_a_broken_data_url_is_the_callers_fault(call: CallBuilder) -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,%%%"}}
    with pytest.raises(AttemptError) as caught:
        sent(call("anthropic", {"messages": [user(part)]}))
    assert caught.value.failure.code is Code.CALLER_BAD_REQUEST


@pytest.mark.parametrize(
    ("more", "choice"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, {"type": "tool", "name": "f"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        (
            {"parallel_tool_calls": False, "tool_choice": "required"},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
    ],
)
def test_the_choice_of_tools(more: dict[str, Any], choice: dict[str, Any] | None, call: CallBuilder) -> None:
    body = sent(call("anthropic", {"tools": [TOOL], **more}))
    assert body["tools"] == [{"name": "f", "input_schema": {"type": "object", "properties": {}}}]
    assert body.get("tool_choice") == choice


def test_allowed_tools_filter_the_tools(call: CallBuilder) -> None:
    other = {"type": "function", "function": {"name": "g", "strict": True, "description": "d"}}
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]}
    body = sent(
        call(
            "anthropic",
            {"tools": [TOOL, other], "tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}},
        )
    )
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    assert body["tools"] == [{"name": "g", "description": "d", "strict": True, "input_schema": schema}]
    assert body["tool_choice"] == {"type": "any"}


def test_no_tools_are_omitted_and_foreign_ones_named(call: CallBuilder) -> None:
    body, dropped = wire(call("anthropic", {"tools": [{"type": "web_search"}], "tool_choice": "auto"}))
    assert "tools" not in body
    assert "tool_choice" not in body
    assert dropped == ("tools.web_search",)


def test_a_model_that_refuses_forced_tools_is_asked_politely(call: CallBuilder) -> None:
    request = call("anthropic", {"tools": [TOOL], "tool_choice": "required"}, facts={"forced_tools": False})
    body, dropped = wire(request)
    assert "tool_choice" not in body
    assert dropped == ("tool_choice",)


@pytest.mark.parametrize(
    ("model", "body", "kept", "dropped"),
    [
        (BUDGET, {"temperature": 1.7}, {"temperature": 1}, ()),
        (BUDGET, {"temperature": 0.2, "top_p": 0.5}, {"temperature": 0.2}, ("top_p",)),
        (BUDGET, {"top_p": 0.5, "top_k": 3}, {"top_p": 0.5, "top_k": 3}, ()),
        (NEWEST, {"temperature": 0.2, "top_p": 0.5, "top_k": 3}, {}, ("temperature", "top_k", "top_p")),
        (NEWEST, {"temperature": 1}, {}, ()),
        (BUDGET, {"stop": "x"}, {"stop_sequences": ["x"]}, ()),
        (BUDGET, {"stop": ["x", " ", "\n"]}, {"stop_sequences": ["x"]}, ()),
        (BUDGET, {"user": "u"}, {"metadata": {"user_id": "u"}}, ()),
        (BUDGET, {"user": "u", "safety_identifier": "s"}, {"metadata": {"user_id": "s"}}, ()),
        (BUDGET, {"service_tier": "auto"}, {"service_tier": "auto"}, ()),
        (BUDGET, {"service_tier": "flex"}, {}, ("service_tier",)),
        (
            BUDGET,
            {"n": 2, "seed": 1, "logprobs": True, "presence_penalty": 0.1, "brand_new": 1},
            {},
            ("brand_new", "logprobs", "n", "presence_penalty", "seed"),
        ),
        (BUDGET, {"n": 1, "presence_penalty": 0, "logprobs": False, "response_format": {"type": "text"}}, {}, ()),
    ],
)
def test_parameters_are_mapped_or_dropped_by_name(
    model: str, body: dict[str, Any], kept: dict[str, Any], dropped: tuple[str, ...], call: CallBuilder
) -> None:
    found, named = wire(call("anthropic", body, model=model))
    assert {name: value for name, value in found.items() if name not in ("model", "max_tokens", "messages")} == kept
    assert named == dropped


BUCKET = {"reasoning_effort": "high", "thinking_budget": 30000}
ENABLED = {"type": "enabled"}


@pytest.mark.parametrize(
    ("model", "body", "expected", "dropped"),
    [
        (BUDGET, {}, {"thinking": {"type": "enabled", "budget_tokens": 30000}}, ()),
        (BUDGET, {"max_tokens": 2000}, {"thinking": {"type": "enabled", "budget_tokens": 1999}}, ()),
        (BUDGET, {"max_tokens": 1000}, {}, ()),
        (BUDGET, {"max_tokens": 1000, "reasoning_effort": "low"}, {}, ("reasoning_effort",)),
        (BUDGET, {"reasoning_effort": "minimal"}, {"thinking": {"type": "enabled", "budget_tokens": 1024}}, ()),
        (BUDGET, {"reasoning_effort": "medium"}, {"thinking": {"type": "enabled", "budget_tokens": 2048}}, ()),
        (BUDGET, {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}, ()),
        (BUDGET, {"reasoning": {"max_tokens": 5000}}, {"thinking": {"type": "enabled", "budget_tokens": 5000}}, ()),
        (BUDGET, {"temperature": 0.1}, {"thinking": {"type": "enabled", "budget_tokens": 30000}}, ("temperature",)),
        (BUDGET, {"tools": [TOOL], "tool_choice": "required"}, {}, ()),
        (OLD, {}, {}, ()),
        (OLD, {"reasoning_effort": "low"}, {}, ("reasoning_effort",)),
        (ADAPTIVE, {}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}, ()),
        (
            ADAPTIVE,
            {"reasoning_effort": "minimal"},
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
            (),
        ),
        (
            NEWEST,
            {"thinking": {"type": "enabled", "budget_tokens": 9000}},
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}},
            (),
        ),
        (NEWEST, {"tools": [TOOL], "tool_choice": "required"}, {"output_config": {"effort": "high"}}, ()),
    ],
)
def test_reasoning_is_the_callers_word_else_the_buckets(
    model: str, body: dict[str, Any], expected: dict[str, Any], dropped: tuple[str, ...], call: CallBuilder
) -> None:
    request = call(
        "anthropic", body, model=model, max_output=64000, settings=BUCKET, facts={"reasoning": model != OLD or None}
    )
    found, named = wire(request)
    assert {name: found[name] for name in ("thinking", "output_config") if name in found} == expected
    assert named == dropped


def test_the_bucket_says_nothing_to_a_model_that_is_not_known_to_reason(call: CallBuilder) -> None:
    assert "thinking" not in sent(call("anthropic", {}, model=BUDGET, settings=BUCKET))


def test_a_model_that_does_not_reason_names_the_effort_it_was_not_told(call: CallBuilder) -> None:
    request = call("anthropic", {"reasoning_effort": "high"}, model=BUDGET, facts={"reasoning": False})
    assert wire(request)[1] == ("reasoning_effort",)


def test_a_tool_loop_that_another_provider_began_goes_on_without_thinking(call: CallBuilder) -> None:
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]
    request = call("anthropic", {"messages": messages, "tools": [TOOL]}, model=BUDGET, settings=BUCKET)
    assert "thinking" not in sent(request)


SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 1}, "of": {"$ref": "#/$defs/thing"}},
    "$defs": {"thing": {"oneOf": [{"type": "string"}, {"type": "null"}]}},
}
WANTED = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}


def test_structured_output_is_native_where_the_model_has_it(call: CallBuilder) -> None:
    config = sent(call("anthropic", WANTED, model=BUDGET))["output_config"]
    assert config["format"] == {
        "type": "json_schema",
        "schema": {
            "type": "object",
            "properties": {
                "n": {"type": "integer", "description": "(minimum 1)"},
                "of": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            },
            "additionalProperties": False,
        },
    }


def test_an_older_model_is_forced_to_call_a_function_with_the_schema(call: CallBuilder) -> None:
    body = sent(call("anthropic", WANTED, model=OLD))
    assert body["tools"] == [{"name": "answer_in_json", "input_schema": SCHEMA}]
    assert body["tool_choice"] == {"type": "tool", "name": "answer_in_json"}


def test_beside_the_callers_tools_the_schema_is_said_in_words(call: CallBuilder) -> None:
    body = sent(call("anthropic", {**WANTED, "tools": [TOOL]}, model=OLD))
    assert [tool["name"] for tool in body["tools"]] == ["f"]
    assert "JSON Schema" in body["system"][0]["text"]


def test_any_json_object_is_asked_for_in_words(call: CallBuilder) -> None:
    body = sent(call("anthropic", {"response_format": {"type": "json_object"}}))
    assert "one JSON object" in body["system"][0]["text"]
