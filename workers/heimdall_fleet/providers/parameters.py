"""The caller's parameters, taken one by one. What a dialect never takes its target cannot be told: dropped, by name."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from heimdall_fleet.providers.compat import LADDER, SAMPLING
from heimdall_fleet.providers.dialect import Call
from heimdall_fleet.providers.openai_request import NEUTRAL
from heimdall_fleet.providers.shapes import list_of, object_of, text_of

_ELSEWHERE = frozenset({"heimdall", "model", "stream", "stream_options", "messages"})
_SAYS_NOTHING: Mapping[str, tuple[Any, ...]] = {
    **NEUTRAL,
    "response_format": ({"type": "text"},),
    "logit_bias": ({},),
    "parallel_tool_calls": (True,),
    "modalities": (["text"],),
}
_REASONING = ("reasoning_effort", "reasoning", "thinking")
_EMPTY_OBJECT: Mapping[str, Any] = {"type": "object", "properties": {}}

# Efforts as token budgets and back (litellm's defaults).
BUDGETS: Mapping[str, int] = {
    "none": 0,
    "minimal": 128,
    "low": 1024,
    "medium": 2048,
    "high": 4096,
    "xhigh": 8192,
    "max": 16384,
}


class Parameters:
    """The parameters of one call, without nulls."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._left = {n: v for n, v in call.body.items() if v is not None and n not in _ELSEWHERE}
        self._dropped: list[str] = []

    def take(self, name: str) -> Any:
        """The value, or None."""
        return self._left.pop(name, None)

    def word(self, name: str) -> str | None:
        """The value where it is a text, or None; anything else is left out by its name."""
        if not isinstance(self._left.get(name), str):
            self.drop(name)
        return text_of(self.take(name))

    def drop(self, *names: str) -> None:
        """Leave these out. A value that only repeats the default is not worth a word."""
        for name in names:
            if name in self._left and self._left.pop(name) not in _SAYS_NOTHING.get(name, ()):
                self._dropped.append(name)

    def note(self, name: str) -> None:
        """A part of a parameter that was taken is left out."""
        self._dropped.append(name)

    def drop_by_facts(self, *, sampling: bool | None = None) -> None:
        """What this model refuses: the catalogue's word, else `sampling`."""
        facts = self._call.target.facts
        if facts.get("sampling", sampling) is False:
            self.drop(*sorted(SAMPLING | {"top_k"}))
        if facts.get("stop") is False:
            self.drop("stop")

    @property
    def dropped(self) -> tuple[str, ...]:
        """Everything of the caller's that is not in the request."""
        self.drop(*sorted(self._left))
        return tuple(dict.fromkeys(self._dropped))

    def limit(self) -> int | None:
        """The caller's output limit, else the configured one; never above what the model can write."""
        new, old = self.take("max_completion_tokens"), self.take("max_tokens")
        tokens = new or old or self._call.target.usual_output
        return min(tokens, self._call.target.max_output or tokens) if tokens else None

    def stop(self, most: int) -> list[str]:
        """Stop sequences that are more than white space, at most so many."""
        given = self.take("stop")
        words = [given] if isinstance(given, str) else [word for word in list_of(given) if isinstance(word, str)]
        words = [word for word in words if word.strip()]
        if len(words) > most:
            self.note("stop")
        return words[:most]

    def user(self) -> str | None:
        identifier, user = text_of(self.take("safety_identifier")), text_of(self.take("user"))
        return identifier or user

    def thinking(self) -> "Thinking | None":
        """How much to think: the caller's word, else the bucket's where the model is known to reason."""
        given = {name: self.take(name) for name in _REASONING if name in self._left}
        asked = _asked(given)
        reasons = self._call.target.facts.get("reasoning")
        if asked is not None:
            if reasons is False:
                self._dropped += given if asked.effort != "none" else ()
                return None
            return asked
        settings = self._call.settings
        effort, budget = settings.get("reasoning_effort"), settings.get("thinking_budget")
        return Thinking(effort, budget, asked=False) if reasons and (effort or budget is not None) else None

    def schema(self) -> "Schema | None":
        """The JSON that is asked for; `schema` None is any object."""
        wanted = object_of(self.take("response_format"))
        if wanted.get("type") == "json_schema":
            inner = object_of(wanted.get("json_schema"))
            strict = inner.get("strict") is True
            return Schema(text_of(inner.get("name")) or "answer", object_of(inner.get("schema")), strict)
        return Schema("answer", None) if wanted.get("type") == "json_object" else None


