"""One table from signals of providers to failed attempts; every row has a case."""

from datetime import datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.providers.dialect import Action
from heimdall_fleet.providers.failure_table import CODES_WITHOUT_STATUS, FAMILY_RULES, RULES, STATUSES
from heimdall_fleet.providers.failures import failure_inside, failure_of_answer, truncated
from heimdall_schemas.failure import FailureCode as Code

NOW_S = 1_795_266_000.0  # Sat, 21 Nov 2026 13:00:00 GMT


def openai(code: str | None = None, kind: str = "invalid_request_error", message: str = "No.") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def openrouter(status: int, **metadata: Any) -> dict[str, Any]:
    return {"error": {"code": status, "message": "No.", "metadata": metadata}}


def anthropic(kind: str, message: str = "No.", error_code: str | None = None) -> dict[str, Any]:
    error: dict[str, Any] = {"type": kind, "message": message}
    if error_code:
        error["details"] = {"error_code": error_code}
    return {"type": "error", "error": error, "request_id": "req_1"}


def google(status: int, word: str, message: str = "No.", *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": status, "message": message, "status": word, "details": list(details)}}


RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12s"}
PER_DAY = {"@type": "QuotaFailure", "violations": [{"quotaId": "GenerateRequestsPerDayPerProject"}]}
BAD_API_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
LLAMA_FULL = {"error": {"code": 400, "message": "No.", "type": "exceed_context_size_error", "n_ctx": 1}}
MISTRAL_422 = {"detail": [{"loc": ["body", "x"], "msg": "Extra inputs", "type": "extra_forbidden"}]}
TOO_LONG = "This model's maximum context length is 8192 tokens"
SAME, KEY, PROVIDER, MODEL, FINAL = (
    Action.SAME_KEY,
    Action.OTHER_KEY,
    Action.OTHER_PROVIDER,
    Action.OTHER_MODEL,
    Action.FINAL,
)

# family, status, body, expected code, action, flags: d = disables the key, b = breaker, o = overflow, c = content
CASES: list[tuple[str, int, Any, Code, Action, str]] = [
    ("openai", 400, openai("context_length_exceeded"), Code.CALLER_CONTEXT_TOO_LONG, MODEL, "o"),
    ("openai", 400, openai("string_above_max_length", message=TOO_LONG), Code.PROVIDER_REJECTED, FINAL, ""),
    ("openai", 400, openai("content_policy_violation"), Code.PROVIDER_REFUSED, FINAL, "c"),
    ("openai", 400, openai(message="rejected by our safety system"), Code.PROVIDER_REFUSED, FINAL, "c"),
    ("openai", 400, openai("unknown_parameter"), Code.PROVIDER_REJECTED, FINAL, ""),
    ("openai", 401, openai("invalid_api_key"), Code.PROVIDER_AUTH, KEY, "d"),
    ("openai", 401, openai(), Code.PROVIDER_AUTH, KEY, "d"),
    ("openai", 403, openai("unsupported_country_region_territory"), Code.PROVIDER_AUTH, PROVIDER, ""),
    ("openai", 403, openai(message="Not available in your region"), Code.PROVIDER_AUTH, PROVIDER, ""),
    ("openai", 403, openai(message="key revoked"), Code.PROVIDER_AUTH, KEY, "d"),
    ("openai", 403, "<html>blocked</html>", Code.PROVIDER_AUTH, PROVIDER, ""),
    ("openai", 401, openai("account_deactivated"), Code.PROVIDER_AUTH, KEY, "d"),
    ("openai", 404, openai("model_not_found"), Code.PROVIDER_NOT_FOUND, PROVIDER, ""),
    ("openai", 405, "", Code.PROVIDER_NOT_FOUND, PROVIDER, ""),
    ("openai", 410, "", Code.PROVIDER_NOT_FOUND, PROVIDER, ""),
    ("openai", 408, "", Code.PROVIDER_TIMEOUT, SAME, "b"),
    ("openai", 409, "", Code.PROVIDER_ERROR, SAME, ""),
    ("openai", 413, "", Code.CALLER_TOO_LARGE, PROVIDER, ""),
    ("openai", 422, openai(), Code.PROVIDER_REJECTED, FINAL, ""),
    ("openai", 424, "", Code.PROVIDER_ERROR, SAME, "b"),
    ("openai", 425, "", Code.PROVIDER_ERROR, SAME, ""),
    ("openai", 418, "", Code.PROVIDER_REJECTED, FINAL, ""),
    ("openai", 429, openai("rate_limit_exceeded", "requests"), Code.PROVIDER_RATE_LIMITED, KEY, ""),
    ("openai", 429, openai("slow_down", "x"), Code.PROVIDER_RATE_LIMITED, KEY, ""),
    ("openai", 429, "", Code.PROVIDER_RATE_LIMITED, KEY, ""),
    ("openai", 429, openai("insufficient_quota", "insufficient_quota"), Code.PROVIDER_QUOTA, KEY, "d"),
    ("openai", 429, openai("credit_balance_exhausted"), Code.PROVIDER_QUOTA, KEY, "d"),
    ("openai", 429, openai("organization_spend_limit_exceeded"), Code.PROVIDER_QUOTA, KEY, "d"),
    ("openai", 429, openai("project_spend_limit_exceeded"), Code.PROVIDER_QUOTA, KEY, "d"),
    ("openai", 429, openai("organization_usage_limit_exceeded"), Code.PROVIDER_QUOTA, KEY, "d"),
    ("openai", 429, openai("billing_hard_limit_reached"), Code.PROVIDER_QUOTA, KEY, "d"),
    ("openai", 500, openai(kind="server_error"), Code.PROVIDER_ERROR, SAME, "b"),
    ("openai", 501, "", Code.PROVIDER_ERROR, PROVIDER, "b"),
    ("openai", 502, "<html>bad gateway</html>", Code.PROVIDER_ERROR, SAME, "b"),
    ("openai", 503, "", Code.PROVIDER_OVERLOADED, PROVIDER, "b"),
    ("openai", 500, openai("server_is_overloaded"), Code.PROVIDER_OVERLOADED, PROVIDER, "b"),
    ("openai", 504, "", Code.PROVIDER_TIMEOUT, SAME, "b"),
    ("openai", 520, "", Code.PROVIDER_ERROR, SAME, "b"),
    ("openai", 524, "", Code.PROVIDER_TIMEOUT, SAME, "b"),
    ("openai", 307, "", Code.PROVIDER_ERROR, PROVIDER, "b"),
    ("azure", 400, openai("content_filter"), Code.PROVIDER_REFUSED, FINAL, "c"),
    (
        "azure",
        400,
        {"error": {"message": "No.", "innererror": {"code": "ResponsibleAIPolicyViolation"}}},
        Code.PROVIDER_REFUSED,
        FINAL,
        "c",
    ),
    ("azure", 404, openai("DeploymentNotFound"), Code.PROVIDER_NOT_FOUND, PROVIDER, ""),
    ("groq", 498, openai("capacity_exceeded"), Code.PROVIDER_OVERLOADED, SAME, "b"),
    ("groq", 498, "", Code.PROVIDER_OVERLOADED, SAME, "b"),
    ("groq", 499, "", Code.PROVIDER_ERROR, SAME, ""),
    ("groq", 400, openai("model_decommissioned"), Code.PROVIDER_NOT_FOUND, PROVIDER, ""),
    (
        "openrouter",
        400,
        openrouter(400, error_type="context_length_exceeded"),
        Code.CALLER_CONTEXT_TOO_LONG,
        MODEL,
        "o",
    ),
    ("openrouter", 400, openrouter(400, error_type="token_limit_exceeded"), Code.CALLER_CONTEXT_TOO_LONG, MODEL, "o"),
    ("openrouter", 400, openrouter(400, error_type="string_too_long"), Code.PROVIDER_REJECTED, FINAL, ""),
    ("openrouter", 400, openrouter(400, raw=TOO_LONG), Code.CALLER_CONTEXT_TOO_LONG, MODEL, "o"),
    ("openrouter", 402, openrouter(402, error_type="payment_required"), Code.PROVIDER_QUOTA, PROVIDER, "d"),
    (
        "openrouter",
        402,
        openrouter(402, limit_source="openrouter_in_flight_budget"),
        Code.PROVIDER_RATE_LIMITED,
        SAME,
        "",
    ),
    ("openrouter", 403, openrouter(403, reasons=["hate"], flagged_input="…"), Code.PROVIDER_REFUSED, FINAL, "c"),
    ("openrouter", 403, openrouter(403, error_type="refusal"), Code.PROVIDER_REFUSED, FINAL, "c"),
    ("openrouter", 502, openrouter(502, error_type="provider_unavailable"), Code.PROVIDER_OVERLOADED, PROVIDER, "b"),
    ("openrouter", 529, openrouter(529, error_type="provider_overloaded"), Code.PROVIDER_OVERLOADED, PROVIDER, "b"),
    ("anthropic", 400, anthropic("invalid_request_error"), Code.PROVIDER_REJECTED, FINAL, ""),
    (
        "anthropic",
        400,
        anthropic("invalid_request_error", "prompt is too long: 9 > 8"),
        Code.CALLER_CONTEXT_TOO_LONG,
        MODEL,
        "o",
    ),
    (
        "anthropic",
        400,
        anthropic("invalid_request_error", "Your credit balance is too low"),
        Code.PROVIDER_QUOTA,
        KEY,
        "d",
    ),
    (
        "anthropic",
        400,
        anthropic("invalid_request_error", "You have reached your organization's monthly usage limit"),
        Code.PROVIDER_QUOTA,
        KEY,
        "d",
    ),
    (
        "gemini",
        400,
        google(400, "FAILED_PRECONDITION", "User location is not supported"),
        Code.PROVIDER_AUTH,
        PROVIDER,
        "",
    ),
    ("anthropic", 401, anthropic("authentication_error"), Code.PROVIDER_AUTH, KEY, "d"),
    ("anthropic", 402, anthropic("billing_error"), Code.PROVIDER_QUOTA, PROVIDER, "d"),
    ("anthropic", 403, anthropic("permission_error"), Code.PROVIDER_AUTH, PROVIDER, ""),
    ("anthropic", 404, anthropic("not_found_error"), Code.PROVIDER_NOT_FOUND, PROVIDER, ""),
    ("anthropic", 413, anthropic("request_too_large"), Code.CALLER_TOO_LARGE, PROVIDER, ""),
    ("anthropic", 429, anthropic("rate_limit_error"), Code.PROVIDER_RATE_LIMITED, KEY, ""),
    (
        "anthropic",
        429,
        anthropic("rate_limit_error", error_code="enforced_spend_limit_reached"),
        Code.PROVIDER_QUOTA,
        KEY,
        "d",
    ),
    (
        "anthropic",
        429,
        anthropic("rate_limit_error", error_code="contract_spend_limit_reached"),
        Code.PROVIDER_QUOTA,
        KEY,
        "d",
    ),
    (
        "anthropic",
        429,
        anthropic("rate_limit_error", error_code="ramp_limit_exceeded"),
        Code.PROVIDER_RATE_LIMITED,
        KEY,
        "",
    ),
    ("anthropic", 500, anthropic("api_error"), Code.PROVIDER_ERROR, SAME, "b"),
    ("anthropic", 504, anthropic("timeout_error"), Code.PROVIDER_TIMEOUT, SAME, "b"),
    ("anthropic", 529, anthropic("overloaded_error"), Code.PROVIDER_OVERLOADED, PROVIDER, "b"),
    ("gemini", 429, google(429, "RESOURCE_EXHAUSTED"), Code.PROVIDER_RATE_LIMITED, KEY, ""),
    ("gemini", 400, google(400, "INVALID_ARGUMENT", "No.", BAD_API_KEY), Code.PROVIDER_AUTH, KEY, "d"),
    ("gemini", 400, [google(400, "INVALID_ARGUMENT", "API key not valid.")], Code.PROVIDER_AUTH, KEY, "d"),
    (
        "gemini",
        400,
        google(400, "INVALID_ARGUMENT", "input exceeds the maximum number of tokens"),
        Code.CALLER_CONTEXT_TOO_LONG,
        MODEL,
        "o",
    ),
    ("gemini", 403, google(403, "PERMISSION_DENIED"), Code.PROVIDER_AUTH, PROVIDER, ""),
    ("gemini", 404, google(404, "NOT_FOUND"), Code.PROVIDER_NOT_FOUND, PROVIDER, ""),
    ("gemini", 503, google(503, "UNAVAILABLE"), Code.PROVIDER_OVERLOADED, PROVIDER, "b"),
    ("cohere", 400, {"message": "too many tokens: 9"}, Code.CALLER_CONTEXT_TOO_LONG, MODEL, "o"),
    ("cohere", 498, {"message": "No."}, Code.PROVIDER_REFUSED, FINAL, "c"),
    ("cohere", 401, {"message": "invalid api token"}, Code.PROVIDER_AUTH, KEY, "d"),
    ("mistral", 422, MISTRAL_422, Code.PROVIDER_REJECTED, FINAL, ""),
    (
        "mistral",
        429,
        {"object": "error", "message": "Service tier capacity exceeded for this model.", "type": "x", "code": "3505"},
        Code.PROVIDER_OVERLOADED,
        PROVIDER,
        "b",
    ),
    ("ollama", 404, {"error": "model 'x' not found"}, Code.PROVIDER_NOT_FOUND, PROVIDER, ""),
    ("vllm", 400, {"object": "error", "message": TOO_LONG, "code": 400}, Code.CALLER_CONTEXT_TOO_LONG, MODEL, "o"),
    ("custom", 400, LLAMA_FULL, Code.CALLER_CONTEXT_TOO_LONG, MODEL, "o"),
]

AWS_CASES: list[tuple[int, str, str, Code, Action, str]] = [
    (429, "ThrottlingException", "Too many tokens, wait.", Code.PROVIDER_RATE_LIMITED, KEY, ""),
    (400, "ServiceQuotaExceededException", "", Code.PROVIDER_RATE_LIMITED, KEY, ""),
    (429, "ModelNotReadyException", "", Code.PROVIDER_OVERLOADED, PROVIDER, "b"),
    (503, "ServiceUnavailableException", "", Code.PROVIDER_OVERLOADED, PROVIDER, "b"),
    (403, "AccessDeniedException", "", Code.PROVIDER_AUTH, PROVIDER, ""),
    (403, "UnrecognizedClientException", "", Code.PROVIDER_AUTH, KEY, "d"),
    (403, "InvalidSignatureException", "", Code.PROVIDER_AUTH, KEY, "d"),
    (404, "ResourceNotFoundException", "", Code.PROVIDER_NOT_FOUND, PROVIDER, ""),
    (408, "ModelTimeoutException", "", Code.PROVIDER_TIMEOUT, SAME, "b"),
    (424, "ModelErrorException", "", Code.PROVIDER_ERROR, SAME, "b"),
    (500, "InternalServerException", "", Code.PROVIDER_ERROR, SAME, "b"),
    (400, "ValidationException", "Input is too long.", Code.CALLER_CONTEXT_TOO_LONG, MODEL, "o"),
    (400, "ValidationException", "bad field", Code.PROVIDER_REJECTED, FINAL, ""),
]


def flags(failure: Any) -> str:
    found = (
        ("d", failure.disable_key),
        ("b", failure.counts_for_breaker),
        ("o", failure.context_overflow),
        ("c", failure.content_policy),
    )
    return "".join(letter for letter, is_set in found if is_set)


def body_bytes(body: Any) -> bytes:
    return body.encode() if isinstance(body, str) else orjson.dumps(body)


@pytest.mark.parametrize(("family", "status", "body", "code", "action", "expected_flags"), CASES)
def test_a_signal_has_its_code_and_its_action(
    family: str, status: int, body: Any, code: Code, action: Action, expected_flags: str
) -> None:
    failure = failure_of_answer(family, status, {}, body_bytes(body), NOW_S)
    assert (failure.code, failure.action, flags(failure)) == (code, action, expected_flags)
    assert failure.status == status
    assert failure.message


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        ("2026-11-21T13:00:00Z", "2026-12-01T00:00:00Z"),
        ("2026-12-31T20:00:00Z", "2027-01-01T00:00:00Z"),
        ("2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z"),
        ("2026-11-30T23:59:59Z", "2026-12-01T00:59:59Z"),
    ],
)
def test_a_monthly_spend_limit_opens_on_the_first_of_the_next_month(now: str, opens: str) -> None:
    now_s, opens_s = (datetime.fromisoformat(each).timestamp() for each in (now, opens))
    body = orjson.dumps(anthropic("rate_limit_error", error_code="enforced_spend_limit_reached"))
    assert failure_of_answer("anthropic", 429, {}, body, now_s).retry_after_ms == (opens_s - now_s) * 1000


