"""What Bedrock's Converse answers, whole and as a stream of binary frames."""

from collections.abc import Mapping
from typing import Any

import orjson

from heimdall_fleet.providers.bedrock_request import thoughts_of, tool_names
from heimdall_fleet.providers.canonical import Answer, event_object
from heimdall_fleet.providers.dialect import AttemptError, Call
from heimdall_fleet.providers.eventstream import Frame, FrameParser
from heimdall_fleet.providers.failures import failure_inside, malformed, truncated
from heimdall_fleet.providers.json_schemas import ANSWER_TOOL
from heimdall_fleet.providers.shapes import list_of, object_of, place_of, text_of
from heimdall_fleet.providers.usage import canonical_usage, count

FINISH_REASONS: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
FAILED = frozenset({"malformed_model_output", "malformed_tool_use"})


def usage_of(raw: dict[str, Any]) -> dict[str, Any]:
    """Canonical counts: Bedrock's input excludes what was read from and written to the cache."""
    cached, written = count(raw.get("cacheReadInputTokens")), count(raw.get("cacheWriteInputTokens"))
    prompt = count(raw.get("inputTokens")) + cached + written
    return canonical_usage(prompt, raw.get("outputTokens"), cached=cached, cache_write=written)


class ConverseEvents:
    """The events of one stream, and the blocks of one plain answer."""

    def __init__(self, call: Call, now_s: float) -> None:
        self.answer = Answer(call, now_s)
        self._call = call
        self._names = tool_names(call)
        self._blocks: dict[Any, dict[str, Any]] = {}

    @property
    def ended(self) -> bool:
        """`messageStop` has come. The counts follow it; an answer without them is still a whole answer."""
        return self.answer.finished

    def on(self, name: str, event: dict[str, Any]) -> None:
        place = place_of(event.get("contentBlockIndex"))
        block = {} if place is None else self._blocks.setdefault(place, {})
        match name:
            case "contentBlockStart":
                self._open(block, object_of(object_of(event.get("start")).get("toolUse")))
            case "contentBlockDelta":
                self._delta(block, object_of(event.get("delta")))
            case "contentBlockStop":
                self._close(block)
                self._blocks.pop(place, None)
            case "messageStop":
                self._finish(event.get("stopReason"))
            case "metadata":
                self._count(event.get("usage"))

    def whole(self, response: dict[str, Any]) -> None:
        message = object_of(object_of(response.get("output")).get("message"))
        if not isinstance(message.get("content"), list):
            raise malformed("the answer has no output.message.content", secret=self._call.secret)
        for content in map(object_of, list_of(message["content"])):
            block: dict[str, Any] = {}
            if "toolUse" in content:
                tool = object_of(content["toolUse"])
                self._open(block, tool)
                self._delta(block, {"toolUse": {"input": orjson.dumps(tool.get("input")).decode()}})
            else:
                reasoning = object_of(content.get("reasoningContent"))
                self._delta(block, {**content, "reasoningContent": reasoning.get("reasoningText") or reasoning})
            self._close(block)
        self._finish(response.get("stopReason"))
        self._count(response.get("usage"))

    def _open(self, block: dict[str, Any], tool: dict[str, Any]) -> None:
        name = text_of(tool.get("name"))
        if name == ANSWER_TOOL:
            block["answers"] = True
        elif name:
            block["place"] = self.answer.tool(tool.get("toolUseId"), self._names.here(name))

    def _delta(self, block: dict[str, Any], delta: dict[str, Any]) -> None:
        self.answer.text(delta.get("text"))
        arguments = object_of(delta.get("toolUse")).get("input")
        if "place" in block:
            self.answer.arguments(block["place"], arguments)
        elif block.get("answers"):
            self.answer.text(arguments)
        reasoning = object_of(delta.get("reasoningContent"))
        if text_of(reasoning.get("text")):
            self.answer.reasoning(reasoning["text"])
            block["text"] = block.get("text", "") + reasoning["text"]
        for name in ("signature", "redactedContent"):
            if text_of(reasoning.get(name)):
                block[name] = block.get(name, "") + reasoning[name]

    def _close(self, block: dict[str, Any]) -> None:
        form = {"format": thoughts_of(self._call)}
        if block.get("signature"):
            text = {"text": block.get("text", ""), "signature": block["signature"]}
            self.answer.detail({"type": "reasoning.text", **text, **form})
        if block.get("redactedContent"):
            self.answer.detail({"type": "reasoning.encrypted", "data": block["redactedContent"], **form})

    def _finish(self, native: Any) -> None:
        reason = text_of(native)
        if reason in FAILED:
            raise malformed(f"the answer ended with {reason}", secret=self._call.secret)
        if reason:
            self.answer.finish(FINISH_REASONS.get(reason, "stop"), reason)

    def _count(self, usage: Any) -> None:
        if object_of(usage):
            self.answer.usage(usage_of(usage))


class ConverseReader:
    """Reads one stream of frames; an exception frame, or an error frame, ends it."""

    def __init__(self, call: Call, now_s: float) -> None:
        self._call = call
        self._events = ConverseEvents(call, now_s)
        self._parser = FrameParser()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        for frame in self._parser.feed(data):
            self._on(frame)
        return self._events.answer.take()

    def finish(self) -> dict[str, Any]:
        if not self._events.ended:
            raise truncated("the stream ended before messageStop")
        return self._events.answer.completion()

    def _on(self, frame: Frame) -> None:
        headers = frame.headers
        kind = headers.get(":message-type", "event")
        secret = self._call.secret
        if kind == "error":
            error = {"message": headers.get(":error-message", ""), "code": headers.get(":error-code", "")}
            raise AttemptError(failure_inside(self._call.target.type, error, secret=secret))
        event = event_object(frame.payload or b"{}", self._call)
        if kind == "exception":
            name = headers.get(":exception-type", "")
            raise AttemptError(failure_inside(self._call.target.type, event, secret=secret, exception=name))
        self._events.on(headers.get(":event-type", ""), event)
