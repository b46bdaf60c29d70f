"""What an attempt cost, in whole micro-dollars, rounded up. An unknown price charges a high default, never zero."""

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any, NamedTuple

from heimdall_models.catalogue import MILLION, Price, Rate
from heimdall_models.ceiling import set_aside_usd_micros


class Tokens(NamedTuple):
    """Tokens of one call; `cached` is part of `prompt`, `reasoning` part of `completion`."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0

    def as_record(self) -> dict[str, int]:
        """As audit records have them."""
        prompt, completion, cached, reasoning = self
        return {"prompt": prompt, "completion": completion, "cached": cached, "reasoning": reasoning}


class Bill(NamedTuple):
    """`estimated`: the price or the usage was not known, the figure is the fleet's own, high guess."""

    usd_micros: int
    tokens: Tokens
    estimated: bool = False


def bill_guessed(guess: Tokens, price: Price | None, unknown: Price) -> Bill:
    """The bill of an answer that says nothing of its usage, or of a call whose answer never came whole: the prompt was
    probably processed."""
    return Bill(cost_usd_micros(guess, (price or unknown).at(guess.prompt)), guess, estimated=True)


def bill_answer(usage: Mapping[str, Any], price: Price | None, unknown: Price) -> Bill:
    """The bill of an answer: the provider's own figure (`usage.cost`, USD) before tokens times list price."""
    tokens = read_tokens(usage)
    if "cost" in usage and (reported := _reported(usage["cost"])) is not None:
        return Bill(reported, tokens)
    written = usage["prompt_tokens_details"].get("cache_write_tokens", 0)
    return Bill(cost_usd_micros(tokens, (price or unknown).at(tokens.prompt), written), tokens, price is None)


def cost_usd_micros(tokens: Tokens, rate: Rate, cache_written: int = 0) -> int:
    """Prompt, cached prompt, prompt written to the cache and completion, each at its own price, rounded up once."""
    cached = min(tokens.cached, tokens.prompt)
    written = min(cache_written, tokens.prompt - cached)
    fresh = tokens.prompt - cached - written
    read_price = rate.input if rate.cache_read is None else rate.cache_read
    write_price = rate.input if rate.cache_write is None else rate.cache_write
    total = fresh * rate.input + cached * read_price + written * write_price + tokens.completion * rate.output
    return -(-total // MILLION)


def output_within(usd_micros: int, prompt_tokens: int, rate: Rate) -> int | None:
    """Tokens of output that `usd_micros` still pays for after the prompt; 0 when not even that. None: output is free."""
    prompt_cost = set_aside_usd_micros(prompt_tokens, rate)
    if rate.output == 0:
        return None if prompt_cost <= usd_micros else 0
    return max(0, usd_micros - prompt_cost) * MILLION // rate.output


def read_tokens(usage: Mapping[str, Any]) -> Tokens:
    """The counts of a canonical usage object (`providers.usage`), which has them all whatever the provider sent."""
    return Tokens(
        usage["prompt_tokens"],
        usage["completion_tokens"],
        usage["prompt_tokens_details"]["cached_tokens"],
        usage["completion_tokens_details"]["reasoning_tokens"],
    )


def _reported(cost: object) -> int | None:
    """A provider's own cost in USD as micro-dollars; None for what is no amount."""
    if isinstance(cost, bool):
        return None
    try:
        micros = (Decimal(str(cost)) * MILLION).to_integral_value(ROUND_CEILING)
    except InvalidOperation:
        return None
    return int(micros) if micros.is_finite() and micros >= 0 else None
