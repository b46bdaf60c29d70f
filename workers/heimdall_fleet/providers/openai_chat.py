"""The dialect of OpenAI's Chat Completions and of the servers that follow it; their differences are in `compat.py`."""

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import orjson

from heimdall_fleet.providers.assembly import Assembly
from heimdall_fleet.providers.compat import Profile
from heimdall_fleet.providers.dialect import AttemptError, AttemptFailure, Call, StreamReader, Target, WireRequest
from heimdall_fleet.providers.failures import failure_inside, failure_of_answer, malformed, truncated
from heimdall_fleet.providers.openai_answer import (
    arguments_text,
    completion_of,
    normalise_texts,
    raise_error_inside,
    set_finish_reason,
    set_head,
    set_index,
)
from heimdall_fleet.providers.openai_request import wire_body
from heimdall_fleet.providers.shapes import list_of, object_of
from heimdall_fleet.providers.sse import Event, SseParser
from heimdall_fleet.providers.usage import usage_of_openai
from heimdall_schemas.codec import encode

_DONE = b"[DONE]"


class OpenAIChat:
    """One server family. `clock` gives Unix seconds, for HTTP dates and for answers that carry no time."""

    def __init__(self, family: str, profile: Profile, clock: Callable[[], float] = time.time) -> None:
        self._family = family
        self._profile = profile
        self._clock = clock

    def to_wire(self, call: Call) -> WireRequest:
        body, dropped = wire_body(call, self._profile)
        headers = {
            "content-type": "application/json",
            "accept": "text/event-stream" if call.stream else "application/json",
            **_authorization(call.secret, self._profile.auth),
            **call.target.extra_headers,
        }
        if self._profile.auth == "api-key":
            body["model"] = _deployment(call.target)
        return WireRequest("POST", _url(call.target, self._profile), headers, encode(body), dropped, call.request_id)

    def from_wire(self, body: bytes, call: Call) -> dict[str, Any]:
        return completion_of(body, call, self._clock())

    def reader(self, call: Call) -> StreamReader:
        return OpenAIChatReader(call, self._clock())

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> AttemptFailure:
        return failure_of_answer(self._family, status, headers, body, self._clock())


class OpenAIChatReader:
    """Reads one stream up to `data: [DONE]`; what follows is ignored."""

    def __init__(self, call: Call, now_s: float) -> None:
        self._call = call
        self._now_s = now_s
        self._parser = SseParser()
        self._assembly = Assembly()
        self._done = False

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        if self._done:
            return []
        return self._chunks(self._parser.feed(data))

    def finish(self) -> dict[str, Any]:
        if not self._done:
            self._chunks(self._parser.close())
        if not self._done:
            raise truncated("the stream ended before data: [DONE]")
        if not self._assembly.finished:
            raise truncated("the stream ended without a finish_reason")
        return self._assembly.completion()

    def _chunks(self, events: list[Event]) -> list[dict[str, Any]]:
        chunks = []
        for event in events:
            if event.data == _DONE:
                self._done = True
                break
            chunk = self._chunk(event)
            if chunk is not None:
                self._assembly.add(chunk)
                chunks.append(chunk)
        return chunks

    def _chunk(self, event: Event) -> dict[str, Any] | None:
        """The canonical chunk of an event; None for one that says nothing (Azure opens with filter results alone)."""
        call = self._call
        try:
            chunk = orjson.loads(event.data)
        except orjson.JSONDecodeError as error:
            raise malformed("an event of the stream is not JSON", secret=call.secret) from error
        if event.name == "error":
            raise AttemptError(failure_inside(call.target.type, chunk, secret=call.secret))
        if not isinstance(chunk, dict):
            raise malformed("an event of the stream is not a JSON object", secret=call.secret)
        raise_error_inside(chunk, call)
        groq = object_of(chunk.pop("x_groq", None))
        usage = usage_of_openai(chunk.pop("usage", None) or groq.get("usage"))
        choices = list_of(chunk.get("choices"))
        if not choices and usage is None:
            return None
        chunk["choices"] = [_part(index, choice, call) for index, choice in enumerate(choices)]
        set_head(chunk, "chat.completion.chunk", call, self._now_s)
        if usage is not None:
            chunk["usage"] = usage
        return chunk


def _part(index: int, choice: Any, call: Call) -> dict[str, Any]:
    if not isinstance(choice, dict):
        raise malformed("a choice in the stream is not a JSON object", secret=call.secret)
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        delta = choice["delta"] = {}
    normalise_texts(delta, call)
    tools = list_of(delta.pop("tool_calls", None))
    if tools:
        delta["tool_calls"] = [_fragment(n, tool, call) for n, tool in enumerate(tools)]
    set_index(choice, index)
    set_finish_reason(choice, call)
    return choice


def _fragment(index: int, tool: Any, call: Call) -> dict[str, Any]:
    if not isinstance(tool, dict):
        raise malformed("a tool call in the stream is not a JSON object", secret=call.secret)
    set_index(tool, index)
    tool["function"] = function = object_of(tool.get("function"))
    if function.get("arguments") is not None:
        function["arguments"] = arguments_text(function["arguments"])
    return tool


def _authorization(secret: str, auth: str) -> dict[str, str]:
    if not secret:
        return {}
    is_token = secret.startswith("eyJ") and secret.count(".") == 2
    if auth == "api-key" and not is_token:
        return {"api-key": secret}
    return {"authorization": f"Bearer {secret}"}


def _url(target: Target, profile: Profile) -> str:
    base = target.base_url.rstrip("/")
    if profile.auth != "api-key":
        return f"{base}/chat/completions"
    base = base if base.endswith(("/openai", "/openai/v1")) else f"{base}/openai"
    version = target.meta.get("api_version")
    if not version:
        return f"{base.removesuffix('/v1')}/v1/chat/completions"
    deployment = quote(_deployment(target), safe="")
    return f"{base.removesuffix('/v1')}/deployments/{deployment}/chat/completions?api-version={quote(str(version))}"


def _deployment(target: Target) -> str:
    deployments: Mapping[str, str] = target.meta.get("deployments") or {}
    return deployments.get(target.model, target.model)
