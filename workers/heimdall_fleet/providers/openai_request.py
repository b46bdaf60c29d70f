"""A canonical body worded for one OpenAI-compatible server. What it cannot take is dropped and named."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from heimdall_fleet.providers.compat import EXTENSIONS, LADDER, SAMPLING, Profile
from heimdall_fleet.providers.dialect import Call
from heimdall_fleet.providers.json_schemas import in_words
from heimdall_fleet.providers.shapes import object_of

_REPLACED = frozenset({"heimdall", "model", "stream", "stream_options"})
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "temperature": (1,),
    "top_p": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logprobs": (False,),
    "n": (1,),
    "store": (False,),
}
_SHORT_ID = re.compile(r"[A-Za-z0-9]{9}")
_SCHEMA_NOTES = ("$id", "$schema")
_OF_TOOLS = frozenset({"tools", "tool_choice", "parallel_tool_calls"})


@dataclass(slots=True)
class _Draft:
    body: dict[str, Any]
    call: Call
    profile: Profile
    facts: Mapping[str, Any]
    dropped: list[str] = field(default_factory=list)

    def drop(self, names: Iterable[str]) -> None:
        """Leave these out. A value that only repeats the default is not worth a word."""
        for name in names:
            if name in self.body and self.body.pop(name) not in NEUTRAL.get(name, ()):
                self.dropped.append(name)


def wire_body(call: Call, profile: Profile) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The JSON object to send, and the names of the caller's parameters that are not in it."""
    given = {name: value for name, value in call.body.items() if value is not None and name not in _REPLACED}
    draft = _Draft(given, call, profile, call.target.facts)
    _effort(draft)
    _refused(draft)
    _limit(draft)
    if not _OF_TOOLS.isdisjoint(given):
        _tools(draft)
    told = _response_format(draft) if "response_format" in given else []
    draft.body["messages"] = told + [_message(message, draft) for message in call.body.get("messages", ())]
    for name, name_there in profile.renames.items():
        if name in draft.body:
            draft.body[name_there] = draft.body.pop(name)
    _routing(draft)
    body = {"model": call.target.model, **draft.body}
    if call.stream:
        body["stream"] = True
        if profile.stream_usage:
            body["stream_options"] = {**object_of(call.body.get("stream_options")), "include_usage": True}
    return body, tuple(dict.fromkeys(draft.dropped)) if draft.dropped else ()


def _effort(draft: _Draft) -> None:
    """The caller's reasoning effort, else the bucket's where the model is known to reason."""
    asked = draft.body.get("reasoning_effort") or object_of(draft.body.get("reasoning")).get("effort")
    effort = asked
    if effort is None and draft.facts.get("reasoning"):
        effort = draft.call.settings.get("reasoning_effort")
    if effort is None:
        return
    draft.body.pop("reasoning_effort", None)
    if draft.facts.get("reasoning") is False or draft.profile.effort_style == "none":
        draft.dropped.append("reasoning_effort")
    elif draft.profile.effort_style == "switch":
        draft.body.setdefault("thinking", {"type": "disabled" if effort == "none" else "enabled"})
    elif "reasoning" not in draft.body or "reasoning" not in draft.profile.extras:
        draft.body["reasoning_effort"] = nearest_effort(effort, draft.facts.get("efforts") or draft.profile.efforts)


def nearest_effort(effort: str, allowed: Iterable[str]) -> str:
    """`effort` itself, or the nearest one that is allowed, the lower of two. An unknown word is passed on."""
    known = [word for word in LADDER if word in allowed]
    if effort in known or effort not in LADDER or not known:
        return effort
    wanted = LADDER.index(effort)
    return min(known, key=lambda word: (abs(LADDER.index(word) - wanted), LADDER.index(word)))


def _refused(draft: _Draft) -> None:
    profile = draft.profile
    if foreign := _foreign(profile.drops, profile.extras).intersection(draft.body):
        draft.drop(sorted(foreign))
    if profile.takes is not None:
        limits = {"max_tokens", "max_completion_tokens"}
        draft.drop(sorted(draft.body.keys() - profile.takes - profile.extras - limits))
    if draft.facts.get("sampling") is False:
        draft.drop(sorted(SAMPLING))
    elif draft.facts.get("reasoning") and not draft.facts.get("sampling"):
        draft.drop(sorted(profile.reasoning_drops))
    if draft.facts.get("stop") is False:
        draft.drop(["stop"])


