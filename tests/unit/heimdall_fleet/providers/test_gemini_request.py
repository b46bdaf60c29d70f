"""The canonical body in the words of Gemini's generateContent."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from heimdall_fleet.providers.dialect import Call
from heimdall_fleet.providers.gemini_models import traits_of, version_of
from heimdall_fleet.providers.registry import dialect_for

CallBuilder = Callable[..., Call]
DIALECT = dialect_for("gemini")
PRO, FLASH, LITE, NEW = "gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.5-flash-lite", "gemini-3.8-flash"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def wire(call: Call) -> tuple[dict[str, Any], tuple[str, ...]]:
    request = DIALECT.to_wire(call)
    return orjson.loads(request.body), request.dropped


def sent(call: Call) -> dict[str, Any]:
    return wire(call)[0]


@pytest.mark.parametrize(("stream", "method"), [(False, ":generateContent"), (True, ":streamGenerateContent?alt=sse")])
def test_the_model_and_the_method_are_in_the_path(stream: bool, method: str, call: CallBuilder) -> None:
    request = DIALECT.to_wire(call("gemini", base_url="https://g.test/v1beta/", model="models/a b", stream=stream))
    assert request.url == f"https://g.test/v1beta/models/a%20b{method}"
    assert orjson.loads(request.body) == {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


@pytest.mark.parametrize(
    ("secret", "headers"),
    [
        ("AIzaSyX", {"x-goog-api-key": "AIzaSyX"}),
        ("AQ.x", {"x-goog-api-key": "AQ.x"}),
        ("ya29.x", {"authorization": "Bearer ya29.x"}),
        ("", {}),
    ],
)
def test_a_key_and_a_token_have_their_own_headers(secret: str, headers: dict[str, str], call: CallBuilder) -> None:
    found = DIALECT.to_wire(call("gemini", secret=secret)).headers
    assert {name: found[name] for name in ("x-goog-api-key", "authorization") if name in found} == headers


def test_a_conversation_with_tools_finds_the_names_of_its_results(call: CallBuilder) -> None:
    calls = [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}},
    ]
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ok", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "b", "content": "plain"},
        {"role": "tool", "tool_call_id": "a", "content": '{"n":1}'},
    ]
    body = sent(call("gemini", {"messages": messages}, model=PRO))
    assert body["systemInstruction"] == {"parts": [{"text": "be brief"}]}
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "hi"}]},
        {
            "role": "model",
            "parts": [
                {"text": "ok"},
                {"functionCall": {"name": "f", "args": {"x": 1}}},
                {"functionCall": {"name": "g", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "g", "response": {"result": "plain"}}},
                {"functionResponse": {"name": "f", "response": {"n": 1}}},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("details", "signature"),
    [
        ([{"type": "reasoning.encrypted", "data": "sig", "id": "a", "format": "google-gemini-v1"}], "sig"),
        ([{"type": "reasoning.encrypted", "data": "sig", "id": "a", "format": "anthropic-claude-v1"}], None),
        ([], None),
    ],
)
def test_newer_models_get_ids_and_a_signature_back(
    details: list[dict[str, Any]], signature: str | None, call: CallBuilder
) -> None:
    tool = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [tool], "reasoning_details": details},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]
    _, turn, results = sent(call("gemini", {"messages": messages}, model=NEW))["contents"]
    assert turn["parts"] == [
        {
            "functionCall": {"name": "f", "args": {}, "id": "a"},
            "thoughtSignature": signature or "skip_thought_signature_validator",
        }
    ]
    assert results["parts"][0]["functionResponse"]["id"] == "a"


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
            {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://x.test/a.webp?b=c"}},
            {"fileData": {"fileUri": "https://x.test/a.webp?b=c", "mimeType": "image/webp"}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}},
            {"inlineData": {"mimeType": "audio/mp3", "data": "aGk="}},
        ),
        (
            {"type": "file", "file": {"file_data": "aGk=", "filename": "a.pdf"}},
            {"inlineData": {"mimeType": "application/pdf", "data": "aGk="}},
        ),
    ],
)
def test_content_parts(part: dict[str, Any], expected: dict[str, Any], call: CallBuilder) -> None:
    messages = [{"role": "user", "content": [part]}]
    assert sent(call("gemini", {"messages": messages}))["contents"][0]["parts"] == [expected]


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ({"type": "function", "function": {"name": "f"}}, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_the_choice_of_tools(choice: Any, config: dict[str, Any], call: CallBuilder) -> None:
    body = sent(call("gemini", {"tools": [TOOL], "tool_choice": choice}))
    declaration = {"name": "f", "parametersJsonSchema": {"type": "object", "properties": {}}}
    assert body["tools"] == [{"functionDeclarations": [declaration]}]
    assert body["toolConfig"] == {"functionCallingConfig": config}


SCALARS = {
    "max_tokens": 9,
    "temperature": 1.5,
    "top_p": 0.5,
    "top_k": 3,
    "stop": ["a", "b", "c", "d", "e", "f"],
    "n": 2,
    "seed": 7,
    "frequency_penalty": 0.1,
    "presence_penalty": 0.2,
    "logprobs": True,
    "top_logprobs": 2,
    "logit_bias": {"1": 2},
    "user": "u",
}
MAPPED = {
    "maxOutputTokens": 9,
    "temperature": 1.5,
    "topP": 0.5,
    "topK": 3,
    "stopSequences": ["a", "b", "c", "d", "e"],
    "candidateCount": 2,
    "seed": 7,
    "frequencyPenalty": 0.1,
    "presencePenalty": 0.2,
    "responseLogprobs": True,
    "logprobs": 2,
}


def test_scalars_have_their_names_there_and_the_rest_is_dropped_by_name(call: CallBuilder) -> None:
    body, dropped = wire(call("gemini", SCALARS, model=PRO))
    assert body["generationConfig"] == MAPPED
    assert dropped == ("stop", "logit_bias", "user")


def test_newer_models_take_no_penalties(call: CallBuilder) -> None:
    body, dropped = wire(call("gemini", SCALARS, model=NEW))
    assert not {"frequencyPenalty", "presencePenalty"} & body["generationConfig"].keys()
    assert dropped[:2] == ("frequency_penalty", "presence_penalty")


@pytest.mark.parametrize(
    ("wanted", "config"),
    [
        ({"type": "json_object"}, {"responseMimeType": "application/json"}),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
            {"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}},
        ),
    ],
)
def test_structured_output(wanted: dict[str, Any], config: dict[str, Any], call: CallBuilder) -> None:
    assert sent(call("gemini", {"response_format": wanted}))["generationConfig"] == config


BUCKET = {"reasoning_effort": "high", "thinking_budget": 30000}


def budget(tokens: int) -> dict[str, Any]:
    return {"thinkingBudget": tokens, "includeThoughts": tokens > 0}


def level(word: str) -> dict[str, Any]:
    return {"thinkingLevel": word, "includeThoughts": True}


@pytest.mark.parametrize(
    ("model", "body", "config"),
    [
        (PRO, {}, budget(30000)),
        (FLASH, {}, budget(24576)),
        (PRO, {"reasoning_effort": "low"}, budget(1024)),
        (PRO, {"reasoning_effort": "medium"}, budget(2048)),
        (PRO, {"reasoning_effort": "high"}, budget(4096)),
        (PRO, {"reasoning_effort": "minimal"}, budget(128)),
        (LITE, {"reasoning_effort": "minimal"}, budget(512)),
        (PRO, {"reasoning_effort": "none"}, budget(128)),
        (FLASH, {"reasoning_effort": "none"}, budget(0)),
        (PRO, {"reasoning": {"max_tokens": 5000}}, budget(5000)),
        (NEW, {}, level("HIGH")),
        (NEW, {"reasoning_effort": "xhigh"}, level("XHIGH")),
        (NEW, {"reasoning_effort": "max"}, level("XHIGH")),
        (NEW, {"reasoning_effort": "none"}, level("MINIMAL")),
        (NEW, {"reasoning": {"max_tokens": 2048}}, level("MEDIUM")),
        ("gemini-1.5-pro", {}, None),
    ],
)
def test_reasoning_is_the_callers_word_else_the_buckets(
    model: str, body: dict[str, Any], config: dict[str, Any] | None, call: CallBuilder
) -> None:
    request = call("gemini", body, model=model, settings=BUCKET, facts={"reasoning": True})
    found, dropped = wire(request)
    assert found.get("generationConfig", {}).get("thinkingConfig") == config
    assert dropped == ()


def test_the_buckets_budget_alone_is_enough(call: CallBuilder) -> None:
    request = call("gemini", {}, model=PRO, settings={"thinking_budget": 15000}, facts={"reasoning": True})
    assert sent(request)["generationConfig"]["thinkingConfig"] == budget(15000)


@pytest.mark.parametrize(
    ("model", "version", "thinking"),
    [
        ("gemini-1.5-pro-002", (1, 5), "none"),
        ("gemini-2.5-flash", (2, 5), "budget"),
        ("gemini-3.1-pro-preview", (3, 1), "level"),
        ("gemini-4-argon", (4, 0), "level"),
        ("gemma-4-31b-it", None, "none"),
    ],
)
def test_the_version_of_a_model_is_in_its_name(model: str, version: tuple[int, int] | None, thinking: str) -> None:
    assert version_of(model) == version
    assert traits_of(model, {}).thinking == thinking


def test_facts_go_before_the_version() -> None:
    assert traits_of(PRO, {"reasoning": False}).thinking == "none"
    traits = traits_of(PRO, {"thinking": "level", "thinking_budget": [1, 2]})
    assert (traits.thinking, traits.budget) == ("level", (1, 2))
