"""One answer while it is read from another wire format: canonical chunks out, the whole completion at the end.

Plain answers take the same way, as one long delta, so a stream and a plain answer cannot differ.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import orjson

from heimdall_fleet.providers.assembly import Assembly
from heimdall_fleet.providers.dialect import Call
from heimdall_fleet.providers.failures import malformed, truncated
from heimdall_fleet.providers.openai_answer import parsed, raise_error_inside
from heimdall_fleet.providers.shapes import object_of, text_of
from heimdall_fleet.providers.sse import Event, SseParser


class Place(NamedTuple):
    """Where a tool call stands in its answer, and the id it has got."""

    id: str
    number: int
    choice: int


class Answer:
    """Say what the provider said; `take` gives the chunks that this made."""

    def __init__(self, call: Call, now_s: float) -> None:
        self._call = call
        self._assembly = Assembly()
        self._chunks: list[dict[str, Any]] = []
        self._head = {
            "id": f"chatcmpl-{int(now_s * 1000):x}",
            "object": "chat.completion.chunk",
            "created": int(now_s),
            "model": call.target.model_id,
        }
        self._tools: dict[int, int] = {}
        self._begun: set[int] = set()
        self._native: dict[int, str] = {}

    @property
    def id(self) -> str:
        return str(self._head["id"])

    def begin(self, answer_id: Any) -> None:
        if text_of(answer_id):
            self._head["id"] = answer_id

    def text(self, text: Any, choice: int = 0) -> None:
        if text_of(text):
            self._delta(choice, {"content": text})

    def reasoning(self, text: Any, choice: int = 0) -> None:
        if text_of(text):
            self._delta(choice, {"reasoning_content": text})

    def refusal(self, text: Any, choice: int = 0) -> None:
        if text_of(text):
            self._delta(choice, {"refusal": text})

    def detail(self, detail: dict[str, Any], choice: int = 0) -> None:
        """Reasoning as this provider wants it back, in OpenRouter's words."""
        self._delta(choice, {"reasoning_details": [detail]})

    def tool(self, tool_id: Any, name: str, arguments: str = "", choice: int = 0) -> "Place":
        """A tool call begins; its place takes the rest of the arguments."""
        place = self._tools.get(choice, 0)
        self._tools[choice] = place + 1
        identity = text_of(tool_id) or f"call_{self.id[-24:]}_{place}"
        function = {"name": name, "arguments": arguments}
        self._delta(
            choice, {"tool_calls": [{"index": place, "id": identity, "type": "function", "function": function}]}
        )
        return Place(identity, place, choice)

    def arguments(self, place: "Place", part: Any) -> None:
        if text_of(part):
            self._delta(place.choice, {"tool_calls": [{"index": place.number, "function": {"arguments": part}}]})

    def finish(self, reason: str, native: str | None = None, choice: int = 0) -> None:
        """The canonical reason; `tool_calls` if and only if there are any. The provider's own word stands beside it."""
        if reason in ("stop", "tool_calls"):
            reason = "tool_calls" if self._tools.get(choice) else "stop"
        self._delta(choice, {}, reason)
        if native and native != reason:
            self._native[choice] = self._chunks[-1]["choices"][0]["native_finish_reason"] = native

    def usage(self, usage: dict[str, Any]) -> None:
        self._add({**self._head, "choices": [], "usage": usage})

    def take(self) -> list[dict[str, Any]]:
        chunks, self._chunks = self._chunks, []
        return chunks

    @property
    def finished(self) -> bool:
        return self._assembly.finished

    def completion(self) -> dict[str, Any]:
        """The whole answer. Raises AttemptError (`provider_truncated`) for one without a finish reason."""
        if not self.finished:
            raise truncated("the answer ended without a finish reason")
        completion = self._assembly.completion()
        for choice in completion["choices"]:
            if choice["index"] in self._native:
                choice["native_finish_reason"] = self._native[choice["index"]]
        return completion

    def _delta(self, choice: int, delta: dict[str, Any], reason: str | None = None) -> None:
        if choice not in self._begun:
            self._begun.add(choice)
            delta = {"role": "assistant", "content": "", **delta}
        part = {"index": choice, "delta": delta, "logprobs": None, "finish_reason": reason}
        self._add({**self._head, "choices": [part]})

    def _add(self, chunk: dict[str, Any]) -> None:
        self._assembly.add(chunk)
        self._chunks.append(chunk)


class Events(Protocol):
    """The events of one family's stream, turned into an answer."""

    answer: Answer

    def on(self, name: str, event: dict[str, Any]) -> None:
        """Raises AttemptError for an error event. Unknown events say nothing."""
        ...

    @property
    def ended(self) -> bool:
        """The terminal marker has come."""
        ...


class EventStreamReader:
    """Reads server-sent events that each hold a JSON object."""

    def __init__(self, call: Call, events: Events) -> None:
        self._call = call
        self._events = events
        self._parser = SseParser()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        return self._chunks(self._parser.feed(data))

    def finish(self) -> dict[str, Any]:
        self._chunks(self._parser.close())
        if not self._events.ended:
            raise truncated("the stream ended before its terminal event")
        return self._events.answer.completion()

    def _chunks(self, events: list[Event]) -> list[dict[str, Any]]:
        for event in events:
            if event.data != b"[DONE]":
                self._events.on(event.name, event_object(event.data, self._call))
        return self._events.answer.take()


def event_object(data: bytes, call: Call) -> dict[str, Any]:
    """The JSON object of one event. Raises AttemptError."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise malformed("an event of the stream is not JSON", secret=call.secret) from error
    if isinstance(value, list):
        value = next((item for item in value if isinstance(item, dict)), None)
    if not isinstance(value, dict):
        raise malformed("an event of the stream is not a JSON object", secret=call.secret)
    return value


def read_whole(body: bytes, call: Call, answer: Answer, read: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """A plain answer: its errors first, then what `read` makes of it."""
    value = parsed(body, call)
    if value.get("type") == "error":
        value = {"error": object_of(value.get("error")) or {"message": "an error without a word"}}
    raise_error_inside(value, call)
    read(value)
    return answer.completion()
