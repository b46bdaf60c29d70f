"""The canonical body in the words of each OpenAI-compatible server."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from heimdall_fleet.providers.compat import PROFILES
from heimdall_fleet.providers.dialect import Call
from heimdall_fleet.providers.openai_request import nearest_effort
from heimdall_fleet.providers.registry import BASE_URLS, dialect_for
from heimdall_schemas.failure import Failure

CallBuilder = Callable[..., Call]
TOOL = {"type": "function", "function": {"name": "f", "strict": True, "parameters": {"$schema": "x", "type": "object"}}}


def sent(call: Call) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(dialect_for(call.target.type).to_wire(call).body)
    return body


def dropped(call: Call) -> tuple[str, ...]:
    return dialect_for(call.target.type).to_wire(call).dropped


@pytest.mark.parametrize("family", sorted(PROFILES))
def test_every_family_sends_the_models_name_there_and_never_our_own_object(family: str, call: CallBuilder) -> None:
    body = sent(call(family, {"heimdall": {"tenant": "t"}, "temperature": 0.2}))
    assert body["model"] == "name-there"
    assert "heimdall" not in body
    assert body["messages"] == [{"role": "user", "content": "hi"}]
    assert "stream" not in body


@pytest.mark.parametrize("family", sorted(PROFILES))
def test_no_family_is_sent_a_null(family: str, call: CallBuilder) -> None:
    message = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [{"id": "abcdefghi", "type": "x"}]}
    body = call(family, {"stop": None, "tools": [TOOL], "messages": [message]})
    assert b"null" not in dialect_for(family).to_wire(body).body


@pytest.mark.parametrize("family", sorted(set(PROFILES) - {"mistral"}))
def test_a_stream_always_asks_for_its_usage(family: str, call: CallBuilder) -> None:
    body = sent(call(family, {"stream_options": {"include_usage": False, "x": 1}}, stream=True))
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True, "x": 1}


def test_mistral_sends_usage_unasked_and_refuses_the_question(call: CallBuilder) -> None:
    body = sent(call("mistral", {"stream_options": {"include_usage": True}}, stream=True))
    assert body["stream"] is True
    assert "stream_options" not in body


@pytest.mark.parametrize(
    ("family", "facts", "name"),
    [
        ("openai", {}, "max_completion_tokens"),
        ("azure", {}, "max_tokens"),
        ("azure", {"reasoning": True}, "max_completion_tokens"),
        ("groq", {}, "max_completion_tokens"),
        ("mistral", {}, "max_tokens"),
        ("deepseek", {}, "max_tokens"),
        ("vllm", {}, "max_tokens"),
    ],
)
@pytest.mark.parametrize("given", ["max_tokens", "max_completion_tokens"])
def test_the_output_limit_has_one_name(
    family: str, facts: dict[str, Any], name: str, given: str, call: CallBuilder
) -> None:
    body = sent(call(family, {given: 100}, facts=facts))
    assert {key: value for key, value in body.items() if key.startswith("max_")} == {name: 100}


def test_the_configured_output_limit_holds_where_the_caller_names_none(call: CallBuilder) -> None:
    assert sent(call(usual_output=500, max_output=4096))["max_completion_tokens"] == 500
    assert sent(call(body={"max_tokens": 900}, usual_output=500))["max_completion_tokens"] == 900


def test_the_output_limit_never_exceeds_what_the_model_can_write(call: CallBuilder) -> None:
    assert sent(call(body={"max_tokens": 9000}, max_output=4096))["max_completion_tokens"] == 4096


SAMPLING = ("logprobs", "presence_penalty", "temperature", "top_p")
SAMPLED = {"temperature": 0.2, "top_p": 0.5, "presence_penalty": 1, "stop": ["x"], "logprobs": True}


@pytest.mark.parametrize(
    ("family", "facts", "names"),
    [
        ("openai", {}, ()),
        ("openai", {"reasoning": True}, ("logprobs", "presence_penalty", "temperature", "top_p")),
        ("openai", {"reasoning": True, "sampling": True}, ()),
        (
            "openai",
            {"sampling": False, "stop": False},
            ("logprobs", "presence_penalty", "temperature", "top_p", "stop"),
        ),
        ("xai", {"reasoning": True}, ("presence_penalty", "stop")),
        ("deepseek", {"reasoning": True}, ("logprobs",)),
        ("groq", {}, ("logprobs",)),
    ],
)
def test_sampling_is_dropped_by_the_facts_of_the_model(
    family: str, facts: dict[str, Any], names: tuple[str, ...], call: CallBuilder
) -> None:
    request = call(family, SAMPLED, facts=facts)
    assert dropped(request) == names
    assert not set(names) & sent(request).keys()


def test_a_dropped_value_that_repeats_the_default_is_not_reported(call: CallBuilder) -> None:
    assert dropped(call(body={"temperature": 1, "top_p": 1.0}, facts={"reasoning": True})) == ()


def test_parameters_of_other_servers_are_dropped_and_unknown_ones_are_passed_on(call: CallBuilder) -> None:
    body = {"top_k": 5, "provider": {"sort": "price"}, "brand_new": 1}
    assert dropped(call("openai", body)) == ("provider", "top_k")
    assert sent(call("openai", body))["brand_new"] == 1
    assert sent(call("vllm", body))["top_k"] == 5


def test_mistral_is_sent_nothing_it_does_not_know(call: CallBuilder) -> None:
    request = call("mistral", {"seed": 7, "user": "u", "brand_new": 1, "top_k": 5, "max_tokens": 9})
    assert dropped(request) == ("brand_new", "user")
    assert sent(request)["random_seed"] == 7
    assert "seed" not in sent(request)


def test_mistral_gets_plain_tools_and_nine_letter_ids_that_still_match(call: CallBuilder) -> None:
    messages = [
        {"role": "user", "content": "hi", "name": "bob"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "call_very_long_id", "type": "function"}]},
        {"role": "tool", "tool_call_id": "call_very_long_id", "content": "4"},
    ]
    body = sent(call("mistral", {"messages": messages, "tools": [TOOL]}))
    assert body["tools"] == [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    assert "name" not in body["messages"][0]
    short = body["messages"][2]["tool_call_id"]
    assert len(short) == 9
    assert short.isalnum()
    assert body["messages"][1]["tool_calls"][0]["id"] == short


def test_an_empty_tool_list_is_not_sent(call: CallBuilder) -> None:
    body = sent(call(body={"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}))
    assert not body.keys() & {"tools", "tool_choice", "parallel_tool_calls"}


def test_deepseek_knows_json_objects_only_and_is_told_of_the_schema_in_words(call: CallBuilder) -> None:
    schema = {"type": "object", "properties": {"town": {"type": "string"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    request = call("deepseek", {"response_format": wanted})
    assert sent(request)["response_format"] == {"type": "json_object"}
    assert dropped(request) == ("response_format.json_schema",)
    first, *others = sent(request)["messages"]
    assert first["role"] == "system"
    assert '"town"' in first["content"]
    assert others == sent(call("deepseek", {}))["messages"]


@pytest.mark.parametrize(
    ("body", "settings", "facts", "effort"),
    [
        ({}, {"reasoning_effort": "high"}, {"reasoning": True}, "high"),
        ({"reasoning_effort": "low"}, {"reasoning_effort": "high"}, {"reasoning": True}, "low"),
        ({"reasoning": {"effort": "low"}}, {"reasoning_effort": "high"}, {"reasoning": True}, "low"),
        ({}, {"reasoning_effort": "high"}, {}, None),
        ({"reasoning_effort": "low"}, {}, {"reasoning": False}, None),
        ({"reasoning_effort": "xhigh"}, {}, {"efforts": ["low", "medium", "high"]}, "high"),
        ({}, {}, {"reasoning": True}, None),
    ],
)
def test_the_callers_effort_wins_over_the_buckets(
    body: dict[str, Any], settings: dict[str, Any], facts: dict[str, Any], effort: str | None, call: CallBuilder
) -> None:
    assert sent(call(body=body, settings=settings, facts=facts)).get("reasoning_effort") == effort


def test_an_effort_for_a_model_that_does_not_reason_is_reported_as_dropped(call: CallBuilder) -> None:
    assert dropped(call(body={"reasoning_effort": "low"}, facts={"reasoning": False})) == ("reasoning_effort",)


@pytest.mark.parametrize(
    ("effort", "allowed", "nearest"),
    [
        ("minimal", ("low", "high"), "low"),
        ("max", ("none", "low"), "low"),
        ("medium", ("low", "high"), "low"),
        ("none", ("none", "high"), "none"),
        ("enormous", ("low", "high"), "enormous"),
        ("low", (), "low"),
    ],
)
def test_an_effort_becomes_the_nearest_that_is_allowed(effort: str, allowed: tuple[str, ...], nearest: str) -> None:
    assert nearest_effort(effort, allowed) == nearest


@pytest.mark.parametrize(("effort", "switch"), [("none", "disabled"), ("high", "enabled")])
def test_deepseek_turns_thinking_on_or_off(effort: str, switch: str, call: CallBuilder) -> None:
    body = sent(call("deepseek", {"reasoning_effort": effort}, facts={"reasoning": True}))
    assert body["thinking"] == {"type": switch}
    assert "reasoning_effort" not in body


def test_deepseek_wants_the_reasoning_of_every_replayed_turn(call: CallBuilder) -> None:
    messages = [
        {"role": "assistant", "content": "a", "reasoning_content": "because"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    body = sent(call("deepseek", {"messages": messages, "reasoning_effort": "high"}, facts={"reasoning": True}))
    assert [message.get("reasoning_content") for message in body["messages"]] == ["because", "", None]


def test_a_replayed_answer_loses_what_only_an_answer_has(call: CallBuilder) -> None:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "a",
        "annotations": [],
        "refusal": None,
        "reasoning_content": "r",
    }
    assert sent(call(body={"messages": [message]}))["messages"] == [{"role": "assistant", "content": "a"}]


def test_openrouter_gets_the_configured_provider_preferences_and_the_caller_may_override(call: CallBuilder) -> None:
    preferences = {"sort": "quality", "max_price": 30, "allow_fallbacks": True}
    request = call("openrouter", {"provider": {"sort": "price"}}, meta={"provider": preferences})
    assert sent(request)["provider"] == {"sort": "price", "max_price": 30, "allow_fallbacks": True}


def test_openrouter_gets_a_thinking_budget_unless_an_effort_is_given(call: CallBuilder) -> None:
    settings = {"thinking_budget": 15000}
    facts = {"reasoning": True}
    assert sent(call("openrouter", settings=settings, facts=facts))["reasoning"] == {"max_tokens": 15000}
    assert "reasoning" not in sent(call("openrouter", {"reasoning_effort": "low"}, settings=settings, facts=facts))


def test_headers_carry_the_key_and_the_configured_extras(call: CallBuilder) -> None:
    headers = {"HTTP-Referer": "https://example.org", "X-OpenRouter-Title": "fleet"}
    wire = dialect_for("openrouter").to_wire(call("openrouter", extra_headers=headers))
    assert wire.headers["authorization"] == "Bearer sk-secret-of-the-call"
    assert headers.items() <= wire.headers.items()
    assert wire.url == "https://api.test/v1/chat/completions"


def test_a_server_without_a_key_gets_no_authorization(call: CallBuilder) -> None:
    assert "authorization" not in dialect_for("ollama").to_wire(call("ollama", secret="")).headers


@pytest.mark.parametrize(
    ("base_url", "meta", "url"),
    [
        (
            "https://r.openai.azure.com",
            {"api_version": "2026-05-01", "deployments": {"name-there": "my dep"}},
            "https://r.openai.azure.com/openai/deployments/my%20dep/chat/completions?api-version=2026-05-01",
        ),
        (
            "https://r.openai.azure.com/openai/",
            {"api_version": "v"},
            "https://r.openai.azure.com/openai/deployments/name-there/chat/completions?api-version=v",
        ),
        ("https://r.openai.azure.com", {}, "https://r.openai.azure.com/openai/v1/chat/completions"),
        ("https://r.openai.azure.com/openai/v1", {}, "https://r.openai.azure.com/openai/v1/chat/completions"),
    ],
)
def test_azure_names_the_deployment_in_the_path_or_in_the_body(
    base_url: str, meta: dict[str, Any], url: str, call: CallBuilder
) -> None:
    wire = dialect_for("azure").to_wire(call("azure", base_url=base_url, meta=meta))
    assert wire.url == url
    assert wire.headers["api-key"] == "sk-secret-of-the-call"
    assert orjson.loads(wire.body)["model"] == meta.get("deployments", {}).get("name-there", "name-there")


def test_azure_takes_an_entra_token_as_a_bearer(call: CallBuilder) -> None:
    headers = dialect_for("azure").to_wire(call("azure", secret="eyJ0.eyJ1.sig")).headers
    assert headers["authorization"] == "Bearer eyJ0.eyJ1.sig"
    assert "api-key" not in headers


def test_the_request_of_the_caller_is_left_as_it_was(call: CallBuilder) -> None:
    request = call("mistral", {"tools": [TOOL], "seed": 1, "reasoning_effort": "low"}, stream=True)
    before = orjson.dumps(request.body)
    dialect_for("mistral").to_wire(request)
    assert orjson.dumps(request.body) == before


def test_an_unknown_type_is_a_configuration_error_that_suggests_the_nearest() -> None:
    with pytest.raises(Failure, match="did you mean mistral"):
        dialect_for("mistrall")


def test_every_public_server_has_its_base_url() -> None:
    assert set(PROFILES) - set(BASE_URLS) == {"azure", "vllm", "custom"}
