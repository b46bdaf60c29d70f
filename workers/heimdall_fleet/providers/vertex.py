"""The dialect of Vertex AI: Gemini by generateContent, Claude by rawPredict, whichever the model's name says."""

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from heimdall_fleet.providers.anthropic import read_message
from heimdall_fleet.providers.anthropic_answer import ClaudeEvents
from heimdall_fleet.providers.anthropic_request import claude_body
from heimdall_fleet.providers.canonical import EventStreamReader
from heimdall_fleet.providers.dialect import AttemptFailure, Call, StreamReader, Target, WireRequest
from heimdall_fleet.providers.failures import failure_of_answer
from heimdall_fleet.providers.gemini import method_of, read_response
from heimdall_fleet.providers.gemini_answer import GeminiEvents
from heimdall_fleet.providers.gemini_request import gemini_body
from heimdall_fleet.providers.wire_headers import wire_headers
from heimdall_schemas.codec import encode

FAMILY = "vertex"
CLAUDE_VERSION = "vertex-2023-10-16"
_GLOBAL = "https://aiplatform.googleapis.com"
_MULTI_REGIONS = frozenset({"us", "eu"})
_API_KEYS = ("AIza", "AQ.")
_DEFAULT_LOCATION = "us-central1"


class Vertex:
    """`Call.secret` is an access token (`vertex_tokens` makes one of a service account), or a Google API key.

    `clock` gives Unix seconds, for HTTP dates and for answers, which carry no time.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def to_wire(self, call: Call) -> WireRequest:
        if speaks_claude(call.target):
            body, dropped = claude_body(call, urls=False)
            body["anthropic_version"] = CLAUDE_VERSION
            if call.stream:
                body["stream"] = True
        else:
            body, dropped = gemini_body(call, labels=True)
        by_api_key = call.secret.startswith(_API_KEYS)
        credential = {} if not call.secret else {"authorization": f"Bearer {call.secret}"}
        credential = {"x-goog-api-key": call.secret} if by_api_key else credential
        url = url_of(call, with_project=not by_api_key)
        return WireRequest("POST", url, wire_headers(call, credential), encode(body), dropped, call.request_id)

    def from_wire(self, body: bytes, call: Call) -> dict[str, Any]:
        read = read_message if speaks_claude(call.target) else read_response
        return read(body, call, self._clock())

    def reader(self, call: Call) -> StreamReader:
        events = ClaudeEvents if speaks_claude(call.target) else GeminiEvents
        return EventStreamReader(call, events(call, self._clock()))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> AttemptFailure:
        return failure_of_answer(FAMILY, status, headers, body, self._clock())


def speaks_claude(target: Target) -> bool:
    return target.model.startswith("claude")


def url_of(call: Call, *, with_project: bool) -> str:
    """An API key knows its project; a token needs it in the path, and the host of its location."""
    target = call.target
    location = str(target.meta.get("location") or _DEFAULT_LOCATION)
    base = target.base_url.rstrip("/").removesuffix("/v1") or (_host(location) if with_project else _GLOBAL)
    place = f"projects/{quote(str(target.meta.get('project_id')), safe=':')}/locations/{location}/"
    publisher, method = "google", method_of(call)
    if speaks_claude(target):
        publisher, method = "anthropic", ":streamRawPredict" if call.stream else ":rawPredict"
    model = quote(target.model, safe="@")
    return f"{base}/v1/{place if with_project else ''}publishers/{publisher}/models/{model}{method}"


def _host(location: str) -> str:
    if location == "global":
        return _GLOBAL
    if location in _MULTI_REGIONS:
        return f"https://aiplatform.{location}.rep.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"
