"""A canonical body in the words of Cohere's chat, version 2."""

from collections.abc import Iterator, Mapping
from typing import Any

from heimdall_fleet.providers.conversation import unsupported
from heimdall_fleet.providers.dialect import Call
from heimdall_fleet.providers.parameters import Function, Parameters, take_tools
from heimdall_fleet.providers.shapes import list_of, object_of, text_of
from heimdall_fleet.providers.tool_names import ToolNames

THOUGHTS = "cohere-v2"
_LONGEST_NAME = 64
_MOST_STOPS = 5
_SCALARS: Mapping[str, str] = {
    "temperature": "temperature",
    "top_p": "p",
    "top_k": "k",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "logprobs": "logprobs",
}


def tool_names(call: Call) -> ToolNames:
    return ToolNames(call.body, _LONGEST_NAME)


def cohere_body(call: Call) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body, and the names of the caller's parameters that are not in it."""
    given = Parameters(call)
    names = tool_names(call)
    body: dict[str, Any] = {"model": call.target.model, "messages": list(_messages(call, names))}
    thinking = given.thinking()
    if thinking is not None:
        on = {"type": "enabled", "token_budget": thinking.tokens}
        body["thinking"] = {"type": "disabled"} if thinking.off else on
    given.drop_by_facts()
    if limit := given.limit():
        body["max_tokens"] = limit
    if stop := given.stop(_MOST_STOPS):
        body["stop_sequences"] = stop
    for name, name_there in _SCALARS.items():
        value = given.take(name)
        if value is not None:
            body[name_there] = value
    schema = given.schema()
    if schema is not None:
        body["response_format"] = {"type": "json_object", **({"json_schema": schema.schema} if schema.schema else {})}
    body |= _tools(given, names)
    if call.stream:
        body["stream"] = True
    return body, given.dropped


def _tools(given: Parameters, names: ToolNames) -> dict[str, Any]:
    """A named function cannot be demanded there; being the only one and required comes to the same."""
    tools = take_tools(given)
    if not tools.functions:
        return {}
    if tools.parallel is False:
        given.note("parallel_tool_calls")
    functions = [each for each in tools.functions if tools.only in (None, each.name)]
    body: dict[str, Any] = {"tools": [_tool(function, names) for function in functions]}
    if any(function.strict for function in functions):
        body["strict_tools"] = True
    if tools.mode in ("required", "none"):
        body["tool_choice"] = tools.mode.upper()
    return body


def _tool(function: Function, names: ToolNames) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": names.there(function.name), "parameters": function.parameters}
    if function.description is not None:
        fields["description"] = function.description
    return {"type": "function", "function": fields}


def _messages(call: Call, names: ToolNames) -> Iterator[dict[str, Any]]:
    for message in map(object_of, list_of(call.body.get("messages"))):
        role = {"developer": "system"}.get(str(message.get("role")), message.get("role"))
        content = list(_content(message.get("content"), call))
        if role == "assistant":
            yield from _assistant(message, content, names)
        elif role == "tool":
            text = "\n".join(part["text"] for part in content if part["type"] == "text")
            yield {"role": "tool", "tool_call_id": str(message.get("tool_call_id")), "content": text}
        elif content:
            yield {"role": role, "content": content}


def _assistant(message: dict[str, Any], content: list[dict[str, Any]], names: ToolNames) -> Iterator[dict[str, Any]]:
    thoughts = [
        {"type": "thinking", "thinking": detail["text"]}
        for detail in map(object_of, list_of(message.get("reasoning_details")))
        if detail.get("format") == THOUGHTS and text_of(detail.get("text"))
    ]
    said: dict[str, Any] = {"role": "assistant"}
    if thoughts or content:
        said["content"] = [*thoughts, *content]
    tools = [_tool_call(object_of(tool), names) for tool in list_of(message.get("tool_calls"))]
    if tools:
        said["tool_calls"] = tools
    if len(said) > 1:
        yield said


def _tool_call(tool: dict[str, Any], names: ToolNames) -> dict[str, Any]:
    function = object_of(tool.get("function"))
    sent = {"name": names.there(str(function.get("name"))), "arguments": text_of(function.get("arguments")) or "{}"}
    return {"id": str(tool.get("id")), "type": "function", "function": sent}


def _content(content: Any, call: Call) -> Iterator[dict[str, Any]]:
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    for part in map(object_of, list_of(content)):
        kind = part.get("type")
        if kind == "text":
            if text_of(part.get("text")):
                yield {"type": "text", "text": part["text"]}
        elif kind == "image_url":
            image = part.get("image_url")
            yield {"type": "image_url", "image_url": {"url": image} if isinstance(image, str) else image}
        else:
            raise unsupported(call, f"a content part {kind!r}")
