"""What a Gemini model takes: the catalogue's word (`Target.facts`), and where it says nothing, that of its version.

thinking          str        none | budget (a number of tokens) | level (a word)
thinking_budget   two ints   the least and the most budget; the least 0 means that thinking can be off
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_VERSION = re.compile(r"gemini-(\d{1,2})(?:\.(\d{1,2}))?(?!\d)")
LEVELS = ("minimal", "low", "medium", "high", "xhigh")
_BUDGETS: tuple[tuple[str, tuple[int, int]], ...] = (
    ("flash-lite", (512, 24_576)),
    ("flash", (0, 24_576)),
    ("", (128, 32_768)),
)


@dataclass(frozen=True, slots=True)
class Traits:
    """`tool_ids`: calls and results of functions carry ids, and calls their thought signature. `penalties`: taken."""

    thinking: str
    budget: tuple[int, int]
    tool_ids: bool
    penalties: bool


def version_of(model: str) -> tuple[int, int] | None:
    """`gemini-2.5-pro` → (2, 5), `gemini-4-argon` → (4, 0)."""
    match = _VERSION.search(model)
    return (int(match[1]), int(match[2] or 0)) if match else None


def traits_of(model: str, facts: Mapping[str, Any]) -> Traits:
    """An unknown name that looks like no Gemini (Gemma, say) is taken for an early one."""
    version = version_of(model) or (0, 0)
    thinking = facts.get("thinking")
    if thinking is None:
        thinking = "level" if version >= (3, 0) else "budget" if version >= (2, 5) else "none"
        thinking = "none" if facts.get("reasoning") is False else thinking
    least, most = facts.get("thinking_budget") or next(limits for name, limits in _BUDGETS if name in model)
    return Traits(thinking, (least, most), tool_ids=version >= (3, 0), penalties=version < (3, 0))