@pytest.mark.parametrize(("status", "exception", "message", "code", "action", "expected_flags"), AWS_CASES)
def test_an_aws_exception_is_named_in_a_header(
    status: int, exception: str, message: str, code: Code, action: Action, expected_flags: str
) -> None:
    headers = {"x-amzn-errortype": f"{exception}:http://internal.amazon.com/coral/x/"}
    failure = failure_of_answer("bedrock", status, headers, orjson.dumps({"message": message}), NOW_S)
    assert (failure.code, failure.action, flags(failure)) == (code, action, expected_flags)


WITHOUT_STATUS: list[tuple[str, Any, str, Code, Action]] = [
    ("openai", {"error": {"message": "boom", "type": "server_error"}}, "", Code.PROVIDER_ERROR, PROVIDER),
    ("openai", {"error": "boom"}, "", Code.PROVIDER_ERROR, PROVIDER),
    ("openai", "boom", "", Code.PROVIDER_ERROR, PROVIDER),
    ("openai", openai(), "", Code.PROVIDER_REJECTED, FINAL),
    ("openrouter", openrouter(502), "", Code.PROVIDER_ERROR, SAME),
    ("openrouter", openrouter(429), "", Code.PROVIDER_RATE_LIMITED, KEY),
    ("openrouter", {"error": {"message": "x", "metadata": {"error_type": "timeout"}}}, "", Code.PROVIDER_TIMEOUT, SAME),
    ("compat", {"error": {"message": "slow down", "code": "429"}}, "", Code.PROVIDER_RATE_LIMITED, KEY),
    ("compat", {"error": {"message": "who?", "status_code": 401}}, "", Code.PROVIDER_AUTH, KEY),
    ("compat", {"error": {"message": "x", "code": "٤٢٩", "status": "busy"}}, "", Code.PROVIDER_ERROR, PROVIDER),
    ("anthropic", anthropic("overloaded_error"), "", Code.PROVIDER_OVERLOADED, PROVIDER),
    ("anthropic", anthropic("invalid_request_error", "prompt is too long"), "", Code.CALLER_CONTEXT_TOO_LONG, MODEL),
    ("anthropic", anthropic("request_too_large"), "", Code.CALLER_TOO_LARGE, PROVIDER),
    ("gemini", google(503, "UNAVAILABLE"), "", Code.PROVIDER_OVERLOADED, PROVIDER),
    ("bedrock", {"message": "slow"}, "throttlingException", Code.PROVIDER_RATE_LIMITED, KEY),
    ("bedrock", {"message": "no"}, "validationException", Code.PROVIDER_REJECTED, FINAL),
    ("bedrock", {"message": "no"}, "modelStreamErrorException", Code.PROVIDER_ERROR, PROVIDER),
]


