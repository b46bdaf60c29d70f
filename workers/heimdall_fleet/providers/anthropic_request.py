"""A canonical body in the words of Anthropic's Messages API."""

from typing import Any

from heimdall_fleet.providers.anthropic_models import Traits, traits_of
from heimdall_fleet.providers.conversation import (
    Conversation,
    Media,
    Part,
    Text,
    Thought,
    ToolCall,
    ToolResult,
    read_conversation,
    unsupported,
)
from heimdall_fleet.providers.dialect import Call
from heimdall_fleet.providers.json_schemas import ANSWER_TOOL, closed, in_words
from heimdall_fleet.providers.openai_request import nearest_effort
from heimdall_fleet.providers.parameters import Function, Parameters, Schema, Thinking, Tools, take_tools
from heimdall_fleet.providers.tool_names import ToolNames, legal_id

THOUGHTS = "anthropic-claude-v1"
DEFAULT_MAX_TOKENS = 4096
MIN_BUDGET = 1024
_LONGEST_NAME = 128
_MOST_STOPS = 64
_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_SERVICE_TIERS = {"auto": "auto", "default": "standard_only", "standard": "standard_only"}
_TOOL_MODES = {"auto": "auto", "none": "none", "required": "any"}


def tool_names(call: Call) -> ToolNames:
    return ToolNames(call.body, _LONGEST_NAME)


def claude_body(call: Call, *, urls: bool = True, sampling: bool = True) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body without `model` and `stream`, and the names of the caller's parameters that are not in it.

    `urls`: the host fetches images by their address. `sampling` False: this version of the API refuses it.
    """
    given = Parameters(call)
    traits = traits_of(call.target.model, call.target.facts)
    conversation = read_conversation(call, THOUGHTS, prefill=traits.prefill)
    tools, schema = take_tools(given, conversation.called), given.schema()
    body: dict[str, Any] = {"max_tokens": given.limit() or call.target.max_output or DEFAULT_MAX_TOKENS}
    answer_tool = _structure(body, schema, traits, tools, conversation)
    names = tool_names(call)
    forced = answer_tool or (tools.forced and traits.forced_tools)
    _think(body, given, traits, forced=forced, unsigned=_unsigned_loop(conversation))
    given.drop_by_facts(sampling=traits.sampling and sampling)
    _scalars(body, given)
    _tools(body, tools, names, traits, given)
    if answer_tool and schema is not None:
        body["tools"] = [{"name": ANSWER_TOOL, "input_schema": schema.schema or {"type": "object", "properties": {}}}]
        body["tool_choice"] = {"type": "tool", "name": ANSWER_TOOL}
    if conversation.system:
        body["system"] = [_text(part) for part in conversation.system]
    body["messages"] = [
        {"role": turn.role, "content": [_block(part, call, names, urls) for part in turn.parts]}
        for turn in conversation.turns
    ]
    _trim_prefill(body["messages"])
    return body, given.dropped


def _structure(
    body: dict[str, Any], schema: Schema | None, traits: Traits, tools: Tools, conversation: Conversation
) -> bool:
    """Structured output: natively, else by a forced function (then True), else in words beside the caller's tools."""
    if schema is None:
        return False
    if schema.schema is not None and traits.structured_output:
        body["output_config"] = {"format": {"type": "json_schema", "schema": closed(schema.schema)}}
    elif schema.schema is not None and not tools.functions and traits.forced_tools:
        return True
    else:
        conversation.system.append(Text(in_words(schema.schema)))
    return False


def _think(body: dict[str, Any], given: Parameters, traits: Traits, *, forced: bool, unsigned: bool) -> None:
    """`thinking` and the effort. A forced tool excludes thinking, a limit below the least budget does too."""
    thinking = given.thinking()
    if thinking is None:
        return
    if traits.thinking == "none" or (thinking.off and traits.thinking == "always"):
        refused = not thinking.off or traits.thinking == "always"
    elif thinking.off:
        body["thinking"] = {"type": "disabled"}
        return
    elif traits.thinking == "budget":
        refused = forced or unsigned or not _budget(body, thinking)
    else:
        effort = nearest_effort(thinking.level, traits.efforts)
        body["output_config"] = {**body.get("output_config", {}), "effort": effort}
        if not forced and traits.thinking == "adaptive":
            body["thinking"] = {"type": "adaptive"}
        refused = False
    if refused and thinking.asked:
        given.note("reasoning_effort")
    if "thinking" in body:
        given.drop("temperature", "top_p", "top_k")


