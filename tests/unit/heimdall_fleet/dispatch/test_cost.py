from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.dispatch.cost import Tokens, bill_answer, bill_lost, cost_usd_micros, output_within, read_tokens
from heimdall_fleet.dispatch.settings import UNKNOWN_PRICE, Price
from heimdall_fleet.providers.usage import canonical_usage, usage_of_openai

PRICE = Price(1_250_000, 10_000_000, cache_read_usd_micros=125_000)
GUESS = Tokens(prompt=10, completion=10)
COUNTS = st.integers(0, 2_000_000)


def test_each_kind_of_token_has_its_own_price() -> None:
    usage = {
        "prompt_tokens": 1_000_000,
        "completion_tokens": 100_000,
        "prompt_tokens_details": {"cached_tokens": 400_000},
        "completion_tokens_details": {"reasoning_tokens": 90_000},
    }
    bill = bill_answer(usage, PRICE, UNKNOWN_PRICE, GUESS)
    assert bill.usd_micros == 600_000 * 1.25 + 400_000 * 0.125 + 100_000 * 10
    assert bill.tokens == Tokens(1_000_000, 100_000, 400_000, 90_000)
    assert not bill.estimated


def test_the_providers_own_figure_counts_before_the_list_price() -> None:
    usage = {**canonical_usage(5, 5), "cost": 0.0001234567}
    assert bill_answer(usage, PRICE, UNKNOWN_PRICE, GUESS).usd_micros == 124


def test_a_figure_of_zero_is_believed() -> None:
    assert bill_answer({**canonical_usage(5, 0), "cost": 0}, PRICE, UNKNOWN_PRICE, GUESS).usd_micros == 0


@pytest.mark.parametrize("cost", [None, True, "free", float("nan"), float("inf"), -1, {}])
def test_what_is_no_amount_is_not_believed(cost: Any) -> None:
    usage = {**canonical_usage(1_000_000, 0), "cost": cost}
    assert bill_answer(usage, PRICE, UNKNOWN_PRICE, GUESS).usd_micros == 1_250_000


def test_an_unknown_price_charges_the_high_default_and_is_flagged() -> None:
    bill = bill_answer(canonical_usage(1_000, 0), None, UNKNOWN_PRICE, GUESS)
    assert bill.usd_micros == 30_000
    assert bill.estimated


def test_a_provider_without_usage_is_charged_by_the_guess() -> None:
    bill = bill_answer(None, PRICE, UNKNOWN_PRICE, GUESS)
    assert (bill.usd_micros, bill.estimated) == (113, True)


def test_a_lost_answer_costs_its_prompt() -> None:
    assert bill_lost(1_000_000, PRICE, UNKNOWN_PRICE) == (1_250_000, Tokens(prompt=1_000_000), True)


def test_usage_that_is_no_count_is_nothing() -> None:
    usage = usage_of_openai({"prompt_tokens": "7", "completion_tokens": -3, "prompt_tokens_details": None})
    assert usage is not None
    assert read_tokens(usage) == Tokens()


@given(COUNTS, COUNTS, COUNTS)
def test_a_bill_is_never_below_the_exact_sum_nor_a_micro_dollar_above(
    prompt: int, completion: int, cached: int
) -> None:
    exact = (max(0, prompt - cached) * 1_250_000 + min(cached, prompt) * 125_000 + completion * 10_000_000) / 1_000_000
    bill = cost_usd_micros(Tokens(prompt, completion, cached), PRICE)
    assert exact <= bill < exact + 1


@given(COUNTS, COUNTS)
def test_more_tokens_never_cost_less(prompt: int, completion: int) -> None:
    assert cost_usd_micros(Tokens(prompt, completion), PRICE) <= cost_usd_micros(Tokens(prompt + 1, completion), PRICE)


@pytest.mark.parametrize(
    ("money", "prompt", "price", "expected"),
    [
        (1_000, 0, Price(1_000_000, 2_000_000), 500),
        (1_000, 100, Price(1_000_000, 2_000_000), 445),  # 110 for the prompt
        (100, 100, Price(1_000_000, 2_000_000), 0),
        (0, 0, Price(1_000_000, 2_000_000), 0),
        (-5, 0, Price(1_000_000, 2_000_000), 0),
        (10, 0, Price(0, 0), None),
        (10, 100, Price(1_000_000, 0), 0),
        (1_000, 100, Price(1_000_000, 2_000_000, None, 4_000_000), 280),  # the prompt may be written to the cache
    ],
)
def test_the_output_that_the_money_pays_for(money: int, prompt: int, price: Price, expected: int | None) -> None:
    assert output_within(money, prompt, price) == expected


@given(
    money=st.integers(0, 10**9),
    prompt=st.integers(0, 10**6),
    price=st.builds(Price, st.integers(0, 10**8), st.integers(1, 10**8)),
)
def test_what_fits_never_costs_more_than_the_money(money: int, prompt: int, price: Price) -> None:
    fits = output_within(money, prompt, price)
    assert fits is not None
    if fits > 0:
        assert cost_usd_micros(Tokens(prompt, fits), price) <= money
