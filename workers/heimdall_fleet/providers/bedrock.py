"""The dialect of Bedrock's Converse."""

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from pydantic import SecretStr

from heimdall_fleet.providers.bedrock_answer import ConverseEvents, ConverseReader
from heimdall_fleet.providers.bedrock_request import converse_body
from heimdall_fleet.providers.canonical import read_whole
from heimdall_fleet.providers.dialect import AttemptFailure, Call, StreamReader, Target, WireRequest
from heimdall_fleet.providers.failures import failure_of_answer
from heimdall_fleet.providers.signing import AwsKey, signed_headers
from heimdall_fleet.providers.wire_headers import wire_headers
from heimdall_schemas.codec import encode

FAMILY = "bedrock"
STREAM_TYPE = "application/vnd.amazon.eventstream"
_DEFAULT_REGION = "us-east-1"


class Bedrock:
    """`clock` gives Unix seconds: signatures carry the time."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def to_wire(self, call: Call) -> WireRequest:
        content, dropped = converse_body(call)
        body = encode(content)
        url = url_of(call)
        credential = self._credential(call, url, body)
        return WireRequest("POST", url, wire_headers(call, credential, STREAM_TYPE), body, dropped, call.request_id)

    def from_wire(self, body: bytes, call: Call) -> dict[str, Any]:
        events = ConverseEvents(call, self._clock())
        return read_whole(body, call, events.answer, events.whole)

    def reader(self, call: Call) -> StreamReader:
        return ConverseReader(call, self._clock())

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> AttemptFailure:
        return failure_of_answer(FAMILY, status, headers, body, self._clock())

    def _credential(self, call: Call, url: str, body: bytes) -> Mapping[str, str]:
        """A signature where the secret half of an access key is configured, else the key as bearer."""
        meta = call.target.meta
        secret_key = revealed(meta.get("secret_access_key"))
        if secret_key is None:
            return {"authorization": f"Bearer {call.secret}"} if call.secret else {}
        key = AwsKey(call.secret, secret_key, revealed(meta.get("session_token")))
        return signed_headers(key, region_of(call.target), url, body, self._clock())


def revealed(secret: Any) -> str | None:
    """A secret of `meta` in the clear; None when it is not set."""
    if isinstance(secret, SecretStr):
        secret = secret.get_secret_value()
    return secret if isinstance(secret, str) and secret else None


def region_of(target: Target) -> str:
    return str(target.meta.get("region") or _DEFAULT_REGION)


def url_of(call: Call) -> str:
    """The model id is one path segment: its colons and slashes are percent-encoded."""
    target = call.target
    base = target.base_url.rstrip("/") or f"https://bedrock-runtime.{region_of(target)}.amazonaws.com"
    arn = target.meta.get("arn")
    model = target.model
    if arn and not model.startswith("arn:"):
        model = f"{str(arn).rstrip('/')}/{model}"
    return f"{base}/model/{quote(model, safe='')}/{'converse-stream' if call.stream else 'converse'}"