@dataclass(frozen=True, slots=True)
class Thinking:
    """An effort, a budget in tokens, or both; each stands for the other where only one is known."""

    effort: str | None
    budget: int | None
    asked: bool

    @property
    def tokens(self) -> int:
        if self.budget is not None and (not self.asked or self.effort is None):
            return self.budget
        return BUDGETS.get(self.effort or "", BUDGETS["medium"])

    @property
    def level(self) -> str:
        if self.effort is not None:
            return self.effort
        tokens = self.budget or 0
        return max((word for word in LADDER if BUDGETS[word] <= tokens), key=lambda word: BUDGETS[word])

    @property
    def off(self) -> bool:
        return self.tokens == 0 if self.effort is None else self.effort == "none"


@dataclass(frozen=True, slots=True)
class Schema:
    name: str
    schema: dict[str, Any] | None
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Function:
    name: str
    description: str | None
    parameters: dict[str, Any]
    strict: bool | None


@dataclass(frozen=True, slots=True)
class Tools:
    """The functions that may be called. `mode` is auto, none or required; `only` is the one that must be."""

    functions: tuple[Function, ...] = ()
    mode: str | None = None
    only: str | None = None
    parallel: bool | None = None

    @property
    def forced(self) -> bool:
        return self.mode == "required"


def take_tools(given: Parameters, called: Iterable[str] = ()) -> Tools:
    """The tools of a call in one form, whichever spelling of the choice was used.

    `called` are the functions that the conversation has calls of. Where the caller lists none any more, they stand in
    for the list, not to be called again: some providers refuse a call of a function that is not declared.
    """
    tools, choice, parallel = (given.take(name) for name in ("tools", "tool_choice", "parallel_tool_calls"))
    functions = []
    for tool in list_of(tools):
        if object_of(tool).get("type", "function") == "function":
            functions.append(_function(object_of(tool.get("function"))))
        else:
            given.note(f"tools.{object_of(tool).get('type')}")
    mode, names = _choice(choice)
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        functions = [function for function in functions if function.name in names]
        names = ()
    if not functions:
        known = [Function(name, None, dict(_EMPTY_OBJECT), None) for name in dict.fromkeys(called)]
        return Tools(tuple(known), "none") if known else Tools()
    return Tools(tuple(functions), mode, next(iter(names), None), parallel if isinstance(parallel, bool) else None)


def _function(function: dict[str, Any]) -> Function:
    parameters = object_of(function.get("parameters")) or dict(_EMPTY_OBJECT)
    if parameters.get("type") == "object" and "properties" not in parameters:
        parameters = {**parameters, "properties": {}}
    strict = function.get("strict")
    return Function(
        text_of(function.get("name")) or "",
        text_of(function.get("description")),
        parameters,
        strict if isinstance(strict, bool) else None,
    )


def _choice(choice: Any) -> tuple[str | None, tuple[str, ...]]:
    if isinstance(choice, str):
        return {"any": "required"}.get(choice, choice), ()
    choice = object_of(choice)
    if choice.get("type") == "allowed_tools":
        allowed = object_of(choice.get("allowed_tools")) or choice
        return text_of(allowed.get("mode")) or "auto", tuple(_tool_names(list_of(allowed.get("tools"))))
    name = next(iter(_tool_names([choice])), None)
    return ("required", (name,)) if name else (None, ())


def _tool_names(tools: Iterable[Any]) -> Iterable[str]:
    for tool in map(object_of, tools):
        name = object_of(tool.get("function")).get("name") or tool.get("name")
        if isinstance(name, str):
            yield name


def _asked(given: Mapping[str, Any]) -> Thinking | None:
    reasoning, thinking = object_of(given.get("reasoning")), object_of(given.get("thinking"))
    effort = text_of(given.get("reasoning_effort")) or text_of(reasoning.get("effort"))
    budget = reasoning.get("max_tokens") or thinking.get("budget_tokens")
    if effort is None and (thinking.get("type") == "disabled" or reasoning.get("enabled") is False):
        effort = "none"
    if effort is None and budget is None and (thinking or reasoning):
        effort = "medium"
    if effort is None and not isinstance(budget, int):
        return None
    return Thinking(effort, budget if isinstance(budget, int) else None, asked=True)
