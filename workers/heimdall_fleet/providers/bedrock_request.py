"""A canonical body in the words of Bedrock's Converse."""

from collections.abc import Iterable
from typing import Any

import orjson

from heimdall_fleet.providers.anthropic_models import Traits, traits_of
from heimdall_fleet.providers.anthropic_request import DEFAULT_MAX_TOKENS, MIN_BUDGET
from heimdall_fleet.providers.conversation import (
    Conversation,
    Media,
    Part,
    Text,
    Thought,
    ToolCall,
    ToolResult,
    Turn,
    read_conversation,
    unsupported,
)
from heimdall_fleet.providers.dialect import Call
from heimdall_fleet.providers.json_schemas import ANSWER_TOOL, closed, in_words
from heimdall_fleet.providers.openai_request import nearest_effort
from heimdall_fleet.providers.parameters import Function, Parameters, Schema, Thinking, Tools, take_tools
from heimdall_fleet.providers.tool_names import ToolNames, legal_id

_LONGEST_NAME = 64
_MOST_STOPS = 2500
_FORMATS = {
    "image": ("png", "jpeg", "gif", "webp"),
    "audio": ("mp3", "wav", "flac", "ogg", "aac", "m4a", "opus"),
    "file": ("pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"),
}
_FORMAT_OF = {
    "image/jpg": "jpeg",
    "audio/mpeg": "mp3",
    "audio/x-wav": "wav",
    "text/plain": "txt",
    "text/markdown": "md",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
}
_TIERS = {"priority": "priority", "default": "default", "standard": "default", "flex": "flex"}


def thoughts_of(call: Call) -> str:
    """Claude signs its reasoning alike on every host; others are only known to themselves."""
    return "anthropic-claude-v1" if "claude" in call.target.model else "bedrock-converse-v1"


def tool_names(call: Call) -> ToolNames:
    return ToolNames(call.body, _LONGEST_NAME)


def converse_body(call: Call) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body, and the names of the caller's parameters that are not in it."""
    given = Parameters(call)
    traits = _traits(call)
    conversation = read_conversation(call, thoughts_of(call), prefill=traits.prefill)
    tools, schema = take_tools(given, conversation.called), given.schema()
    names = tool_names(call)
    body: dict[str, Any] = {}
    answer_tool = _structure(body, schema, traits, tools, conversation)
    config: dict[str, Any] = {}
    if limit := given.limit():
        config["maxTokens"] = limit
    extra = _think(body, config, call, given, traits, forced=answer_tool or tools.forced)
    given.drop_by_facts(sampling=traits.sampling)
    config |= _sampling(given)
    if (top_k := given.take("top_k")) is not None:
        extra["top_k"] = top_k
    if config:
        body["inferenceConfig"] = config
    if extra:
        body["additionalModelRequestFields"] = extra
    _tools(body, tools, names, given, uses_tools=bool(conversation.called))
    if answer_tool and schema is not None:
        body["toolConfig"] = _answer_tool(schema)
    _scalars(body, given)
    if conversation.system:
        body["system"] = list(_with_cache_points(conversation.system, call, names))
    body["messages"] = [_turn(turn, call, names) for turn in conversation.turns]
    return body, given.dropped


def _traits(call: Call) -> Traits:
    """Claude by its version; another model takes sampling, and what its facts say."""
    target = call.target
    if "claude" in target.model:
        return traits_of(target.model, target.facts)
    thinking = target.facts.get("thinking") or ("effort" if target.facts.get("reasoning") else "none")
    return Traits(
        sampling=target.facts.get("sampling", True),
        thinking=thinking,
        structured_output=target.facts.get("structured_output", False),
        efforts=tuple(target.facts.get("efforts") or ("low", "medium", "high")),
    )


def _structure(
    body: dict[str, Any], schema: Schema | None, traits: Traits, tools: Tools, conversation: Conversation
) -> bool:
    """Structured output: natively, else by a forced function (then True), else in words beside the caller's tools."""
    if schema is None:
        return False
    if schema.schema is not None and traits.structured_output:
        wanted = {"name": schema.name, "schema": orjson.dumps(closed(schema.schema)).decode()}
        body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": wanted}}}
    elif schema.schema is not None and not tools.functions and traits.forced_tools:
        return True
    else:
        conversation.system.append(Text(in_words(schema.schema)))
    return False


def _think(
    body: dict[str, Any], config: dict[str, Any], call: Call, given: Parameters, traits: Traits, *, forced: bool
) -> dict[str, Any]:
    """The model's own fields for thinking; the effort goes into `outputConfig`. A forced tool excludes thinking."""
    thinking = given.thinking()
    if thinking is None:
        return {}
    fields: dict[str, Any] = {}
    if thinking.off:
        if traits.thinking in ("budget", "adaptive"):
            fields = {"thinking": {"type": "disabled"}}
    elif traits.thinking in ("adaptive", "always", "effort"):
        effort = nearest_effort(thinking.level, traits.efforts)
        body["outputConfig"] = {**body.get("outputConfig", {}), "effort": effort}
        if traits.thinking == "adaptive" and not forced:
            fields = {"thinking": {"type": "adaptive"}}
    elif traits.thinking == "budget" and not forced:
        fields = _budget(config, thinking, call.target.max_output)
    if not thinking.off and fields:
        given.drop("temperature", "top_p", "top_k")
    elif not thinking.off and thinking.asked and "effort" not in body.get("outputConfig", {}):
        given.note("reasoning_effort")
    return fields


