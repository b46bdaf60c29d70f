import pytest

from heimdall_schemas.failure import FACTS, ErrorType, Failure, FailureCode
from heimdall_schemas.reply import ErrorBody

EVERY = pytest.mark.parametrize("code", list(FailureCode))


def test_the_table_of_facts_has_each_code_once() -> None:
    assert list(FACTS) == list(FailureCode)


@EVERY
def test_a_code_names_its_domain_and_has_facts(code: FailureCode) -> None:
    assert code.partition("_")[0] in {"caller", "policy", "provider", "heimdall"}
    assert 400 <= code.facts.http_status <= 599
    assert code.facts.meaning


@EVERY
def test_the_callers_fault_is_a_4xx_that_no_retry_mends(code: FailureCode) -> None:
    if code.startswith("caller_"):
        assert code.facts.http_status < 500
        assert not code.facts.retryable
    elif code.startswith("heimdall_"):
        assert code.facts.http_status >= 500


def test_every_family_of_the_older_interface_is_used() -> None:
    assert {facts.family for facts in FACTS.values()} == set(ErrorType)


@EVERY
def test_a_failure_becomes_an_error_body_of_the_reply_schema(code: FailureCode) -> None:
    body = ErrorBody.model_validate(Failure(code, "why").as_error())
    assert (body.code, body.message, body.retryable) == (code, "why", code.facts.retryable)
    assert (body.type, body.http_status) == (code.facts.family, code.facts.http_status)


def test_the_error_body_tells_the_cause_by_kind_and_never_by_its_text() -> None:
    failure = Failure(FailureCode.HEIMDALL_CONFIG, "why", detail_code="CONFIG_MISSING", context={"limit": 3})
    failure.__cause__ = ValueError("the secret prompt")
    error = failure.as_error()
    assert error["cause"] == "ValueError"
    assert (error["detail_code"], error["context"]) == ("CONFIG_MISSING", {"limit": 3})
    assert "secret" not in str(error)
    assert str(failure) == "config (CONFIG_MISSING): why"
