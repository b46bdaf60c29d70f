"""How well a bundle routes on outcome tables, beside scores that need no training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall_models.bundle import Bundle
from heimdall_models.conversation import Conversation
from heimdall_models.features import MAX_BATCH, extract
from heimdall_models.training.baselines import BASELINES
from heimdall_models.training.metrics import (
    apgr,
    apgr_resampled,
    auc,
    calibration_bins,
    calibration_error,
    cpt,
    frontier,
    interval,
)
from heimdall_models.training.tables import OutcomeTable, Pools, TableError, default_pools

Floats = NDArray[np.float64]

FRONTIER_POINTS = 101
_FEWEST_DOMAIN_ROWS = 30


@dataclass(frozen=True, slots=True)
class Outcomes:
    """`n` prompts with the scores of the cheap and the strong side, all (n,)."""

    conversations: tuple[Conversation, ...]
    domains: tuple[str, ...]
    cheap: Floats
    strong: Floats


def evaluate_bundle(
    bundle: Bundle, tables: Sequence[OutcomeTable], cheap: str | None = None, strong: str | None = None
) -> dict[str, Any]:
    """Metrics of the bundle's difficulty on these tables, JSON-ready.

    `cheap`, `strong`: the two models to route between; without them the weaker and the better half of each table's models.
    Raises TableError when no table has both models. The bundle's own training prompts are not left out here: what a
    bundle is worth on prompts it never saw is in its manifest.
    """
    outcomes = outcomes_of(tables, cheap, strong)
    starts = range(0, len(outcomes.conversations), MAX_BATCH)
    chunks = [
        extract(outcomes.conversations[at : at + MAX_BATCH], bundle.text_model).numeric for at in starts
    ]
    verdicts = bundle.classifier.predict(np.concatenate(chunks))
    return measured(outcomes, verdicts.difficulty) | {
        "bundle": bundle.hash,
        "buckets": _bucket_shares(verdicts.percentile),
    }


def outcomes_of(tables: Sequence[OutcomeTable], cheap: str | None, strong: str | None) -> Outcomes:
    """The rows of all tables in which both sides have a score. Raises TableError when there are none."""
    usable = [t for t in tables if all(m is None or m in t.models for m in (cheap, strong))]
    if not usable:
        have = "; ".join(f"{t.name}: {', '.join(t.models)}" for t in tables)
        raise TableError(f"no table has scores of both {cheap} and {strong}; they have: {have}")
    parts = [_sides(table, cheap, strong) for table in usable]
    low = np.concatenate([a for a, _ in parts])
    high = np.concatenate([b for _, b in parts])
    keep = np.flatnonzero(np.isfinite(low) & np.isfinite(high))
    conversations = [c for table in usable for c in table.conversations]
    domains = [d for table in usable for d in table.domains]
    return Outcomes(
        tuple(conversations[i] for i in keep), tuple(domains[i] for i in keep), low[keep], high[keep]
    )


def measured(outcomes: Outcomes, difficulty: Floats) -> dict[str, Any]:
    """APGR with its interval, CPT, AUC, calibration, frontier, domains and baselines of one difficulty (n,)."""
    cheap, strong = outcomes.cheap, outcomes.strong
    others = {name: score(outcomes.conversations) for name, score in BASELINES.items()}
    samples = apgr_resampled([difficulty, *others.values()], cheap, strong)
    return {
        "n": len(cheap),
        "cheap_mean": float(cheap.mean()),
        "strong_mean": float(strong.mean()),
        **_routing(difficulty, cheap, strong),
        "apgr_ci95": interval(samples[:, 0]),
        "auc": auc(1.0 - difficulty, cheap),
        "ece": calibration_error(1.0 - difficulty, cheap),
        "baselines": {
            name: _routing(score, cheap, strong)
            | {
                "apgr_ci95": interval(samples[:, column]),
                "behind_ci95": interval(samples[:, 0] - samples[:, column]),
            }
            for column, (name, score) in enumerate(others.items(), start=1)
        },
        "frontier": _frontier_points(difficulty, cheap, strong),
        "calibration": calibration_bins(1.0 - difficulty, cheap),
        "domains": _by_domain(outcomes, difficulty),
    }


def _sides(table: OutcomeTable, cheap: str | None, strong: str | None) -> tuple[Floats, Floats]:
    pools: Pools = default_pools(table)
    low = pools.cheap if cheap is None else (cheap,)
    high = pools.strong if strong is None else (strong,)
    return table.score_of(low), table.score_of(high)


def _routing(difficulty: Floats, cheap: Floats, strong: Floats) -> dict[str, float | None]:
    """The numbers of one ranking; null where the strong side is not better."""
    return {
        "apgr": _or_none(apgr(difficulty, cheap, strong)),
        "cpt50": _or_none(cpt(difficulty, cheap, strong, 0.5)),
        "cpt80": _or_none(cpt(difficulty, cheap, strong, 0.8)),
    }


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def _frontier_points(difficulty: Floats, cheap: Floats, strong: Floats) -> list[tuple[float, float]]:
    """(share of strong calls, mean score) at evenly spaced shares."""
    curve = frontier(difficulty, cheap, strong)
    shares = np.linspace(0.0, 1.0, FRONTIER_POINTS)
    quality = cheap.mean() + np.interp(shares, curve.share, curve.pgr) * (strong.mean() - cheap.mean())
    return [(float(s), float(q)) for s, q in zip(shares, quality, strict=True)]


def _by_domain(outcomes: Outcomes, difficulty: Floats) -> dict[str, Mapping[str, float | int | None]]:
    found: dict[str, Mapping[str, float | int | None]] = {}
    names = np.array(outcomes.domains)
    for name in sorted(set(outcomes.domains)):
        rows = np.flatnonzero(names == name)
        if len(rows) >= _FEWEST_DOMAIN_ROWS:
            cheap, strong = outcomes.cheap[rows], outcomes.strong[rows]
            found[name] = {
                "n": len(rows),
                "cheap": float(cheap.mean()),
                "strong": float(strong.mean()),
                "difficulty": float(difficulty[rows].mean()),
                "apgr": _or_none(apgr(difficulty[rows], cheap, strong)),
            }
    return found


def _bucket_shares(percentile: Floats) -> dict[str, float]:
    """Shares of the buckets at the default thresholds."""
    cheap = float((percentile < 0.3).mean())
    hard = float((percentile > 0.7).mean())
    return {"cheap": cheap, "mid": 1.0 - cheap - hard, "hard": hard}
