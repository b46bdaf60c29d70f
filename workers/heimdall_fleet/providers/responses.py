"""The dialect of OpenAI's Responses."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from heimdall_fleet.providers.canonical import EventStreamReader, read_whole
from heimdall_fleet.providers.dialect import AttemptFailure, Call, StreamReader, WireRequest
from heimdall_fleet.providers.failures import failure_of_answer
from heimdall_fleet.providers.responses_answer import ResponsesEvents
from heimdall_fleet.providers.responses_request import responses_body
from heimdall_fleet.providers.wire_headers import wire_headers
from heimdall_schemas.codec import encode

FAMILY = "openai_responses"
BASE_URL = "https://api.openai.com/v1"


class Responses:
    """`clock` gives Unix seconds, for HTTP dates and for the time of an answer."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def to_wire(self, call: Call) -> WireRequest:
        body, dropped = responses_body(call)
        credential = {"authorization": f"Bearer {call.secret}"} if call.secret else {}
        url = f"{call.target.base_url.rstrip('/')}/responses"
        return WireRequest("POST", url, wire_headers(call, credential), encode(body), dropped, call.request_id)

    def from_wire(self, body: bytes, call: Call) -> dict[str, Any]:
        events = ResponsesEvents(call, self._clock())
        return read_whole(body, call, events.answer, events.whole)

    def reader(self, call: Call) -> StreamReader:
        return EventStreamReader(call, ResponsesEvents(call, self._clock()))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> AttemptFailure:
        return failure_of_answer(FAMILY, status, headers, body, self._clock())
