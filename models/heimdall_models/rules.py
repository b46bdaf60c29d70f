"""Everything besides the bundle and the catalogue that decides: one frozen value made from the configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from heimdall_models.catalogue import DEFAULT_CANDIDATES
from heimdall_models.experiment import Experiment
from heimdall_schemas.topics import Bucket

Resolve = Callable[[str], str | None]
"""Any spelling of a model → its id; None for what no model is called."""

EFFORT = "gpt5_reasoning_effort"
BUDGET = "gemini_thinking_budget"

DEFAULT_BUCKET_SETTINGS: Mapping[Bucket, Mapping[str, Any]] = MappingProxyType(
    {
        Bucket.MID: {EFFORT: "medium", BUDGET: 15_000},
        Bucket.HARD: {EFFORT: "high", BUDGET: 30_000},
    }
)
"""How hard the families that can be steered shall think, by bucket."""


@dataclass(frozen=True, slots=True)
class Penalties:
    """`latency_sd` times a model's relative latency deviation; `ctx_over_80pct` when its window is over 80 % full."""

    latency_sd: float = 0.1
    ctx_over_80pct: float = 0.15


@dataclass(frozen=True, slots=True)
class Rules:
    """The `router:` section and what follows from the rest of the configuration.

    `served`: model id → the provider that is asked first; a model that is not in it cannot be chosen.
    `max_price_usd`: USD per million tokens, holds for models served by the provider type openrouter (`by_openrouter`).
    `schemaless`: models whose provider takes no JSON schema.
    `tenants`: tenant → the models (`author/model`) or authors (`author/`) it may use; a tenant that is not named may
    use all. `exploration`: share of requests whose model is drawn evenly from all eligible ones of
    its bucket, `across`: of all buckets.
    `timeout_ms`: budget of one decision, `feature_timeout_ms`: of its features, `embedding_timeout_ms`: of a plugged-in
    embedder; a batch of n has n times as much.
    `switch_margin`: a session leaves its model only for a score better by more than this.
    """

    served: Mapping[str, str]
    alpha: float = 0.7
    cheap_below: float = 0.3
    hard_above: float = 0.7
    top_p: int = 5
    penalties: Penalties = Penalties()
    candidates: Mapping[Bucket, tuple[str, ...]] = field(default_factory=lambda: DEFAULT_CANDIDATES)
    bucket_defaults: Mapping[Bucket, Mapping[str, Any]] = field(default_factory=lambda: DEFAULT_BUCKET_SETTINGS)
    exclude_authors: tuple[str, ...] = ()
    max_price_usd: float | None = None
    by_openrouter: frozenset[str] = frozenset({"openrouter"})
    schemaless: frozenset[str] = frozenset()
    tenants: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    exploration: float = 0.0
    across: bool = False
    switch_margin: float = 0.05
    experiment: Experiment | None = None
    feature_timeout_ms: float = 25.0
    embedding_timeout_ms: float = 15_000.0
    timeout_ms: float = 25.0
    config_hash: str = ""

    def __post_init__(self) -> None:
        if not 0.0 <= self.cheap_below < self.hard_above <= 1.0:
            raise ValueError(
                f"router.thresholds: cheap {self.cheap_below} must be below hard {self.hard_above}, both in 0..1"
            )
        if not 0.0 <= self.alpha <= 1.0 or not 0.0 <= self.exploration <= 1.0:
            raise ValueError(
                f"router.alpha {self.alpha} and router.exploration.share {self.exploration} must be in 0..1"
            )


def settings_for(family: str, reasoning: bool | None, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The bucket's reasoning settings in the words of a model's family; nothing for a model that cannot be steered.

    >>> settings_for("gpt", True, {"gpt5_reasoning_effort": "medium", "gemini_thinking_budget": 15000})
    {'reasoning_effort': 'medium'}
    """
    if reasoning is False:
        return {}
    if family == "gpt" and defaults.get(EFFORT) is not None:
        return {"reasoning_effort": defaults[EFFORT]}
    if family == "gemini" and defaults.get(BUDGET) is not None:
        return {"thinking_budget": defaults[BUDGET]}
    return {}


def meant(names: Iterable[str], resolve: Resolve) -> tuple[str, ...]:
    """Ids (`author/model`) and authors (`author/`) that a caller's names mean, for `allows`.

    A name without a slash that no model has means the author: it would exclude nothing, and nobody would be told.
    """
    return tuple(
        name if name.endswith("/") else resolve(name) or (name if "/" in name else f"{name}/") for name in names
    )


def allows(patterns: tuple[str, ...], model_id: str) -> bool:
    """Whether a list of ids (`author/model`) and authors (`author/`, in any case) names this model."""
    return any(
        model_id == pattern or (pattern.endswith("/") and model_id.lower().startswith(pattern.lower()))
        for pattern in patterns
    )
