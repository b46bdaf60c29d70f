"""The canonical body in the words of Bedrock's Converse, and where it goes."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from heimdall_fleet.providers.dialect import Action, AttemptError, Call
from heimdall_fleet.providers.registry import dialect_for

CallBuilder = Callable[..., Call]
DIALECT = dialect_for("bedrock")
OLD = "anthropic.claude-3-5-sonnet-20241022-v2:0"
BUDGET, ADAPTIVE = "global.anthropic.claude-haiku-4-5-20251001-v1:0", "global.anthropic.claude-opus-5-5"
NOVA = "amazon.nova-2-lite-v1:0"
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
SPEC = {"toolSpec": {"name": "f", "description": "d", "inputSchema": {"json": {"type": "object", "properties": {}}}}}


def wire(call: Call) -> tuple[dict[str, Any], tuple[str, ...]]:
    request = DIALECT.to_wire(call)
    return orjson.loads(request.body), request.dropped


def sent(call: Call) -> dict[str, Any]:
    return wire(call)[0]


@pytest.mark.parametrize(
    ("target", "stream", "url"),
    [
        (
            {"model": OLD, "base_url": ""},
            False,
            "https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-3-5-sonnet-20241022-v2%3A0/converse",
        ),
        (
            {"model": NOVA, "base_url": "", "meta": {"region": "eu-west-1"}},
            True,
            "https://bedrock-runtime.eu-west-1.amazonaws.com/model/amazon.nova-2-lite-v1%3A0/converse-stream",
        ),
        (
            {"model": "us.x", "base_url": "https://b.test/", "meta": {"arn": "arn:aws:bedrock:us:1:inference-profile"}},
            False,
            "https://b.test/model/arn%3Aaws%3Abedrock%3Aus%3A1%3Ainference-profile%2Fus.x/converse",
        ),
    ],
)
def test_the_encoded_model_id_is_in_the_path(target: dict[str, Any], stream: bool, url: str, call: CallBuilder) -> None:
    assert DIALECT.to_wire(call("bedrock", stream=stream, **target)).url == url


def test_a_key_without_its_secret_half_is_a_bearer_key(call: CallBuilder) -> None:
    headers = DIALECT.to_wire(call("bedrock", secret="ABSKx", meta={"region": "us-east-1"})).headers
    assert headers["authorization"] == "Bearer ABSKx"
    assert "x-amz-date" not in headers


@pytest.mark.parametrize("secret", ["s3cret", SecretStr("s3cret")])
def test_an_access_key_signs(secret: Any, call: CallBuilder) -> None:
    meta = {"region": "eu-west-1", "secret_access_key": secret, "session_token": SecretStr("token")}
    headers = DIALECT.to_wire(call("bedrock", secret="ASIAX", meta=meta)).headers
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=ASIAX/")
    assert "/eu-west-1/bedrock/aws4_request" in headers["authorization"]
    assert headers["x-amz-security-token"] == "token"
    assert headers["content-type"] == "application/json"


def test_a_conversation_with_tools(call: CallBuilder) -> None:
    tools = [{"id": "id with spaces", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}]
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": tools},
        {"role": "tool", "tool_call_id": "id with spaces", "content": "1"},
        {"role": "user", "content": "go on"},
    ]
    body = sent(call("bedrock", {"messages": messages, "tools": [TOOL]}))
    assert body["system"] == [{"text": "be brief"}]
    asked, used, results = body["messages"]
    assert asked == {"role": "user", "content": [{"text": "hi"}]}
    identity = used["content"][0]["toolUse"]["toolUseId"]
    assert identity.startswith("id_with_spaces_")
    assert used["content"] == [{"toolUse": {"toolUseId": identity, "name": "f", "input": {"x": 1}}}]
    assert results["content"] == [
        {"toolResult": {"toolUseId": identity, "content": [{"text": "1"}]}},
        {"text": "go on"},
    ]


@pytest.mark.parametrize(
    ("part", "blocks"),
    [
        (
            {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,aGk="}},
            [{"image": {"format": "jpeg", "source": {"bytes": "aGk="}}}],
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}},
            [{"audio": {"format": "mp3", "source": {"bytes": "aGk="}}}],
        ),
        (
            {"type": "file", "file": {"file_data": "aGk=", "filename": "my_report (1).pdf"}},
            [{"document": {"format": "pdf", "source": {"bytes": "aGk="}, "name": "my report (1) 1"}}],
        ),
        (
            {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
            [{"text": "a"}, {"cachePoint": {"type": "default", "ttl": "1h"}}],
        ),
    ],
)
def test_content_parts(part: dict[str, Any], blocks: list[dict[str, Any]], call: CallBuilder) -> None:
    assert (
        sent(call("bedrock", {"messages": [{"role": "user", "content": [part]}]}))["messages"][0]["content"] == blocks
    )


@pytest.mark.parametrize("url", ["https://x.test/a.png", "data:image/tiff;base64,aGk="])
def test_an_image_that_cannot_be_inlined_goes_to_another_provider(url: str, call: CallBuilder) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    with pytest.raises(AttemptError) as caught:
        sent(call("bedrock", {"messages": [{"role": "user", "content": [part]}]}))
    assert caught.value.failure.action is Action.OTHER_PROVIDER


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        (None, {"tools": [SPEC]}),
        ("auto", {"tools": [SPEC], "toolChoice": {"auto": {}}}),
        ("required", {"tools": [SPEC], "toolChoice": {"any": {}}}),
        ({"type": "function", "function": {"name": "f"}}, {"tools": [SPEC], "toolChoice": {"tool": {"name": "f"}}}),
        ("none", None),
    ],
)
def test_the_choice_of_tools(choice: Any, config: dict[str, Any] | None, call: CallBuilder) -> None:
    assert sent(call("bedrock", {"tools": [TOOL], "tool_choice": choice})).get("toolConfig") == config


def test_tools_stay_where_the_conversation_has_used_them(call: CallBuilder) -> None:
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": ""}}]},
        {"role": "tool", "tool_call_id": "a", "content": ""},
    ]
    body = sent(call("bedrock", {"messages": messages, "tools": [TOOL], "tool_choice": "none"}))
    assert body["toolConfig"] == {"tools": [SPEC]}


def test_functions_that_were_called_are_declared_even_if_the_caller_lists_none(call: CallBuilder) -> None:
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": ""}}]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]
    spec = {"name": "f", "inputSchema": {"json": {"type": "object", "properties": {}}}}
    assert sent(call("bedrock", {"messages": messages}))["toolConfig"] == {"tools": [{"toolSpec": spec}]}


def test_scalars_have_their_names_there_and_the_rest_is_dropped_by_name(call: CallBuilder) -> None:
    given = {"max_tokens": 9, "temperature": 1.5, "top_p": 0.5, "top_k": 3, "stop": "x", "user": "u", "seed": 7}
    body, dropped = wire(call("bedrock", {**given, "service_tier": "flex", "parallel_tool_calls": False}, model=NOVA))
    body.pop("messages")
    assert body == {
        "inferenceConfig": {"maxTokens": 9, "temperature": 1, "stopSequences": ["x"]},
        "additionalModelRequestFields": {"top_k": 3},
        "requestMetadata": {"user": "u"},
        "serviceTier": {"type": "flex"},
    }
    assert dropped == ("top_p", "seed")


BUCKET = {"reasoning_effort": "high", "thinking_budget": 30000}


@pytest.mark.parametrize(
    ("model", "body", "fields", "effort", "dropped"),
    [
        (BUDGET, {}, {"thinking": {"type": "enabled", "budget_tokens": 30000}}, None, ()),
        (BUDGET, {"reasoning_effort": "low"}, {"thinking": {"type": "enabled", "budget_tokens": 1024}}, None, ()),
        (BUDGET, {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}, None, ()),
        (BUDGET, {"max_tokens": 500}, None, None, ()),
        (BUDGET, {"max_tokens": 500, "reasoning_effort": "low"}, None, None, ("reasoning_effort",)),
        (ADAPTIVE, {"temperature": 0.5}, {"thinking": {"type": "adaptive"}}, "high", ("temperature",)),
        (ADAPTIVE, {"tools": [TOOL], "tool_choice": "required"}, None, "high", ()),
        (ADAPTIVE, {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}, None, ()),
        (NOVA, {"temperature": 0.5}, None, "high", ()),
        (NOVA, {"reasoning_effort": "xhigh"}, None, "high", ()),
        (OLD, {}, None, None, ()),
        (OLD, {"reasoning_effort": "low"}, None, None, ("reasoning_effort",)),
    ],
)
def test_reasoning_is_the_callers_word_else_the_buckets(
    model: str,
    body: dict[str, Any],
    fields: dict[str, Any] | None,
    effort: str | None,
    dropped: tuple[str, ...],
    call: CallBuilder,
) -> None:
    request = call("bedrock", body, model=model, settings=BUCKET, max_output=64000, facts={"reasoning": True})
    found, named = wire(request)
    assert found.get("additionalModelRequestFields") == fields
    assert found.get("outputConfig", {}).get("effort") == effort
    assert named == dropped


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}
WANTED = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}


def test_structured_output_is_native_where_the_model_has_it(call: CallBuilder) -> None:
    wanted = sent(call("bedrock", WANTED, model=ADAPTIVE))["outputConfig"]["textFormat"]
    assert wanted["structure"]["jsonSchema"]["name"] == "x"
    schema = orjson.loads(wanted["structure"]["jsonSchema"]["schema"])
    assert schema == {**SCHEMA, "additionalProperties": False}


def test_another_model_is_forced_to_call_a_function_with_the_schema(call: CallBuilder) -> None:
    config = sent(call("bedrock", WANTED, model=NOVA))["toolConfig"]
    assert config["toolChoice"] == {"tool": {"name": "answer_in_json"}}
    assert config["tools"][0]["toolSpec"]["inputSchema"] == {"json": SCHEMA}


def test_beside_the_callers_tools_the_schema_is_said_in_words(call: CallBuilder) -> None:
    body = sent(call("bedrock", {**WANTED, "tools": [TOOL]}, model=OLD))
    assert "JSON Schema" in body["system"][0]["text"]
