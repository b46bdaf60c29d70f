"""What Cohere's chat answers, whole and as a stream."""

from collections.abc import Mapping
from typing import Any

from heimdall_fleet.providers.canonical import Answer, Place
from heimdall_fleet.providers.cohere_request import THOUGHTS, tool_names
from heimdall_fleet.providers.dialect import AttemptError, Call
from heimdall_fleet.providers.failures import failure_inside, malformed
from heimdall_fleet.providers.shapes import list_of, object_of, place_of, text_of
from heimdall_fleet.providers.usage import canonical_usage

FINISH_REASONS: Mapping[str, str] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
}
FAILED: Mapping[str, str] = {"ERROR": "server_error", "TIMEOUT": "timeout"}


def usage_of(raw: dict[str, Any]) -> dict[str, Any]:
    """Canonical counts of tokens; `billed_units` leave out what Cohere adds to a prompt."""
    tokens = object_of(raw.get("tokens")) or object_of(raw.get("billed_units"))
    return canonical_usage(tokens.get("input_tokens"), tokens.get("output_tokens"), cached=raw.get("cached_tokens"))


class CohereEvents:
    """The events of one stream, and the parts of one plain answer."""

    def __init__(self, call: Call, now_s: float) -> None:
        self.answer = Answer(call, now_s)
        self._call = call
        self._names = tool_names(call)
        self._tools: dict[Any, Place] = {}
        self._thoughts: dict[Any, str] = {}
        self._ended = False

    @property
    def ended(self) -> bool:
        return self._ended

    def on(self, name: str, event: dict[str, Any]) -> None:
        delta, index = object_of(event.get("delta")), place_of(event.get("index"))
        message = object_of(delta.get("message"))
        match text_of(event.get("type")) or name:
            case "message-start":
                self.answer.begin(event.get("id"))
            case "content-start" | "content-delta":
                self._content(index, object_of(message.get("content")))
            case "content-end":
                self._close(index)
            case "tool-plan-delta":
                self.answer.reasoning(message.get("tool_plan"))
            case "tool-call-start":
                self._open(index, object_of(message.get("tool_calls")))
            case "tool-call-delta" if index in self._tools:
                function = object_of(object_of(message.get("tool_calls")).get("function"))
                self.answer.arguments(self._tools[index], function.get("arguments"))
            case "message-end":
                self._end(delta.get("finish_reason"), delta.get("usage"), delta.get("error"))

    def whole(self, response: dict[str, Any]) -> None:
        message = object_of(response.get("message"))
        if not message and text_of(response.get("finish_reason")) not in FAILED:
            raise malformed("the answer has no message", secret=self._call.secret)
        self.answer.begin(response.get("id"))
        self.answer.reasoning(message.get("tool_plan"))
        for index, part in enumerate(map(object_of, list_of(message.get("content")))):
            self._content(index, part)
            self._close(index)
        for index, tool in enumerate(map(object_of, list_of(message.get("tool_calls")))):
            self._open(index, tool)
        self._end(response.get("finish_reason"), response.get("usage"), response.get("error"))

    def _content(self, index: Any, content: dict[str, Any]) -> None:
        self.answer.text(content.get("text"))
        thought = text_of(content.get("thinking"))
        if thought:
            self.answer.reasoning(thought)
            self._thoughts[index] = self._thoughts.get(index, "") + thought

    def _close(self, index: Any) -> None:
        thought = self._thoughts.pop(index, None)
        if thought:
            self.answer.detail({"type": "reasoning.text", "text": thought, "format": THOUGHTS})

    def _open(self, index: Any, tool: dict[str, Any]) -> None:
        function = object_of(tool.get("function"))
        name = self._names.here(text_of(function.get("name")) or "")
        self._tools[index] = self.answer.tool(tool.get("id"), name, text_of(function.get("arguments")) or "")

    def _end(self, reason: Any, usage: Any, error: Any) -> None:
        reason = text_of(reason)
        if error or reason in FAILED:
            message = text_of(error) or f"the answer ended with {reason}"
            found = {"message": message, "code": FAILED.get(reason or "", "server_error")}
            raise AttemptError(failure_inside(self._call.target.type, {"error": found}, secret=self._call.secret))
        if reason:
            self.answer.finish(FINISH_REASONS.get(reason, "stop"), reason)
        if object_of(usage):
            self.answer.usage(usage_of(usage))
        self._ended = True
