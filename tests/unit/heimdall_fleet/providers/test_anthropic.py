"""Anthropic's Messages API: where a call goes, with which credential, and what its errors mean."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from heimdall_fleet.providers.anthropic_models import traits_of, version_of
from heimdall_fleet.providers.dialect import Action, AttemptError, Call
from heimdall_fleet.providers.registry import dialect_for
from heimdall_schemas.failure import FailureCode as Code

CallBuilder = Callable[..., Call]
DIALECT = dialect_for("anthropic")


@pytest.mark.parametrize("base", ["https://api.test", "https://api.test/", "https://api.test/v1"])
def test_the_path_follows_any_spelling_of_the_base(base: str, call: CallBuilder) -> None:
    assert DIALECT.to_wire(call("anthropic", base_url=base)).url == "https://api.test/v1/messages"


def test_an_api_key_goes_into_its_own_header(call: CallBuilder) -> None:
    headers = DIALECT.to_wire(call("anthropic", secret="sk-ant-api03-x")).headers
    assert headers["x-api-key"] == "sk-ant-api03-x"
    assert headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in headers


def test_an_oauth_token_goes_as_bearer_with_its_beta_flag_beside_the_operators(call: CallBuilder) -> None:
    extra = {"Anthropic-Beta": "context-1m-2025-08-07"}
    headers = DIALECT.to_wire(call("anthropic", secret="sk-ant-oat01-x", extra_headers=extra)).headers
    assert headers["authorization"] == "Bearer sk-ant-oat01-x"
    assert headers["anthropic-beta"] == "context-1m-2025-08-07,oauth-2025-04-20"
    assert "x-api-key" not in headers


@pytest.mark.parametrize("secret", ["sk-ant-ort01-x", "sk-ant-admin01-x", "sk-ant-api01-x"])
def test_what_is_no_inference_key_is_never_sent(secret: str, call: CallBuilder) -> None:
    with pytest.raises(AttemptError) as caught:
        DIALECT.to_wire(call("anthropic", secret=secret))
    failure = caught.value.failure
    assert (failure.code, failure.action, failure.disable_key) == (Code.PROVIDER_AUTH, Action.OTHER_KEY, True)
    assert secret not in failure.message


def test_the_version_without_sampling_parameters_is_sent_none(call: CallBuilder) -> None:
    request = call(
        "anthropic",
        {"temperature": 0.5},
        model="claude-haiku-4-5",
        extra_headers={"anthropic-version": "2026-10-21"},
    )
    wire = DIALECT.to_wire(request)
    assert "temperature" not in orjson.loads(wire.body)
    assert wire.dropped == ("temperature",)


@pytest.mark.parametrize(
    ("model", "version"),
    [
        ("claude-3-5-sonnet-20241022", (3, 5)),
        ("claude-3-opus-20240229", (3, 0)),
        ("claude-3-7-sonnet-latest", (3, 7)),
        ("claude-opus-4-20250514", (4, 0)),
        ("claude-opus-4-1", (4, 1)),
        ("claude-haiku-4-5-20251001", (4, 5)),
        ("claude-haiku-4-5@20251001", (4, 5)),
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", (3, 5)),
        ("global.anthropic.claude-fable-5-2", (5, 2)),
        ("anthropic/claude-fable-5.2", (5, 2)),
        ("claude-mythos-preview", None),
        ("gpt-5", None),
    ],
)
def test_the_version_of_a_model_is_in_its_name(model: str, version: tuple[int, int] | None) -> None:
    assert version_of(model) == version


@pytest.mark.parametrize(
    ("model", "facts", "sampling", "thinking", "structured"),
    [
        ("claude-3-5-sonnet-20241022", {}, True, "none", False),
        ("claude-3-7-sonnet-20250219", {}, True, "budget", False),
        ("claude-haiku-4-5", {}, True, "budget", True),
        ("claude-sonnet-4-6", {}, True, "adaptive", True),
        ("claude-opus-4-7", {}, False, "adaptive", True),
        ("claude-opus-5-5", {}, False, "adaptive", True),
        ("claude-mythos-preview", {}, False, "adaptive", True),
        ("claude-haiku-4-5", {"reasoning": False, "sampling": False}, False, "none", True),
        ("claude-opus-5-5", {"thinking": "always", "structured_output": False}, False, "always", False),
    ],
)
def test_facts_go_before_the_version(
    model: str, facts: dict[str, Any], sampling: bool, thinking: str, structured: bool
) -> None:
    traits = traits_of(model, facts)
    assert (traits.sampling, traits.thinking, traits.structured_output) == (sampling, thinking, structured)


def error(kind: str, message: str = "m", **details: Any) -> bytes:
    inner = {"type": kind, "message": message, **({"details": details} if details else {})}
    return orjson.dumps({"type": "error", "error": inner, "request_id": "r"})


@pytest.mark.parametrize(
    ("status", "body", "code", "action"),
    [
        (400, error("invalid_request_error"), Code.PROVIDER_REJECTED, Action.FINAL),
        (
            400,
            error("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
            Code.CALLER_CONTEXT_TOO_LONG,
            Action.OTHER_MODEL,
        ),
        (
            400,
            error("invalid_request_error", "Your credit balance is too low to access the API."),
            Code.PROVIDER_QUOTA,
            Action.OTHER_KEY,
        ),
        (401, error("authentication_error"), Code.PROVIDER_AUTH, Action.OTHER_KEY),
        (402, error("billing_error"), Code.PROVIDER_QUOTA, Action.OTHER_PROVIDER),
        (403, error("permission_error"), Code.PROVIDER_AUTH, Action.OTHER_PROVIDER),
        (404, error("not_found_error"), Code.PROVIDER_NOT_FOUND, Action.OTHER_PROVIDER),
        (409, error("conflict_error"), Code.PROVIDER_ERROR, Action.SAME_KEY),
        (413, error("request_too_large"), Code.CALLER_TOO_LARGE, Action.OTHER_PROVIDER),
        (429, error("rate_limit_error"), Code.PROVIDER_RATE_LIMITED, Action.OTHER_KEY),
        (
            429,
            error("rate_limit_error", error_code="enforced_spend_limit_reached"),
            Code.PROVIDER_QUOTA,
            Action.OTHER_KEY,
        ),
        (500, error("api_error"), Code.PROVIDER_ERROR, Action.SAME_KEY),
        (504, error("timeout_error"), Code.PROVIDER_TIMEOUT, Action.SAME_KEY),
        (529, error("overloaded_error"), Code.PROVIDER_OVERLOADED, Action.OTHER_PROVIDER),
        (418, error("never_heard_of"), Code.PROVIDER_REJECTED, Action.FINAL),
    ],
)
def test_each_error_means_one_thing(status: int, body: bytes, code: Code, action: Action) -> None:
    failure = DIALECT.failure(status, {}, body)
    assert (failure.code, failure.action, failure.status) == (code, action, status)