def _budget(config: dict[str, Any], thinking: Thinking, max_output: int | None) -> dict[str, Any]:
    """A budget below the limit of the output, and none where that leaves too little. A limit is then always sent."""
    limit = config.get("maxTokens") or max_output
    budget = max(MIN_BUDGET, thinking.tokens)
    budget = min(budget, limit - 1) if limit else budget
    if budget < MIN_BUDGET:
        return {}
    config.setdefault("maxTokens", limit or budget + DEFAULT_MAX_TOKENS)
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _sampling(given: Parameters) -> dict[str, Any]:
    config: dict[str, Any] = {}
    temperature, top_p = given.take("temperature"), given.take("top_p")
    if temperature is not None:
        config["temperature"] = min(temperature, 1)
    if top_p is not None and temperature is None:
        config["topP"] = top_p
    elif top_p not in (None, 1):
        given.note("top_p")
    if stop := given.stop(_MOST_STOPS):
        config["stopSequences"] = stop
    return config


def _scalars(body: dict[str, Any], given: Parameters) -> None:
    if user := given.user():
        body["requestMetadata"] = {"user": user[:256]}
    tier = given.word("service_tier")
    if tier in _TIERS:
        body["serviceTier"] = {"type": _TIERS[tier]}
    elif tier not in (None, "auto"):
        given.note("service_tier")


def _tools(body: dict[str, Any], tools: Tools, names: ToolNames, given: Parameters, *, uses_tools: bool) -> None:
    """The tools. With the choice `none` they are left out, unless the conversation already has calls of them."""
    if not tools.functions or (tools.mode == "none" and not uses_tools):
        return
    config: dict[str, Any] = {"tools": [{"toolSpec": _spec(function, names)} for function in tools.functions]}
    if tools.only:
        config["toolChoice"] = {"tool": {"name": names.there(tools.only)}}
    elif tools.mode in ("auto", "required"):
        config["toolChoice"] = {"any": {}} if tools.forced else {"auto": {}}
    if tools.parallel is False:
        given.note("parallel_tool_calls")
    body["toolConfig"] = config


def _spec(function: Function, names: ToolNames) -> dict[str, Any]:
    spec: dict[str, Any] = {"name": names.there(function.name), "inputSchema": {"json": function.parameters}}
    if function.description:
        spec["description"] = function.description
    if function.strict:
        spec |= {"strict": True, "inputSchema": {"json": closed(function.parameters)}}
    return spec


def _answer_tool(schema: Schema) -> dict[str, Any]:
    wanted = schema.schema or {"type": "object", "properties": {}}
    spec = {"name": ANSWER_TOOL, "inputSchema": {"json": wanted}}
    return {"tools": [{"toolSpec": spec}], "toolChoice": {"tool": {"name": ANSWER_TOOL}}}


def _turn(turn: Turn, call: Call, names: ToolNames) -> dict[str, Any]:
    return {"role": turn.role, "content": list(_with_cache_points(turn.parts, call, names))}


def _with_cache_points(parts: Iterable[Part], call: Call, names: ToolNames) -> Iterable[dict[str, Any]]:
    for number, part in enumerate(parts):
        yield _block(part, call, names, number)
        if isinstance(part, Text | Media) and part.cache:
            ttl = {"ttl": part.cache["ttl"]} if part.cache.get("ttl") else {}
            yield {"cachePoint": {"type": "default", **ttl}}


def _block(part: Part, call: Call, names: ToolNames, number: int) -> dict[str, Any]:
    match part:
        case Text():
            return {"text": part.text}
        case Media():
            return _media(part, call, number)
        case ToolCall():
            tool = {"toolUseId": legal_id(part.id), "name": names.there(part.name), "input": part.arguments}
            return {"toolUse": tool}
        case ToolResult():
            content = [_block(each, call, names, place) for place, each in enumerate(part.content)]
            return {"toolResult": {"toolUseId": legal_id(part.id), "content": content or [{"text": "(no result)"}]}}
        case Thought():
            if part.data is not None:
                return {"reasoningContent": {"redactedContent": part.data}}
            text = {"text": part.text or "", "signature": part.signature}
            return {"reasoningContent": {"reasoningText": text}}


def _media(part: Media, call: Call, number: int) -> dict[str, Any]:
    name = _FORMAT_OF.get(part.media_type, part.media_type.rpartition("/")[2])
    if part.data is None or name not in _FORMATS[part.kind]:
        what = "content by its address" if part.data is None else f"content of the type {part.media_type}"
        raise unsupported(call, f"{part.kind} {what}")
    media: dict[str, Any] = {"format": name, "source": {"bytes": part.data}}
    if part.kind != "file":
        return {part.kind: media}
    return {"document": {**media, "name": _document_name(part.name, number)}}


def _document_name(name: str | None, number: int) -> str:
    """Letters, digits, single spaces, hyphens and brackets are allowed there, and names differ within a request."""
    stem = (name or "").rpartition(".")[0] or name or "document"
    clean = "".join(char if char.isascii() and (char.isalnum() or char in "-()[]") else " " for char in stem)
    return f"{' '.join(clean.split())[:180] or 'document'} {number + 1}"