@pytest.mark.parametrize(("family", "error", "exception", "code", "action"), WITHOUT_STATUS)
def test_an_error_inside_a_200_is_classified_by_its_words(
    family: str, error: Any, exception: str, code: Code, action: Action
) -> None:
    failure = failure_inside(family, error, exception=exception)
    assert (failure.code, failure.action) == (code, action)


def test_every_rule_and_status_of_the_table_has_a_case() -> None:
    seen_statuses = {status for _, status, *_ in CASES} | {status for status, *_ in AWS_CASES}
    assert set(STATUSES) <= seen_statuses
    text = repr([*CASES, *AWS_CASES, *WITHOUT_STATUS]).lower()
    for rule in (*RULES, *CODES_WITHOUT_STATUS, *(rule for rules in FAMILY_RULES.values() for rule in rules)):
        words = rule.codes or rule.phrases
        assert not words or any(word in text for word in (*words, "html")), rule


def test_openrouter_402_with_a_retry_after_waits_for_the_budget_in_flight() -> None:
    failure = failure_of_answer("openrouter", 402, {"retry-after": "3"}, b"{}", NOW_S)
    assert (failure.code, failure.action, failure.retry_after_ms) == (Code.PROVIDER_RATE_LIMITED, SAME, 3000)
    assert not failure.disable_key


