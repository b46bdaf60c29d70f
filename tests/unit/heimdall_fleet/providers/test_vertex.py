"""Vertex AI: the address, the credential, and which of its two formats a model speaks."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from heimdall_fleet.providers.dialect import Action, AttemptError, Call
from heimdall_fleet.providers.registry import dialect_for
from heimdall_schemas.failure import FailureCode as Code

CallBuilder = Callable[..., Call]
DIALECT = dialect_for("vertex")
META = {"project_id": "my-project", "location": "us-central1"}
PLACE = "projects/my-project/locations"


@pytest.mark.parametrize(
    ("meta", "model", "stream", "url"),
    [
        (
            META,
            "gemini-1.5-pro",
            False,
            f"https://us-central1-aiplatform.googleapis.com/v1/{PLACE}/us-central1/publishers/google/models/"
            "gemini-1.5-pro:generateContent",
        ),
        (
            {**META, "location": "global"},
            "gemini-2.5-flash",
            True,
            f"https://aiplatform.googleapis.com/v1/{PLACE}/global/publishers/google/models/"
            "gemini-2.5-flash:streamGenerateContent?alt=sse",
        ),
        (
            {**META, "location": "eu"},
            "claude-haiku-4-5@20251001",
            False,
            f"https://aiplatform.eu.rep.googleapis.com/v1/{PLACE}/eu/publishers/anthropic/models/"
            "claude-haiku-4-5@20251001:rawPredict",
        ),
        (
            {"project_id": "my-project"},
            "claude-haiku-4-5@20251001",
            True,
            f"https://us-central1-aiplatform.googleapis.com/v1/{PLACE}/us-central1/publishers/anthropic/models/"
            "claude-haiku-4-5@20251001:streamRawPredict",
        ),
    ],
)
def test_project_location_and_publisher_are_in_the_address(
    meta: dict[str, Any], model: str, stream: bool, url: str, call: CallBuilder
) -> None:
    request = DIALECT.to_wire(call("vertex", base_url="", meta=meta, model=model, stream=stream, secret="ya29.x"))
    assert request.url == url
    assert request.headers["authorization"] == "Bearer ya29.x"


@pytest.mark.parametrize("base", ["http://127.0.0.1:1/vertex", "http://127.0.0.1:1/vertex/v1/"])
def test_a_base_url_replaces_the_host(base: str, call: CallBuilder) -> None:
    url = DIALECT.to_wire(call("vertex", base_url=base, meta=META, model="gemini-2.5-pro")).url
    assert url.startswith(f"http://127.0.0.1:1/vertex/v1/{PLACE}/us-central1/publishers/google/")


def test_an_api_key_needs_no_project(call: CallBuilder) -> None:
    request = DIALECT.to_wire(call("vertex", base_url="", meta=META, model="gemini-2.5-pro", secret="AQ.x"))
    address = "https://aiplatform.googleapis.com/v1/publishers/google/models/gemini-2.5-pro:generateContent"
    assert request.url == address
    assert request.headers["x-goog-api-key"] == "AQ.x"
    assert "authorization" not in request.headers


def test_claude_has_its_version_in_the_body_and_its_model_in_the_path(call: CallBuilder) -> None:
    body = orjson.loads(DIALECT.to_wire(call("vertex", meta=META, model="claude-haiku-4-5", stream=True)).body)
    assert body == {
        "anthropic_version": "vertex-2023-10-16",
        "max_tokens": 4096,
        "stream": True,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    }


def test_claude_there_fetches_no_images(call: CallBuilder) -> None:
    part = {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}
    request = call("vertex", {"messages": [{"role": "user", "content": [part]}]}, meta=META, model="claude-haiku-4-5")
    with pytest.raises(AttemptError) as caught:
        DIALECT.to_wire(request)
    assert caught.value.failure.action is Action.OTHER_PROVIDER


def test_the_user_becomes_a_label(call: CallBuilder) -> None:
    request = DIALECT.to_wire(call("vertex", {"user": "Ann Ä@x" + "y" * 80}, meta=META, model="gemini-2.5-pro"))
    assert orjson.loads(request.body)["labels"] == {"user": "ann___x" + "y" * 56}
    assert request.dropped == ()


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (
            "gemini-2.5-pro",
            {"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}]},
        ),
        ("claude-haiku-4-5", {"content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn"}),
    ],
)
def test_each_model_answers_in_its_own_format(model: str, body: dict[str, Any], call: CallBuilder) -> None:
    completion = DIALECT.from_wire(orjson.dumps(body), call("vertex", model=model))
    assert completion["choices"][0]["message"]["content"] == "a"


def test_an_error_is_read_in_either_shape() -> None:
    google = {"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}}
    claude = {"type": "error", "error": {"type": "rate_limit_error", "message": "m"}}
    for body in (google, [google], claude):
        assert DIALECT.failure(429, {}, orjson.dumps(body)).code is Code.PROVIDER_RATE_LIMITED
