"""What OpenAI's Responses answers, whole and as a stream."""

from collections.abc import Mapping
from typing import Any

from heimdall_fleet.providers.canonical import Answer, Place
from heimdall_fleet.providers.dialect import AttemptError, Call
from heimdall_fleet.providers.failures import failure_inside, malformed
from heimdall_fleet.providers.responses_request import THOUGHTS, tool_names
from heimdall_fleet.providers.shapes import list_of, object_of, place_of, text_of
from heimdall_fleet.providers.usage import canonical_usage

INCOMPLETE: Mapping[str, str] = {"max_output_tokens": "length", "content_filter": "content_filter"}
_BETWEEN_SUMMARIES = "\n\n"


def usage_of(raw: dict[str, Any]) -> dict[str, Any]:
    details = object_of(raw.get("input_tokens_details"))
    return canonical_usage(
        raw.get("input_tokens"),
        raw.get("output_tokens"),
        cached=details.get("cached_tokens"),
        cache_write=details.get("cache_write_tokens"),
        reasoning=object_of(raw.get("output_tokens_details")).get("reasoning_tokens"),
    )


class ResponsesEvents:
    """The named events of one stream, and the items of one plain answer."""

    def __init__(self, call: Call, now_s: float) -> None:
        self.answer = Answer(call, now_s)
        self._call = call
        self._names = tool_names(call)
        self._tools: dict[Any, Place] = {}
        self._ended = False

    @property
    def ended(self) -> bool:
        return self._ended

    def on(self, name: str, event: dict[str, Any]) -> None:
        item, place = object_of(event.get("item")), place_of(event.get("output_index"))
        match text_of(event.get("type")) or name:
            case "response.created":
                self.answer.begin(object_of(event.get("response")).get("id"))
            case "response.output_text.delta":
                self.answer.text(event.get("delta"))
            case "response.refusal.delta":
                self.answer.refusal(event.get("delta"))
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                self.answer.reasoning(event.get("delta"))
            case "response.reasoning_summary_part.added" if event.get("summary_index"):
                self.answer.reasoning(_BETWEEN_SUMMARIES)
            case "response.output_item.added" if item.get("type") == "function_call":
                self._open(place, item)
            case "response.function_call_arguments.delta" if place in self._tools:
                self.answer.arguments(self._tools[place], event.get("delta"))
            case "response.output_item.done":
                self._keep(item)
            case "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled":
                self._end(object_of(event.get("response")))
            case "error":
                raise AttemptError(failure_inside(self._call.target.type, event, secret=self._call.secret))

    def whole(self, response: dict[str, Any]) -> None:
        if not isinstance(response.get("output"), list):
            raise malformed("the answer has no output", secret=self._call.secret)
        self.answer.begin(response.get("id"))
        for index, item in enumerate(map(object_of, list_of(response["output"]))):
            for content in map(object_of, list_of(item.get("content"))):
                self._content(content)
            summaries = [text_of(object_of(part).get("text")) or "" for part in list_of(item.get("summary"))]
            self.answer.reasoning(_BETWEEN_SUMMARIES.join(summaries))
            if item.get("type") == "function_call":
                self._open(index, item)
                self.answer.arguments(self._tools[index], item.get("arguments"))
            self._keep(item)
        self._end(response)

    def _content(self, content: dict[str, Any]) -> None:
        match content.get("type"):
            case "output_text":
                self.answer.text(content.get("text"))
            case "refusal":
                self.answer.refusal(content.get("refusal"))
            case "reasoning_text":
                self.answer.reasoning(content.get("text"))

    def _open(self, index: Any, item: dict[str, Any]) -> None:
        name = self._names.here(text_of(item.get("name")) or "")
        self._tools[index] = self.answer.tool(item.get("call_id"), name)

    def _keep(self, item: dict[str, Any]) -> None:
        """Encrypted reasoning, which a stateless conversation sends back."""
        if item.get("type") == "reasoning" and text_of(item.get("encrypted_content")):
            detail = {"type": "reasoning.encrypted", "data": item["encrypted_content"], "format": THOUGHTS}
            self.answer.detail(detail | ({"id": item["id"]} if text_of(item.get("id")) else {}))

    def _end(self, response: dict[str, Any]) -> None:
        status = response.get("status")
        if status == "incomplete":
            reason = text_of(object_of(response.get("incomplete_details")).get("reason")) or "incomplete"
            self.answer.finish(INCOMPLETE.get(reason, "length"), reason)
        elif status == "completed":
            self.answer.finish("stop", "completed")
        else:
            error = object_of(response.get("error")) or {"message": f"the response ended as {status}"}
            raise AttemptError(failure_inside(self._call.target.type, {"error": error}, secret=self._call.secret))
        if object_of(response.get("usage")):
            self.answer.usage(usage_of(response["usage"]))
        self._ended = True
