"""What a Claude model takes: the catalogue's word (`Target.facts`), and where it says nothing, that of its version.

sampling            bool   temperature, top_p, top_k
thinking            str    none | budget (enabled with a number of tokens) | adaptive (with an effort) | always
structured_output   bool   `output_config.format`
forced_tools        bool   a tool_choice that forces a call
prefill             bool   a conversation that ends with the beginning of the answer
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_VERSION = re.compile(r"claude-(?:[a-z]+-)*(\d)(?:[.-](\d{1,2}))?(?!\d)")


@dataclass(frozen=True, slots=True)
class Traits:
    sampling: bool
    thinking: str
    structured_output: bool
    efforts: tuple[str, ...] = ("low", "medium", "high", "xhigh", "max")
    forced_tools: bool = True
    prefill: bool = True


# The newest row whose version is not above the model's; an unknown name is taken for the newest.
_BY_VERSION: tuple[tuple[tuple[int, int], Traits], ...] = (
    ((4, 7), Traits(sampling=False, thinking="adaptive", structured_output=True, prefill=False)),
    ((4, 6), Traits(True, "adaptive", True, efforts=("low", "medium", "high", "max"), prefill=False)),
    ((4, 5), Traits(sampling=True, thinking="budget", structured_output=True)),
    ((3, 7), Traits(sampling=True, thinking="budget", structured_output=False)),
    ((0, 0), Traits(sampling=True, thinking="none", structured_output=False)),
)


def version_of(model: str) -> tuple[int, int] | None:
    """`claude-haiku-4-5-20251001` → (4, 5), `anthropic.claude-3-opus-20240229-v1:0` → (3, 0)."""
    match = _VERSION.search(model)
    return (int(match[1]), int(match[2] or 0)) if match else None


def traits_of(model: str, facts: Mapping[str, Any]) -> Traits:
    version = version_of(model) or (99, 0)
    known = next(traits for first, traits in _BY_VERSION if version >= first)
    thinking = facts.get("thinking")
    if thinking is None:
        thinking = "none" if facts.get("reasoning") is False else known.thinking
    return Traits(
        sampling=facts.get("sampling", known.sampling),
        thinking=thinking,
        structured_output=facts.get("structured_output", known.structured_output),
        efforts=tuple(facts.get("efforts") or known.efforts),
        forced_tools=facts.get("forced_tools", True),
        prefill=facts.get("prefill", known.prefill),
    )
