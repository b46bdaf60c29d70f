"""What Anthropic's Messages API answers, whole and as a stream."""

from collections.abc import Mapping
from typing import Any

import orjson

from heimdall_fleet.providers.anthropic_request import THOUGHTS, tool_names
from heimdall_fleet.providers.canonical import Answer
from heimdall_fleet.providers.dialect import AttemptError, Call
from heimdall_fleet.providers.failures import failure_inside, malformed
from heimdall_fleet.providers.json_schemas import ANSWER_TOOL
from heimdall_fleet.providers.shapes import list_of, object_of, place_of, text_of
from heimdall_fleet.providers.usage import canonical_usage, count

FINISH_REASONS: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def usage_of(raw: dict[str, Any]) -> dict[str, Any]:
    """Canonical counts: Anthropic's input excludes what was read from and written to the cache."""
    cached, written = count(raw.get("cache_read_input_tokens")), count(raw.get("cache_creation_input_tokens"))
    return canonical_usage(
        count(raw.get("input_tokens")) + cached + written,
        raw.get("output_tokens"),
        cached=cached,
        cache_write=written,
        reasoning=object_of(raw.get("output_tokens_details")).get("thinking_tokens"),
    )


class ClaudeEvents:
    """The named events of one stream, and the blocks of one plain answer."""

    def __init__(self, call: Call, now_s: float) -> None:
        self.answer = Answer(call, now_s)
        self._call = call
        self._names = tool_names(call)
        self._usage: dict[str, Any] = {}
        self._blocks: dict[Any, dict[str, Any]] = {}
        self._ended = False

    @property
    def ended(self) -> bool:
        return self._ended

    def on(self, name: str, event: dict[str, Any]) -> None:
        kind, index = text_of(event.get("type")) or name, place_of(event.get("index"))
        match kind:
            case "message_start":
                message = object_of(event.get("message"))
                self.answer.begin(message.get("id"))
                self._count(message.get("usage"))
            case "content_block_start":
                self._open(index, object_of(event.get("content_block")))
            case "content_block_delta":
                self._delta(self._blocks.get(index, {}), object_of(event.get("delta")))
            case "content_block_stop":
                self._close(self._blocks.pop(index, {}))
            case "message_delta":
                self._count(event.get("usage"))
                self._finish(object_of(event.get("delta")).get("stop_reason"))
            case "message_stop":
                self._ended = True
                self._report()
            case "error":
                raise AttemptError(failure_inside(self._call.target.type, event, secret=self._call.secret))

    def whole(self, message: dict[str, Any]) -> None:
        if not isinstance(message.get("content"), list):
            raise malformed("the answer has no content", secret=self._call.secret)
        self.answer.begin(message.get("id"))
        for index, block in enumerate(map(object_of, list_of(message["content"]))):
            self._open(index, block, whole=True)
            self._close(self._blocks.pop(index, {}))
        self._count(message.get("usage"))
        self._finish(message.get("stop_reason"))
        self._report()

    def _open(self, index: Any, block: dict[str, Any], *, whole: bool = False) -> None:
        """A block begins. A stream opens tool calls with an empty input and sends it in pieces."""
        kept = self._blocks[index] = {"type": block.get("type"), "text": [], "signature": block.get("signature")}
        match block.get("type"):
            case "text":
                self.answer.text(block.get("text"))
            case "thinking":
                self._think(kept, block.get("thinking"))
            case "redacted_thinking":
                detail = {"type": "reasoning.encrypted", "data": block.get("data"), "format": THOUGHTS}
                self.answer.detail(detail)
            case "tool_use":
                self._open_tool(kept, block, orjson.dumps(block.get("input")).decode() if whole else "")

    def _open_tool(self, kept: dict[str, Any], block: dict[str, Any], arguments: str) -> None:
        name = text_of(block.get("name")) or ""
        if name == ANSWER_TOOL:
            kept["type"] = "answer_tool"
            self.answer.text(arguments)
        else:
            kept["place"] = self.answer.tool(block.get("id"), self._names.here(name), arguments)

    def _delta(self, block: dict[str, Any], delta: dict[str, Any]) -> None:
        match delta.get("type"):
            case "text_delta":
                self.answer.text(delta.get("text"))
            case "thinking_delta":
                self._think(block, delta.get("thinking"))
            case "signature_delta":
                block["signature"] = delta.get("signature")
            case "input_json_delta" if block.get("type") == "answer_tool":
                self.answer.text(delta.get("partial_json"))
            case "input_json_delta" if "place" in block:
                self.answer.arguments(block["place"], delta.get("partial_json"))

    def _think(self, block: dict[str, Any], text: Any) -> None:
        self.answer.reasoning(text)
        if text_of(text):
            block.setdefault("text", []).append(text)

    def _close(self, block: dict[str, Any]) -> None:
        if block.get("type") == "thinking" and text_of(block.get("signature")):
            text = "".join(block["text"])
            detail = {"type": "reasoning.text", "text": text, "signature": block["signature"], "format": THOUGHTS}
            self.answer.detail(detail)

    def _count(self, usage: Any) -> None:
        self._usage |= {name: value for name, value in object_of(usage).items() if value is not None}

    def _finish(self, reason: Any) -> None:
        if text_of(reason):
            self.answer.finish(FINISH_REASONS.get(reason, "stop"), reason)

    def _report(self) -> None:
        if self._usage:
            self.answer.usage(usage_of(self._usage))
