from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.dispatch.cost import Tokens, bill_answer, bill_guessed, cost_usd_micros, output_within, read_tokens
from heimdall_fleet.providers.usage import canonical_usage, usage_of_openai
from heimdall_models.catalogue import Price, Rate
from heimdall_models.ceiling import UNKNOWN_PRICE, needed_usd_micros

RATE = Rate(1_250_000, 10_000_000, cache_read=125_000)
PRICE = Price(RATE)
GUESS = Tokens(prompt=10, completion=10)
COUNTS = st.integers(0, 2_000_000)


def test_each_kind_of_token_has_its_own_price() -> None:
    usage = {
        "prompt_tokens": 1_000_000,
        "completion_tokens": 100_000,
        "prompt_tokens_details": {"cached_tokens": 400_000},
        "completion_tokens_details": {"reasoning_tokens": 90_000},
    }
    bill = bill_answer(usage, PRICE, UNKNOWN_PRICE)
    assert bill.usd_micros == 600_000 * 1.25 + 400_000 * 0.125 + 100_000 * 10
    assert bill.tokens == Tokens(1_000_000, 100_000, 400_000, 90_000)
    assert not bill.estimated


def test_the_providers_own_figure_counts_before_the_list_price() -> None:
    usage = {**canonical_usage(5, 5), "cost": 0.0001234567}
    assert bill_answer(usage, PRICE, UNKNOWN_PRICE).usd_micros == 124


def test_a_figure_of_zero_is_believed() -> None:
    assert bill_answer({**canonical_usage(5, 0), "cost": 0}, PRICE, UNKNOWN_PRICE).usd_micros == 0


@pytest.mark.parametrize("cost", [None, True, "free", float("nan"), float("inf"), -1, {}])
def test_what_is_no_amount_is_not_believed(cost: Any) -> None:
    usage = {**canonical_usage(1_000_000, 0), "cost": cost}
    assert bill_answer(usage, PRICE, UNKNOWN_PRICE).usd_micros == 1_250_000


def test_an_unknown_price_charges_the_high_default_and_is_flagged() -> None:
    bill = bill_answer(canonical_usage(1_000, 0), None, UNKNOWN_PRICE)
    assert bill.usd_micros == 30_000
    assert bill.estimated


def test_a_provider_without_usage_is_charged_by_the_guess() -> None:
    bill = bill_guessed(GUESS, PRICE, UNKNOWN_PRICE)
    assert (bill.usd_micros, bill.estimated) == (113, True)


def test_a_lost_answer_costs_its_prompt() -> None:
    assert bill_guessed(Tokens(1_000_000), PRICE, UNKNOWN_PRICE) == (1_250_000, Tokens(prompt=1_000_000), True)


def test_usage_that_is_no_count_is_nothing() -> None:
    usage = usage_of_openai({"prompt_tokens": "7", "completion_tokens": -3, "prompt_tokens_details": None})
    assert usage is not None
    assert read_tokens(usage) == Tokens()


@given(COUNTS, COUNTS, COUNTS)
def test_a_bill_is_never_below_the_exact_sum_nor_a_micro_dollar_above(
    prompt: int, completion: int, cached: int
) -> None:
    exact = (max(0, prompt - cached) * 1_250_000 + min(cached, prompt) * 125_000 + completion * 10_000_000) / 1_000_000
    bill = cost_usd_micros(Tokens(prompt, completion, cached), RATE)
    assert exact <= bill < exact + 1


@given(COUNTS, COUNTS)
def test_more_tokens_never_cost_less(prompt: int, completion: int) -> None:
    assert cost_usd_micros(Tokens(prompt, completion), RATE) <= cost_usd_micros(Tokens(prompt + 1, completion), RATE)


@pytest.mark.parametrize(
    ("money", "prompt", "rate", "expected"),
    [
        (1_000, 0, Rate(1_000_000, 2_000_000), 500),
        (1_000, 100, Rate(1_000_000, 2_000_000), 445),  # 110 for the prompt
        (100, 100, Rate(1_000_000, 2_000_000), 0),
        (0, 0, Rate(1_000_000, 2_000_000), 0),
        (-5, 0, Rate(1_000_000, 2_000_000), 0),
        (10, 0, Rate(0, 0), None),
        (10, 100, Rate(1_000_000, 0), 0),
        (1_000, 100, Rate(1_000_000, 2_000_000, None, 4_000_000), 280),  # the prompt may be written to the cache
    ],
)
def test_the_output_that_the_money_pays_for(money: int, prompt: int, rate: Rate, expected: int | None) -> None:
    assert output_within(money, prompt, rate) == expected


@given(
    money=st.integers(0, 10**9),
    prompt=st.integers(0, 10**6),
    rate=st.builds(Rate, st.integers(0, 10**8), st.integers(1, 10**8)),
)
def test_what_fits_never_costs_more_than_the_money(money: int, prompt: int, rate: Rate) -> None:
    fits = output_within(money, prompt, rate)
    assert fits is not None
    if fits > 0:
        assert cost_usd_micros(Tokens(prompt, fits), rate) <= money


@given(
    money=st.integers(0, 10**9),
    prompt=st.integers(0, 10**6),
    output=st.integers(1, 10**6),
    rate=st.builds(Rate, st.integers(0, 10**8), st.integers(0, 10**8)),
)
def test_the_money_that_is_needed_is_the_least_that_the_output_fits_into(
    money: int, prompt: int, output: int, rate: Rate
) -> None:
    fits = output_within(money, prompt, rate)
    assert (needed_usd_micros(prompt, output, rate) <= money) == (fits is None or fits >= output)


def test_a_long_prompt_makes_the_whole_call_dearer_and_what_is_written_to_the_cache_has_its_price() -> None:
    price = Price(Rate(1_000_000, 2_000_000), long=Rate(2_000_000, 3_000_000), long_above_tokens=200_000)
    for prompt, expected in ((200_000, 200_200), (200_001, 400_302)):
        assert bill_answer(canonical_usage(prompt, 100), price, UNKNOWN_PRICE).usd_micros == expected
    price = Price(Rate(1_000_000, 2_000_000, cache_write=1_250_000))
    usage = canonical_usage(1_000, 0, cache_write=400)
    assert bill_answer(usage, price, UNKNOWN_PRICE).usd_micros == 600 + 500
