"""From outcome tables to labelled rows: whose score counts, and how much each row weighs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall_models.conversation import Conversation
from heimdall_models.training.fit import Examples, Target, examples_of
from heimdall_models.training.questions import question_ids
from heimdall_models.training.tables import OutcomeTable, Pools, default_pools

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Labelled:
    """All rows of several tables. `examples` (n rows), `source` (n,) index into `names`; `cheap` and `strong` (n,) mean
    scores of the pools; `benches` and `domains` (n) names; `conversations` (n)."""

    names: tuple[str, ...]
    examples: Examples
    source: NDArray[np.int64]
    cheap: Floats
    strong: Floats
    benches: tuple[str, ...]
    domains: tuple[str, ...]
    conversations: tuple[Conversation, ...]


def labelled(
    tables: Sequence[OutcomeTable], pools: Mapping[str, Pools], target: Target, weights: Mapping[str, float]
) -> Labelled:
    """The rows of `tables`, labelled by the pools of each (default: its weaker and its better half).

    `weights`: what a row of a table weighs (default 1).
    """
    chosen = [pools.get(table.name) or default_pools(table) for table in tables]
    cheap = np.concatenate([t.score_of(p.cheap) for t, p in zip(tables, chosen, strict=True)])
    strong = np.concatenate([t.score_of(p.strong) for t, p in zip(tables, chosen, strict=True)])
    weight = np.concatenate([np.full(len(t), weights.get(t.name, 1.0)) for t in tables])
    conversations = tuple(c for table in tables for c in table.conversations)
    keep = np.flatnonzero(np.isfinite(cheap) & np.isfinite(strong))
    questions = question_ids([c.text for c in conversations])
    examples = examples_of(conversations, label_of(cheap, strong, target), weight, questions)
    source = np.repeat(np.arange(len(tables)), [len(t) for t in tables])
    return Labelled(
        names=tuple(table.name for table in tables),
        examples=examples.rows(keep),
        source=source[keep],
        cheap=cheap[keep],
        strong=strong[keep],
        benches=tuple(np.array([b for t in tables for b in t.benches])[keep]),
        domains=tuple(np.array([d for t in tables for d in t.domains])[keep]),
        conversations=tuple(conversations[i] for i in keep),
    )


def label_of(cheap: Floats, strong: Floats, target: Target) -> Floats:
    """`cheap_ok`: the cheap pool's score. `gain`: chance that the cheap pool is preferred, (1 + cheap − strong) / 2."""
    return cheap if target == "cheap_ok" else (1.0 + cheap - strong) / 2.0
