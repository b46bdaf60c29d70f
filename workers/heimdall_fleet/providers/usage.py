"""Token counts in the canonical shape: prompt includes cached tokens, completion includes reasoning tokens."""

from typing import Any

from heimdall_fleet.providers.shapes import object_of

_NUMBER = (int, float)
"""`int | float` would be put together anew for each count."""


def canonical_usage(
    prompt: Any, completion: Any, *, cached: Any = 0, cache_write: Any = 0, reasoning: Any = 0
) -> dict[str, Any]:
    """The `usage` object of a completion. Counts may be missing, null or floats, as providers send them."""
    prompt_tokens, completion_tokens = count(prompt), count(completion)
    prompt_details = {"cached_tokens": count(cached) if cached else 0}
    if cache_write and (written := count(cache_write)):
        prompt_details["cache_write_tokens"] = written
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": prompt_details,
        "completion_tokens_details": {"reasoning_tokens": count(reasoning) if reasoning else 0},
    }


def usage_of_openai(raw: Any) -> dict[str, Any] | None:
    """Canonical counts of an OpenAI-like `usage`, with a reported `cost` kept; None when there is none.

    DeepSeek names cached tokens otherwise, and some servers (xAI) count reasoning beside the completion: there the
    total is the sum of all three.
    """
    if not isinstance(raw, dict) or ("prompt_tokens" not in raw and "completion_tokens" not in raw):
        return None
    details = object_of(raw.get("prompt_tokens_details"))
    prompt, completion = raw.get("prompt_tokens"), raw.get("completion_tokens")
    reasoning = object_of(raw.get("completion_tokens_details")).get("reasoning_tokens")
    if reasoning and count(raw.get("total_tokens")) == count(prompt) + count(completion) + count(reasoning):
        completion = count(completion) + count(reasoning)
    usage = canonical_usage(
        prompt,
        completion,
        cached=details.get("cached_tokens") or raw.get("prompt_cache_hit_tokens"),
        cache_write=details.get("cache_write_tokens"),
        reasoning=reasoning,
    )
    if isinstance(raw.get("cost"), _NUMBER):
        usage["cost"] = raw["cost"]
    return usage


def count(value: Any) -> int:
    """A token count that may be missing, null, negative or a float."""
    return int(value) if isinstance(value, _NUMBER) and 0 <= value < 1e15 else 0
