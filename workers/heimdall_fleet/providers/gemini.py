"""The dialect of the Gemini API's generateContent."""

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from heimdall_fleet.providers.canonical import EventStreamReader, read_whole
from heimdall_fleet.providers.dialect import AttemptFailure, Call, StreamReader, WireRequest
from heimdall_fleet.providers.failures import failure_of_answer
from heimdall_fleet.providers.gemini_answer import GeminiEvents
from heimdall_fleet.providers.gemini_request import gemini_body
from heimdall_fleet.providers.wire_headers import wire_headers
from heimdall_schemas.codec import encode

FAMILY = "gemini"
BASE_URL = "https://generativelanguage.googleapis.com/v1beta"
_ACCESS_TOKEN = "ya29."


class Gemini:
    """`clock` gives Unix seconds, for HTTP dates and for answers, which carry no time."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def to_wire(self, call: Call) -> WireRequest:
        body, dropped = gemini_body(call)
        model = quote(call.target.model.removeprefix("models/"), safe="")
        url = f"{call.target.base_url.rstrip('/')}/models/{model}{method_of(call)}"
        return WireRequest(
            "POST", url, wire_headers(call, google_key(call.secret)), encode(body), dropped, call.request_id
        )

    def from_wire(self, body: bytes, call: Call) -> dict[str, Any]:
        return read_response(body, call, self._clock())

    def reader(self, call: Call) -> StreamReader:
        return EventStreamReader(call, GeminiEvents(call, self._clock()))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> AttemptFailure:
        return failure_of_answer(FAMILY, status, headers, body, self._clock())


def method_of(call: Call) -> str:
    return ":streamGenerateContent?alt=sse" if call.stream else ":generateContent"


def google_key(secret: str) -> dict[str, str]:
    """An access token goes as bearer, an API key of either kind (`AIza…`, `AQ.…`) into Google's own header."""
    if not secret:
        return {}
    return {"authorization": f"Bearer {secret}"} if secret.startswith(_ACCESS_TOKEN) else {"x-goog-api-key": secret}


def read_response(body: bytes, call: Call, now_s: float) -> dict[str, Any]:
    events = GeminiEvents(call, now_s)
    return read_whole(body, call, events.answer, events.whole)
