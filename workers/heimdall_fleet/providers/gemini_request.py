"""A canonical body in the words of Gemini's generateContent."""

from collections.abc import Iterable, Mapping
from typing import Any

from heimdall_fleet.providers.conversation import (
    Media,
    Part,
    Text,
    Thought,
    ToolCall,
    ToolResult,
    Turn,
    arguments_of,
    read_conversation,
)
from heimdall_fleet.providers.dialect import Call
from heimdall_fleet.providers.gemini_models import LEVELS, Traits, traits_of
from heimdall_fleet.providers.openai_request import nearest_effort
from heimdall_fleet.providers.parameters import Function, Parameters, Tools, take_tools
from heimdall_fleet.providers.tool_names import ToolNames

THOUGHTS = "google-gemini-v1"
# What Google documents for a function call that a Gemini 3 did not write itself.
UNSIGNED = "skip_thought_signature_validator"
_LONGEST_NAME = 64
_MOST_STOPS = 5
_ROLES = {"user": "user", "assistant": "model"}
_TOOL_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
_SERVICE_TIERS = frozenset({"flex", "standard", "priority"})
_SCALARS: Mapping[str, str] = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "n": "candidateCount",
    "seed": "seed",
    "logprobs": "responseLogprobs",
    "top_logprobs": "logprobs",
    "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty",
}


def tool_names(call: Call) -> ToolNames:
    return ToolNames(call.body, _LONGEST_NAME)


def gemini_body(call: Call, *, labels: bool = False) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body, and the names of the caller's parameters that are not in it. `labels`: the host takes them (Vertex)."""
    given = Parameters(call)
    traits = traits_of(call.target.model, call.target.facts)
    names = tool_names(call)
    conversation = read_conversation(call, THOUGHTS)
    body: dict[str, Any] = {
        "contents": [_turn(turn, names, traits) for turn in conversation.turns],
    }
    if conversation.system:
        body["systemInstruction"] = {"parts": [{"text": part.text} for part in conversation.system]}
    body |= _tools(take_tools(given), names, given)
    config = _thinking(given, traits)
    given.drop_by_facts()
    if not traits.penalties:
        given.drop("frequency_penalty", "presence_penalty")
    config |= _generation(given)
    if config:
        body["generationConfig"] = config
    user = given.take("user") if labels else None
    if isinstance(user, str):
        body["labels"] = {"user": label_of(user)}
    tier = given.word("service_tier")
    tier = "standard" if tier == "default" else tier
    if tier in _SERVICE_TIERS:
        body["serviceTier"] = tier
    elif tier not in (None, "auto"):
        given.note("service_tier")
    return body, given.dropped


def label_of(user: str) -> str:
    """A label's value: at most 63 lower-case letters, digits, `_` and `-`."""
    return "".join(char if char.isascii() and (char.isalnum() or char in "_-") else "_" for char in user.lower())[:63]


def _generation(given: Parameters) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if limit := given.limit():
        config["maxOutputTokens"] = limit
    if stop := given.stop(_MOST_STOPS):
        config["stopSequences"] = stop
    for name, name_there in _SCALARS.items():
        value = given.take(name)
        if value is not None:
            config[name_there] = value
    schema = given.schema()
    if schema is not None:
        config["responseMimeType"] = "application/json"
        if schema.schema is not None:
            config["responseJsonSchema"] = schema.schema
    return config


def _thinking(given: Parameters, traits: Traits) -> dict[str, Any]:
    thinking = given.thinking()
    if thinking is None:
        return {}
    if traits.thinking == "none":
        if thinking.asked and not thinking.off:
            given.note("reasoning_effort")
        return {}
    if traits.thinking == "level":
        level = "minimal" if thinking.off else nearest_effort(thinking.level, LEVELS)
        return {"thinkingConfig": {"thinkingLevel": level.upper(), "includeThoughts": True}}
    least, most = traits.budget
    budget = min(max(least, 0 if thinking.off else thinking.tokens), most)
    return {"thinkingConfig": {"thinkingBudget": budget, "includeThoughts": budget > 0}}


def _tools(tools: Tools, names: ToolNames, given: Parameters) -> dict[str, Any]:
    if not tools.functions:
        return {}
    if tools.parallel is False:
        given.note("parallel_tool_calls")
    body: dict[str, Any] = {
        "tools": [{"functionDeclarations": [_declaration(each, names) for each in tools.functions]}]
    }
    if tools.mode is not None:
        config: dict[str, Any] = {"mode": _TOOL_MODES.get(tools.mode, "AUTO")}
        if tools.only:
            config["allowedFunctionNames"] = [names.there(tools.only)]
        body["toolConfig"] = {"functionCallingConfig": config}
    return body


def _declaration(function: Function, names: ToolNames) -> dict[str, Any]:
    declaration: dict[str, Any] = {"name": names.there(function.name), "parametersJsonSchema": function.parameters}
    if function.description is not None:
        declaration["description"] = function.description
    return declaration


def _turn(turn: Turn, names: ToolNames, traits: Traits) -> dict[str, Any]:
    signatures = {part.id: part.data for part in turn.parts if isinstance(part, Thought) and part.data}
    parts = [_part(part, names, traits, signatures) for part in turn.parts if not isinstance(part, Thought)]
    if None in signatures:
        carrier = next((part for part in parts if "text" in part), None)
        if carrier is not None:
            carrier["thoughtSignature"] = signatures[None]
    _sign_first_call(parts, traits)
    return {"role": _ROLES[turn.role], "parts": parts}


def _sign_first_call(parts: Iterable[dict[str, Any]], traits: Traits) -> None:
    """The first call of a turn needs a signature; that of another model is stood in for."""
    first = next((part for part in parts if "functionCall" in part), None)
    if first is not None and traits.tool_ids:
        first.setdefault("thoughtSignature", UNSIGNED)


def _part(part: Part, names: ToolNames, traits: Traits, signatures: Mapping[str | None, str | None]) -> dict[str, Any]:
    match part:
        case Text():
            return {"text": part.text}
        case Media(data=None):
            return {"fileData": {"fileUri": part.url, "mimeType": part.media_type}}
        case Media():
            return {"inlineData": {"mimeType": part.media_type, "data": part.data}}
        case ToolCall():
            call: dict[str, Any] = {"name": names.there(part.name), "args": part.arguments}
            if traits.tool_ids:
                call["id"] = part.id
            signature = signatures.get(part.id)
            return {"functionCall": call, **({"thoughtSignature": signature} if signature else {})}
        case ToolResult():
            return _result(part, names, traits)
        case Thought():
            return {"text": part.text or "", "thought": True}


def _result(part: ToolResult, names: ToolNames, traits: Traits) -> dict[str, Any]:
    """The result as the object that Gemini insists on; what is none is wrapped."""
    text = part.text
    response = arguments_of(text) if text.lstrip().startswith("{") else {"result": text}
    result: dict[str, Any] = {"name": names.there(part.name), "response": response}
    if traits.tool_ids:
        result["id"] = part.id
    media = [each for each in part.content if isinstance(each, Media)]
    if media:
        result["parts"] = [_part(each, names, traits, {}) for each in media]
    return {"functionResponse": result}
