"""A whole completion from its canonical chunks."""

from dataclasses import dataclass, field
from typing import Any

from heimdall_fleet.providers.shapes import list_of, object_of, text_of

_JOINED = ("content", "reasoning_content", "refusal")


@dataclass(slots=True)
class _Choice:
    texts: dict[str, list[str]] = field(default_factory=dict)
    reasoning_details: list[Any] = field(default_factory=list)
    tool_calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    arguments: dict[int, list[str]] = field(default_factory=dict)
    logprobs: list[Any] = field(default_factory=list)
    finish_reason: str | None = None

    def message(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
        message |= {name: "".join(parts) for name, parts in self.texts.items()}
        if self.reasoning_details:
            message["reasoning_details"] = self.reasoning_details
        if self.tool_calls:
            message["tool_calls"] = [self._tool_call(index) for index in sorted(self.tool_calls)]
            message["content"] = message["content"] or None
        elif message["content"] is None:
            message["content"] = ""
        return message

    def _tool_call(self, index: int) -> dict[str, Any]:
        call = self.tool_calls[index]
        name = call.get("function", {}).get("name") or ""
        arguments = "".join(self.arguments.get(index, ())) or "{}"
        return {
            "id": call.get("id") or f"call_{index}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }


class Assembly:
    """Give it every chunk in order; it holds no more than the answer itself.

    Tool calls arrive in fragments: identity in the first, arguments spread over all, joined by their index.
    """

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self._usage: dict[str, Any] | None = None

    def add(self, chunk: dict[str, Any]) -> None:
        if not self._head:
            self._head = {name: chunk[name] for name in ("id", "created", "model")}
        for name in ("system_fingerprint", "service_tier", "provider"):
            if chunk.get(name) is not None:
                self._head[name] = chunk[name]
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk["choices"]:
            self._add_choice(choice)

    def _add_choice(self, part: dict[str, Any]) -> None:
        choice = self._choices.setdefault(part["index"], _Choice())
        delta = part["delta"]
        for name in _JOINED:
            text = delta.get(name)
            if isinstance(text, str):
                choice.texts.setdefault(name, []).append(text)
        choice.reasoning_details += list_of(delta.get("reasoning_details"))
        for fragment in delta.get("tool_calls", ()):
            _add_fragment(choice, fragment)
        choice.logprobs += list_of(object_of(part.get("logprobs")).get("content"))
        choice.finish_reason = part.get("finish_reason") or choice.finish_reason

    @property
    def finished(self) -> bool:
        """There is at least one choice, and each has its finish reason."""
        return bool(self._choices) and all(choice.finish_reason for choice in self._choices.values())

    def completion(self) -> dict[str, Any]:
        """The `chat.completion`; `usage` is absent when no chunk carried any."""
        choices = [
            {
                "index": index,
                "message": choice.message(),
                "logprobs": {"content": choice.logprobs} if choice.logprobs else None,
                "finish_reason": choice.finish_reason,
            }
            for index, choice in sorted(self._choices.items())
        ]
        completion = {**self._head, "object": "chat.completion", "choices": choices}
        if self._usage is not None:
            completion["usage"] = self._usage
        return completion


def _add_fragment(choice: _Choice, fragment: dict[str, Any]) -> None:
    index = fragment["index"]
    call = choice.tool_calls.setdefault(index, {})
    function = fragment.get("function", {})
    if text_of(fragment.get("id")):
        call["id"] = fragment["id"]
    if text_of(function.get("name")):
        call["function"] = {"name": function["name"]}
    if function.get("arguments"):
        choice.arguments.setdefault(index, []).append(function["arguments"])