@lru_cache(maxsize=64)
def _foreign(drops: frozenset[str], extras: frozenset[str]) -> frozenset[str]:
    return drops | (EXTENSIONS - extras)


def _limit(draft: _Draft) -> None:
    """The caller's output limit, else the configured one, under the server's name; never above what the model can write."""
    new, old = draft.body.pop("max_completion_tokens", None), draft.body.pop("max_tokens", None)
    tokens = new or old or draft.call.target.usual_output
    if not tokens:
        return
    name = draft.profile.limit
    if name == "by_model":
        name = "max_completion_tokens" if draft.facts.get("reasoning") else "max_tokens"
    draft.body[name] = min(tokens, draft.call.target.max_output or tokens)


def _tools(draft: _Draft) -> None:
    tools = draft.body.get("tools")
    if not tools:
        for name in _OF_TOOLS.intersection(draft.body):
            del draft.body[name]
    elif not draft.profile.strict_schema:
        draft.body["tools"] = [_plain_tool(tool) for tool in tools]


def _plain_tool(tool: dict[str, Any]) -> dict[str, Any]:
    function = {name: value for name, value in object_of(tool.get("function")).items() if name != "strict"}
    if isinstance(function.get("parameters"), dict):
        function["parameters"] = {k: v for k, v in function["parameters"].items() if k not in _SCHEMA_NOTES}
    return {**tool, "function": function}


def _response_format(draft: _Draft) -> list[dict[str, Any]]:
    """The message that tells of a schema in words, where the server takes none; such a server keeps to JSON at least."""
    wanted = object_of(draft.body.get("response_format"))
    if draft.profile.json_schema or wanted.get("type") != "json_schema":
        return []
    draft.body["response_format"] = {"type": "json_object"}
    draft.dropped.append("response_format.json_schema")
    schema = object_of(object_of(wanted.get("json_schema")).get("schema"))
    return [{"role": "system", "content": in_words(schema)}]


def _message(message: dict[str, Any], draft: _Draft) -> dict[str, Any]:
    """Without nulls, our own annotations, and what this server refuses."""
    drops = draft.profile.message_drops
    sent = {k: v for k, v in message.items() if v is not None and k not in drops and k != "annotations"}
    if "tool_calls" in sent and not sent["tool_calls"]:
        del sent["tool_calls"]
    if draft.profile.short_tool_ids:
        _shorten_ids(sent)
    if sent.get("role") == "assistant":
        if object_of(draft.body.get("thinking")).get("type") == "enabled":
            sent.setdefault("reasoning_content", "")
        if "tool_calls" not in sent:
            sent.setdefault("content", "")
    return sent


def _shorten_ids(message: dict[str, Any]) -> None:
    if isinstance(message.get("tool_call_id"), str):
        message["tool_call_id"] = _short_id(message["tool_call_id"])
    if "tool_calls" in message:
        message["tool_calls"] = [{**call, "id": _short_id(str(call.get("id")))} for call in message["tool_calls"]]


def _short_id(tool_call_id: str) -> str:
    """Nine letters or digits, the same for the same id, so that results still find their calls."""
    if _SHORT_ID.fullmatch(tool_call_id):
        return tool_call_id
    return hashlib.blake2b(tool_call_id.encode(), digest_size=8).hexdigest()[:9]


def _routing(draft: _Draft) -> None:
    """OpenRouter's own choice of a host (`meta.provider`) and a budget for models that think in tokens."""
    if "provider" not in draft.profile.extras or draft.call.target.type != "openrouter":
        return
    preferences = draft.call.target.meta.get("provider")
    if preferences:
        draft.body["provider"] = {**preferences, **object_of(draft.body.get("provider"))}
    budget = draft.call.settings.get("thinking_budget")
    if budget and draft.facts.get("reasoning") and not draft.body.keys() & {"reasoning", "reasoning_effort"}:
        draft.body["reasoning"] = {"max_tokens": budget}
