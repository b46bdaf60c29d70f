"""What a call must be able to cost. Triage and dispatch hold a request's `max_cost_usd` against the same figure, so that
triage sends no order that dispatch then refuses.
"""

from heimdall_models.catalogue import MILLION, Price, Rate

USUAL_OUTPUT_TOKENS = 500
"""What is reckoned with where the caller names no limit on the output."""
UNKNOWN_PRICE = Price(Rate(input=30_000_000, output=150_000_000))
"""Charged, and flagged, where no price is known: above every list price of November 2026 that the catalogue holds."""


def needed_usd_micros(prompt_tokens: int, output_tokens: int, rate: Rate) -> int:
    """What must be there for a call whose output may have so many tokens, in micro-dollars, rounded up."""
    return set_aside_usd_micros(prompt_tokens, rate) - (-output_tokens * rate.output // MILLION)


def set_aside_usd_micros(prompt_tokens: int, rate: Rate) -> int:
    """For the prompt, at its dearest. Its count is the fleet's estimate, so this is for a tenth more of it."""
    dearest = max(rate.input, rate.cache_write or 0)
    return -(-prompt_tokens * dearest * 11 // (10 * MILLION))
