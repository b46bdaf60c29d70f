from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.report.explanation import explanation
from heimdall_fleet.report.summary import Ledger, percentile, summarise


def outcome(request_id: str, state: str = "answered", **fields: Any) -> dict[str, Any]:
    attempt = {"failure": None, "provider": "a", "model": "a/b"}
    return {
        "kind": "outcome",
        "request_id": request_id,
        "state": state,
        "failure": None if state == "answered" else "provider_exhausted",
        "bucket": "cheap",
        "attempts": [attempt],
        "cost_usd_micros": 1_000,
        "tokens": {"prompt": 1_000, "completion": 500},
        "timings_ms": {"queued": 20.0, "dispatch": 100.0},
        **fields,
    }


def decision(request_id: str, bucket: str = "cheap") -> dict[str, Any]:
    return {"kind": "decision", "request_id": request_id, "bucket": bucket}


PREMIUM = {"input": 10.0, "output": 40.0}


def test_each_request_counts_once_however_often_its_records_are_there() -> None:
    records = [decision("1"), decision("2", "hard"), outcome("1"), outcome("1"), outcome("2")]
    figures = summarise(Ledger.of(records), PREMIUM)
    assert (figures["requests"], figures["answered"], figures["lost"]) == (2, 2, 0)
    assert figures["copies"] == 1
    assert figures["duplicates"] == 0
    assert figures["buckets"] == {"cheap": 1, "mid": 0, "hard": 1}


def test_copies_that_disagree_about_the_end_are_contradictions() -> None:
    figures = summarise(Ledger.of([outcome("1"), outcome("1", "failed")]), None)
    assert figures["duplicates"] == 1


def test_calls_of_an_overtaken_worker_cost_and_count_once_and_are_no_ending() -> None:
    guessed = {"failure": "heimdall_interrupted", "call": "w1/1", "cost_usd_micros": 10}
    made = {"failure": None, "cost_usd_micros": 40}
    known = {"failure": None, "call": "w1/1", "cost_usd_micros": 50}
    ended = outcome("1", attempts=[guessed, made], cost_usd_micros=50)
    wasted = outcome("1", "failed", attempts=[known], cost_usd_micros=40, superseded=True)
    figures = summarise(Ledger.of([decision("1"), wasted, wasted, ended]), None)
    assert (figures["provider_calls"], figures["cost_usd"]) == (2, 0.00009)
    assert (figures["answered"], figures["failed"], figures["duplicates"], figures["lost"]) == (1, 0, 0, 0)


def test_a_shadow_is_neither_an_end_nor_a_cost_of_its_request() -> None:
    shadow = outcome("1", "failed", kind="shadow", model="a/b", cost_usd_micros=900)
    figures = summarise(Ledger.of([decision("1"), shadow, outcome("1")]), None)
    assert (figures["answered"], figures["failed"], figures["duplicates"]) == (1, 0, 0)
    assert (figures["provider_calls"], figures["cost_usd"]) == (1, 0.001)
    told = explanation([outcome("1", worker="w"), shadow])
    assert (told["outcome"]["state"], told["shadow"]["state"]) == ("answered", "failed")


def test_a_request_with_a_decision_and_no_end_is_lost() -> None:
    assert summarise(Ledger.of([decision("1")]), None)["lost"] == 1
    assert summarise(Ledger.of([decision("1"), outcome("1")]), None, asked=3)["lost"] == 2


def test_always_premium_prices_the_same_tokens_at_the_premium_price() -> None:
    figures = summarise(Ledger.of([outcome("1"), outcome("2", "failed", cost_usd_micros=0)]), PREMIUM)
    assert figures["cost_always_premium_usd"] == 0.03
    assert figures["cost_usd"] == 0.001
    assert figures["saved_share"] == round(1 - 0.001 / 0.03, 4)


def test_a_failover_is_an_answer_after_a_failed_attempt() -> None:
    attempts = [{"failure": "provider_error"}, {"failure": None}]
    rows = [outcome("1", attempts=attempts), outcome("2", "failed", attempts=[{"failure": "provider_error"}])]
    assert summarise(Ledger.of(rows), None)["failovers"] == 1


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_a_value_with_its_share_at_or_below(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) / len(values) >= share - 1e-9