def _budget(body: dict[str, Any], thinking: Thinking) -> bool:
    tokens = min(max(MIN_BUDGET, thinking.tokens), body["max_tokens"] - 1)
    if tokens < MIN_BUDGET:
        return False
    body["thinking"] = {"type": "enabled", "budget_tokens": tokens}
    return True


def _unsigned_loop(conversation: Conversation) -> bool:
    """The conversation goes on after tool calls whose reasoning is not here: another provider made them."""
    last = next((turn for turn in reversed(conversation.turns) if turn.role == "assistant"), None)
    parts = last.parts if last else []
    goes_on = any(isinstance(part, ToolResult) for part in conversation.turns[-1].parts)
    return goes_on and not any(isinstance(part, Thought) for part in parts)


def _scalars(body: dict[str, Any], given: Parameters) -> None:
    temperature, top_p, top_k = (given.take(name) for name in ("temperature", "top_p", "top_k"))
    if temperature is not None:
        body["temperature"] = min(temperature, 1)
    if top_p is not None:
        # Newer models refuse the two together; temperature is what is usually meant.
        if temperature is None:
            body["top_p"] = top_p
        elif top_p != 1:
            given.note("top_p")
    if top_k is not None:
        body["top_k"] = top_k
    if stop := given.stop(_MOST_STOPS):
        body["stop_sequences"] = stop
    if user := given.user():
        body["metadata"] = {"user_id": user}
    tier = given.word("service_tier")
    if tier in _SERVICE_TIERS:
        body["service_tier"] = _SERVICE_TIERS[tier]
    elif tier is not None:
        given.note("service_tier")


def _tools(body: dict[str, Any], tools: Tools, names: ToolNames, traits: Traits, given: Parameters) -> None:
    if not tools.functions:
        return
    body["tools"] = [_tool(function, names) for function in tools.functions]
    choice: dict[str, Any] | None = None
    if tools.forced and not traits.forced_tools:
        given.note("tool_choice")
    elif tools.only:
        choice = {"type": "tool", "name": names.there(tools.only)}
    elif tools.mode is not None:
        choice = {"type": _TOOL_MODES.get(tools.mode, "auto")}
    if tools.parallel is False and (choice is None or choice["type"] != "none"):
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    if choice is not None:
        body["tool_choice"] = choice


def _tool(function: Function, names: ToolNames) -> dict[str, Any]:
    tool: dict[str, Any] = {"name": names.there(function.name), "input_schema": function.parameters}
    if function.description is not None:
        tool["description"] = function.description
    if function.strict:
        tool |= {"strict": True, "input_schema": closed(function.parameters)}
    return tool


def _block(part: Part, call: Call, names: ToolNames, urls: bool) -> dict[str, Any]:
    match part:
        case Text():
            return _text(part)
        case Media():
            return _media(part, call, urls)
        case ToolCall():
            name = names.there(part.name)
            return {"type": "tool_use", "id": legal_id(part.id), "name": name, "input": part.arguments}
        case ToolResult():
            content = [_block(each, call, names, urls) for each in part.content]
            return {"type": "tool_result", "tool_use_id": legal_id(part.id), "content": content}
        case Thought():
            if part.data is not None:
                return {"type": "redacted_thinking", "data": part.data}
            return {"type": "thinking", "thinking": part.text or "", "signature": part.signature}


def _text(part: Text) -> dict[str, Any]:
    return {"type": "text", "text": part.text, **({"cache_control": part.cache} if part.cache else {})}


def _media(part: Media, call: Call, urls: bool) -> dict[str, Any]:
    is_text = part.kind == "file" and part.media_type.startswith("text/")
    if part.kind == "image" and (part.url or part.media_type in _IMAGES):
        kind = "image"
    elif part.kind == "file" and (part.media_type == "application/pdf" or is_text):
        kind = "document"
    else:
        raise unsupported(call, f"{part.kind} content of the type {part.media_type}")
    if part.url is not None and not urls:
        raise unsupported(call, "an image by its address")
    source: dict[str, Any] = {"type": "base64", "media_type": part.media_type, "data": part.data}
    if part.url is not None:
        source = {"type": "url", "url": part.url}
    elif is_text:
        source = {"type": "text", "media_type": "text/plain", "data": part.as_text()}
    title = {"title": part.name} if kind == "document" and part.name else {}
    return {"type": kind, "source": source, **title, **({"cache_control": part.cache} if part.cache else {})}


def _trim_prefill(messages: list[dict[str, Any]]) -> None:
    """White space at the end of a last assistant turn is refused."""
    last = messages[-1]
    if last["role"] == "assistant" and last["content"][-1]["type"] == "text":
        last["content"][-1]["text"] = last["content"][-1]["text"].rstrip()
