from typing import Any

from heimdall_fleet.report.explanation import explanation, story


def attempt(**facts: Any) -> dict[str, Any]:
    usual = {"provider": "openai", "model": "openai/gpt-5", "key": "main", "status": 200, "failure": None}
    return {**usual, "latency_ms": 1234.5, "cost_usd_micros": 7, **facts}


def outcome(*attempts: dict[str, Any], **facts: Any) -> dict[str, Any]:
    usual = {"kind": "outcome", "request_id": "r1", "state": "answered", "failure": None, "error": None}
    return {**usual, "attempts": [*attempts], "cost_usd_micros": 14, **facts}


def told(record: dict[str, Any]) -> list[str]:
    return story(explanation([record])).split("\n")


def test_each_attempt_says_where_it_went_how_it_ended_and_what_it_cost() -> None:
    sick = attempt(provider="azure", status=503, failure="provider_overloaded")
    silent = attempt(status=None, failure="provider_timeout", cost_estimated=True)
    slow = attempt(status=None, failure="policy_cancelled", hedged=True, cost_estimated=True)
    assert told(outcome(sick, silent, slow, attempt()))[1:] == [
        "attempt 1  azure openai/gpt-5 key main: provider_overloaded (503) in 1,234 ms, 0.000007 USD",
        "attempt 2  openai openai/gpt-5 key main: provider_timeout in 1,234 ms, 0.000007 USD (a guess)",
        "attempt 3  openai openai/gpt-5 key main: given up, another call was faster, in 1,234 ms, 0.000007 USD (a guess)",
        "attempt 4  openai openai/gpt-5 key main: ok in 1,234 ms, 0.000007 USD",
        "outcome    answered, 0.000014 USD in all",
    ]


def test_an_end_without_an_answer_has_its_error_in_words() -> None:
    record = outcome(state="failed", failure="provider_rejected", error="gpt-5 at openai: max_tokens is too large")
    assert told(record)[-2:] == [
        "outcome    failed (provider_rejected), 0.000014 USD in all",
        "error      gpt-5 at openai: max_tokens is too large",
    ]


def test_an_answer_by_idempotency_key_names_the_request_that_was_asked() -> None:
    record = outcome(answered_for="r0", cost_usd_micros=0)
    assert told(record)[-1] == "outcome    answered with the answer of r0, 0.000000 USD in all"
