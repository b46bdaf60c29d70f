"""What Gemini's generateContent answers: whole responses, of which a stream sends several."""

from collections.abc import Mapping
from typing import Any

import orjson

from heimdall_fleet.providers.canonical import Answer
from heimdall_fleet.providers.dialect import Call
from heimdall_fleet.providers.failures import malformed
from heimdall_fleet.providers.gemini_request import THOUGHTS, tool_names
from heimdall_fleet.providers.openai_answer import raise_error_inside
from heimdall_fleet.providers.shapes import list_of, object_of, text_of
from heimdall_fleet.providers.usage import canonical_usage, count

_FILTERED = """SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT SPII LANGUAGE MODEL_ARMOR JAILBREAK ESCALATION OTHER
IMAGE_SAFETY IMAGE_PROHIBITED_CONTENT IMAGE_RECITATION IMAGE_OTHER"""
FINISH_REASONS: Mapping[str, str] = {
    "STOP": "stop",
    "FINISH_REASON_UNSPECIFIED": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    **dict.fromkeys(_FILTERED.split(), "content_filter"),
}
FAILED = frozenset(
    {
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MISSING_THOUGHT_SIGNATURE",
        "MALFORMED_RESPONSE",
    }
)


def canonical_reason(native: str) -> str:
    """Unknown words mean `stop`, but for the open family of image filters."""
    return FINISH_REASONS.get(native) or ("content_filter" if native.startswith("IMAGE_") else "stop")


def usage_of(raw: dict[str, Any]) -> dict[str, Any]:
    """Canonical counts. Some hosts count thoughts among the candidates: then the total says so."""
    prompt = count(raw.get("promptTokenCount")) + count(raw.get("toolUsePromptTokenCount"))
    candidates, thoughts = count(raw.get("candidatesTokenCount")), count(raw.get("thoughtsTokenCount"))
    included = bool(candidates) and prompt + candidates == count(raw.get("totalTokenCount"))
    return canonical_usage(
        prompt,
        candidates if included else candidates + thoughts,
        cached=raw.get("cachedContentTokenCount"),
        reasoning=thoughts,
    )


class GeminiEvents:
    """Each event is a response with the next parts of every candidate; the last usage holds."""

    def __init__(self, call: Call, now_s: float) -> None:
        self.answer = Answer(call, now_s)
        self._call = call
        self._names = tool_names(call)
        self._finished: set[int] = set()

    @property
    def ended(self) -> bool:
        """Gemini sends no marker of its own: every candidate has its finish reason."""
        return self.answer.finished

    def on(self, name: str, event: dict[str, Any]) -> None:
        raise_error_inside(event, self._call)
        self.answer.begin(event.get("responseId"))
        for index, candidate in enumerate(map(object_of, list_of(event.get("candidates")))):
            place = candidate.get("index")
            self._candidate(candidate, place if isinstance(place, int) else index)
        blocked = object_of(event.get("promptFeedback")).get("blockReason")
        if blocked and not self.answer.finished:
            self.answer.finish("content_filter", str(blocked))
        if self.answer.finished and object_of(event.get("usageMetadata")):
            self.answer.usage(usage_of(event["usageMetadata"]))

    def whole(self, response: dict[str, Any]) -> None:
        if not response.get("candidates") and not response.get("promptFeedback"):
            raise malformed("the answer has no candidates", secret=self._call.secret)
        self.on("", response)

    def _candidate(self, candidate: dict[str, Any], choice: int) -> None:
        for part in map(object_of, list_of(object_of(candidate.get("content")).get("parts"))):
            self._part(part, choice)
        reason = text_of(candidate.get("finishReason"))
        if reason in FAILED:
            message = text_of(candidate.get("finishMessage")) or ""
            raise malformed(f"the answer ended with {reason} {message}".strip(), secret=self._call.secret)
        if reason and choice not in self._finished:
            self._finished.add(choice)
            self.answer.finish(canonical_reason(reason), reason, choice)

    def _part(self, part: dict[str, Any], choice: int) -> None:
        answer, signature, tool_id = self.answer, text_of(part.get("thoughtSignature")), None
        if part.get("thought") is True:
            answer.reasoning(part.get("text"), choice)
        elif "functionCall" in part:
            tool_id = self._tool(object_of(part["functionCall"]), choice)
        else:
            answer.text(part.get("text"), choice)
        if signature:
            detail = {"type": "reasoning.encrypted", "data": signature, "format": THOUGHTS}
            answer.detail(detail | ({"id": tool_id} if tool_id else {}), choice)

    def _tool(self, tool: dict[str, Any], choice: int) -> str:
        arguments = orjson.dumps(object_of(tool.get("args"))).decode()
        name = self._names.here(text_of(tool.get("name")) or "")
        return self.answer.tool(tool.get("id"), name, arguments, choice).id