@pytest.mark.parametrize(
    ("status", "word", "action"),
    [(500, "false", PROVIDER), (500, "true", SAME), (400, "true", SAME), (400, "false", FINAL), (401, "true", KEY)],
)
def test_x_should_retry_overrides_the_status_for_the_same_key_only(status: int, word: str, action: Action) -> None:
    assert failure_of_answer("openai", status, {"x-should-retry": word}, b"{}", NOW_S).action is action


@pytest.mark.parametrize(
    ("headers", "body", "wait_ms"),
    [
        ({"retry-after": "2"}, {}, 2000),
        ({"retry-after-ms": "20", "retry-after": "2"}, {}, 20),
        ({}, google(429, "RESOURCE_EXHAUSTED", "No.", RETRY_INFO), 12_000),
        ({"x-ratelimit-reset-requests": "1s"}, {}, 1000),
        ({}, google(429, "RESOURCE_EXHAUSTED", "No.", PER_DAY), 19 * 3_600_000),
        ({}, google(429, "RESOURCE_EXHAUSTED", "No.", PER_DAY, RETRY_INFO), 19 * 3_600_000),
        ({"retry-after": "80000"}, google(429, "RESOURCE_EXHAUSTED", "No.", PER_DAY), 80_000_000),
        ({}, {}, None),
    ],
)
def test_a_429_says_when_to_come_back(headers: dict[str, str], body: Any, wait_ms: int | None) -> None:
    assert failure_of_answer("gemini", 429, headers, body_bytes(body), NOW_S).retry_after_ms == wait_ms


def test_limit_headers_mean_nothing_outside_a_429() -> None:
    failure = failure_of_answer("groq", 500, {"x-ratelimit-reset-requests": "1s"}, b"", NOW_S)
    assert failure.retry_after_ms is None


def test_a_truncated_answer_is_tried_elsewhere() -> None:
    failure = truncated("cut").failure
    assert (failure.code, failure.action) == (Code.PROVIDER_TRUNCATED, PROVIDER)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "message", "code", "type", "status", "details", "metadata", "detail", "violations"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON, st.integers(300, 599))
def test_no_error_body_breaks_the_reader(body: Any, status: int) -> None:
    failure = failure_of_answer("openai", status, {}, orjson.dumps(body), NOW_S)
    assert failure.status == status
    assert failure_inside("openai", body).message


@given(st.binary(max_size=64))
def test_no_bytes_break_the_reader(body: bytes) -> None:
    assert failure_of_answer("openai", 500, {}, body, NOW_S).code is not None
