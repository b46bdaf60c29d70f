"""The dialect of Anthropic's Messages API."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from heimdall_fleet.providers.anthropic_answer import ClaudeEvents
from heimdall_fleet.providers.anthropic_request import claude_body
from heimdall_fleet.providers.canonical import EventStreamReader, read_whole
from heimdall_fleet.providers.dialect import (
    Action,
    AttemptError,
    AttemptFailure,
    Call,
    StreamReader,
    WireRequest,
)
from heimdall_fleet.providers.failures import failure_of_answer
from heimdall_fleet.providers.wire_headers import wire_headers
from heimdall_schemas.codec import encode
from heimdall_schemas.failure import FailureCode

FAMILY = "anthropic"
BASE_URL = "https://api.anthropic.com"
VERSION = "2023-06-01"
_WITHOUT_SAMPLING = "2026-10-21"
_OAUTH = "sk-ant-oat"
_OAUTH_BETA = "oauth-2025-04-20"
_NOT_FOR_INFERENCE = ("sk-ant-ort", "sk-ant-admin", "sk-ant-api01-")


class Anthropic:
    """`clock` gives Unix seconds, for HTTP dates and for answers, which carry no time."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def to_wire(self, call: Call) -> WireRequest:
        headers = wire_headers(call, {"anthropic-version": VERSION, **_credential(call.secret)})
        if call.secret.startswith(_OAUTH):
            flags = [flag for flag in headers.get("anthropic-beta", "").split(",") if flag and flag != _OAUTH_BETA]
            headers["anthropic-beta"] = ",".join([*flags, _OAUTH_BETA])
        content, dropped = claude_body(call, sampling=headers["anthropic-version"] < _WITHOUT_SAMPLING)
        body = {"model": call.target.model, **content}
        if call.stream:
            body["stream"] = True
        base = call.target.base_url.rstrip("/").removesuffix("/v1")
        return WireRequest("POST", f"{base}/v1/messages", headers, encode(body), dropped, call.request_id)

    def from_wire(self, body: bytes, call: Call) -> dict[str, Any]:
        return read_message(body, call, self._clock())

    def reader(self, call: Call) -> StreamReader:
        return EventStreamReader(call, ClaudeEvents(call, self._clock()))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> AttemptFailure:
        return failure_of_answer(FAMILY, status, headers, body, self._clock())


def read_message(body: bytes, call: Call, now_s: float) -> dict[str, Any]:
    events = ClaudeEvents(call, now_s)
    return read_whole(body, call, events.answer, events.whole)


def _credential(secret: str) -> dict[str, str]:
    if secret.startswith(_NOT_FOR_INFERENCE):
        message = "the key is an administrator's or a refresh token; an inference key (sk-ant-api03-…) is needed"
        failure = AttemptFailure(
            FailureCode.PROVIDER_AUTH, Action.OTHER_KEY, message, disable_key=True, connection_only=True
        )
        raise AttemptError(failure)
    if secret.startswith(_OAUTH):
        return {"authorization": f"Bearer {secret}"}
    return {"x-api-key": secret} if secret else {}
