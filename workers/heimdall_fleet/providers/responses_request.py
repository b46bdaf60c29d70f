"""A canonical body in the words of OpenAI's Responses."""

from collections.abc import Iterator
from typing import Any

from heimdall_fleet.providers.compat import LADDER, SAMPLING
from heimdall_fleet.providers.conversation import unsupported
from heimdall_fleet.providers.dialect import Call
from heimdall_fleet.providers.openai_request import nearest_effort
from heimdall_fleet.providers.parameters import Function, Parameters, Tools, take_tools
from heimdall_fleet.providers.shapes import list_of, object_of, text_of
from heimdall_fleet.providers.tool_names import ToolNames

THOUGHTS = "openai-responses-v1"
_LONGEST_NAME = 64
_LEAST_TOKENS = 16
_SAME = (
    "temperature",
    "top_p",
    "top_logprobs",
    "metadata",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "service_tier",
)


def tool_names(call: Call) -> ToolNames:
    return ToolNames(call.body, _LONGEST_NAME)


def responses_body(call: Call) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body, and the names of the caller's parameters that are not in it. Nothing is stored unless asked for."""
    given = Parameters(call)
    names = tool_names(call)
    reasons = call.target.facts.get("reasoning")
    body: dict[str, Any] = {"model": call.target.model, "input": list(_items(call, names))}
    body |= _reasoning(given, call)
    given.drop_by_facts()
    if reasons and not call.target.facts.get("sampling"):
        given.drop(*sorted(SAMPLING))
    if limit := given.limit():
        body["max_output_tokens"] = max(_LEAST_TOKENS, limit)
    body["store"] = given.take("store") is True
    if reasons and not body["store"]:
        body["include"] = ["reasoning.encrypted_content"]
    body |= {name: value for name in _SAME if (value := given.take(name)) is not None}
    if text := _text(given):
        body["text"] = text
    body |= _tools(take_tools(given), names)
    if call.stream:
        body["stream"] = True
    return body, given.dropped


def _reasoning(given: Parameters, call: Call) -> dict[str, Any]:
    thinking = given.thinking()
    if thinking is None:
        return {}
    return {"reasoning": {"effort": nearest_effort(thinking.level, call.target.facts.get("efforts") or LADDER)}}


def _text(given: Parameters) -> dict[str, Any]:
    text: dict[str, Any] = {}
    schema, verbosity = given.schema(), given.take("verbosity")
    if schema is not None and schema.schema is not None:
        text["format"] = {
            "type": "json_schema",
            "name": schema.name,
            "schema": schema.schema,
            "strict": schema.strict,
        }
    elif schema is not None:
        text["format"] = {"type": "json_object"}
    if verbosity is not None:
        text["verbosity"] = verbosity
    return text


def _tools(tools: Tools, names: ToolNames) -> dict[str, Any]:
    if not tools.functions:
        return {}
    body: dict[str, Any] = {"tools": [_tool(function, names) for function in tools.functions]}
    if tools.only:
        body["tool_choice"] = {"type": "function", "name": names.there(tools.only)}
    elif tools.mode is not None:
        body["tool_choice"] = tools.mode
    if tools.parallel is not None:
        body["parallel_tool_calls"] = tools.parallel
    return body


def _tool(function: Function, names: ToolNames) -> dict[str, Any]:
    """Flat, and strict only where the caller says so: here an absent `strict` means true."""
    tool: dict[str, Any] = {"type": "function", "name": names.there(function.name), "parameters": function.parameters}
    if function.description is not None:
        tool["description"] = function.description
    return {**tool, "strict": bool(function.strict)}


def _items(call: Call, names: ToolNames) -> Iterator[dict[str, Any]]:
    for message in map(object_of, list_of(call.body.get("messages"))):
        role = message.get("role")
        if role == "tool":
            output = "".join(part["text"] for part in _parts(message.get("content"), call) if "text" in part)
            yield {"type": "function_call_output", "call_id": str(message.get("tool_call_id")), "output": output}
        elif role == "assistant":
            yield from _assistant(message, names)
        else:
            parts = list(_parts(message.get("content"), call))
            if parts:
                yield {"type": "message", "role": role or "user", "content": parts}


def _assistant(message: dict[str, Any], names: ToolNames) -> Iterator[dict[str, Any]]:
    for detail in map(object_of, list_of(message.get("reasoning_details"))):
        if detail.get("format") == THOUGHTS and text_of(detail.get("data")):
            content = {"summary": [], "encrypted_content": detail["data"]}
            yield {"type": "reasoning", **({"id": detail["id"]} if detail.get("id") else {}), **content}
    texts = [text_of(message.get("content")) or "", text_of(message.get("refusal")) or ""]
    texts += [text_of(object_of(part).get("text")) or "" for part in list_of(message.get("content"))]
    if text := "".join(texts):
        yield {"type": "message", "role": "assistant", "content": text}
    for tool in map(object_of, list_of(message.get("tool_calls"))):
        function = object_of(tool.get("function"))
        yield {
            "type": "function_call",
            "call_id": str(tool.get("id")),
            "name": names.there(str(function.get("name"))),
            "arguments": text_of(function.get("arguments")) or "{}",
        }


def _parts(content: Any, call: Call) -> Iterator[dict[str, Any]]:
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    for part in map(object_of, list_of(content)):
        kind = part.get("type")
        inner = object_of(part.get(str(kind)))
        if kind == "text" and text_of(part.get("text")):
            yield {"type": "input_text", "text": part["text"]}
        elif kind == "image_url":
            url = text_of(part.get("image_url")) or inner.get("url")
            yield {"type": "input_image", "image_url": url, "detail": inner.get("detail") or "auto"}
        elif kind == "file":
            fields = {name: inner[name] for name in ("file_id", "file_data", "filename") if inner.get(name)}
            yield {"type": "input_file", **fields}
        elif kind != "text":
            raise unsupported(call, f"a content part {kind!r}")
