"""How well a bundle routes on outcome tables, beside scores that need no training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall_models.bundle import Bundle
from heimdall_models.conversation import Conversation
from heimdall_models.features import MAX_BATCH, extract
from heimdall_models.training.baselines import BASELINES
from heimdall_models.training.metrics import (
    BOOTSTRAP_ROUNDS,
    apgr,
    auc,
    bucket_shares,
    calibration_bins,
    calibration_error,
    cpt,
    frontier,
    interval,
)
from heimdall_models.training.questions import question_ids
from heimdall_models.training.tables import OutcomeTable, Pools, TableError, default_pools

Floats = NDArray[np.float64]

FRONTIER_POINTS = 101
_FEWEST_GROUP_ROWS = 30
"""A group of fewer prompts gets no row of its own: its area would be noise."""

EVEN_SPLIT = 0.5
"""Difficulty percentile above which the routed pair of the win rates sends a prompt to the strong side."""

_UNKNOWN = 0.5


@dataclass(frozen=True, slots=True)
class Outcomes:
    """`n` prompts with the scores of the cheap and the strong side (n,); `benches`, `tables` and costs may be left out.

    `costs_usd` (2, n): what the cheap and what the strong side costs, NaN where unknown.
    """

    conversations: tuple[Conversation, ...]
    domains: tuple[str, ...]
    cheap: Floats
    strong: Floats
    benches: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    costs_usd: Floats | None = None


def evaluate_bundle(
    bundle: Bundle, tables: Sequence[OutcomeTable], cheap: Sequence[str] = (), strong: Sequence[str] = ()
) -> dict[str, Any]:
    """Metrics of the bundle's difficulty on these tables, JSON-ready.

    `cheap`, `strong`: the models to route between, a side's score being their mean; without them the sides are those of
    `pair_of`. Raises TableError when no table has all of them. `apgr_known`: the order by what the cheap side really scored,
    which no prediction of that score can be expected to beat. The bundle's own training prompts are not left out here
    (`seen_in_training` names their tables): what the bundle is worth on prompts it never saw is in its manifest, repeated
    as `recorded`.
    """
    pairs = {table.name: pair for table in tables if (pair := pair_of(table, cheap, strong))}
    outcomes = outcomes_of(tables, cheap, strong)
    starts = range(0, len(outcomes.conversations), MAX_BATCH)
    chunks = [extract(outcomes.conversations[at : at + MAX_BATCH], bundle.text_model).numeric for at in starts]
    verdicts = bundle.classifier.predict(np.concatenate(chunks))
    difficulty = np.where(verdicts.ok, verdicts.difficulty, _UNKNOWN)
    percentile = np.where(verdicts.ok, verdicts.percentile, _UNKNOWN)
    others = {name: score(outcomes.conversations) for name, score in BASELINES.items()}
    return measured(outcomes, difficulty) | {
        "apgr_known": _or_none(apgr(-outcomes.cheap, outcomes.cheap, outcomes.strong)),
        "bundle": bundle.hash,
        "classifier_failed": int((~verdicts.ok).sum()),
        "pairs": {name: asdict(pair) for name, pair in pairs.items()},
        "seen_in_training": sorted(set(pairs) & _trained_on(bundle)),
        "recorded": dict(bundle.manifest.get("metrics", {})),
        "buckets": bucket_shares(percentile),
        "benches": by_group(outcomes.benches, outcomes, difficulty),
        "tables": by_group(outcomes.tables, outcomes, difficulty),
        "win_rates": win_rates(outcomes, percentile),
        "baseline_frontiers": {
            name: frontier_points(score, outcomes.cheap, outcomes.strong) for name, score in others.items()
        },
        "frontier_usd": cost_points(difficulty, outcomes),
        "baseline_frontiers_usd": {name: cost_points(score, outcomes) for name, score in others.items()},
    }


def outcomes_of(tables: Sequence[OutcomeTable], cheap: Sequence[str] = (), strong: Sequence[str] = ()) -> Outcomes:
    """The rows of all tables in which both sides have a score. Raises TableError when there are none."""
    pairs = [(table, pair) for table in tables if (pair := pair_of(table, cheap, strong))]
    if not pairs:
        have = "; ".join(f"{t.name}: {', '.join(t.models)}" for t in tables)
        wanted = " and ".join(", ".join(side) or "any other" for side in (cheap, strong))
        raise TableError(f"no table has scores of two models, {wanted}; they have: {have}")
    low = np.concatenate([table.score_of(pair.cheap) for table, pair in pairs])
    high = np.concatenate([table.score_of(pair.strong) for table, pair in pairs])
    keep = np.flatnonzero(np.isfinite(low) & np.isfinite(high))
    if not len(keep):
        raise TableError("no prompt has scores of both sides; compare models that answered the same prompts")
    costs = [(table.cost_of(pair.cheap), table.cost_of(pair.strong)) for table, pair in pairs]
    conversations = [c for table, _ in pairs for c in table.conversations]
    return Outcomes(
        conversations=tuple(conversations[i] for i in keep),
        domains=_kept((d for table, _ in pairs for d in table.domains), keep),
        cheap=low[keep],
        strong=high[keep],
        benches=_kept((b for table, _ in pairs for b in table.benches), keep),
        tables=_kept((table.name for table, _ in pairs for _ in table.pids), keep),
        costs_usd=np.concatenate(costs, axis=1)[:, keep],
    )


def pair_of(table: OutcomeTable, cheap: Sequence[str] = (), strong: Sequence[str] = ()) -> Pools | None:
    """The sides to compare: the models named; else the cheapest and the best model where costs say which is cheapest;
    else the weaker and the better half. With one side given, the other is the cheapest or the best of the others.

    None when the table lacks a model that was named, when one is named on both sides, or when there is no other.
    """
    if len(table.models) < 2 or {*cheap, *strong} - {*table.models} or {*cheap} & {*strong}:
        return None
    ranked = _best_first(table)
    lowest = _cheapest(table)
    if not cheap and not strong and lowest in (None, ranked[0]):
        return default_pools(table)
    strong = strong or [model for model in ranked if model not in cheap][:1]
    weakest = [model for model in (lowest, *reversed(ranked)) if model is not None and model not in strong]
    cheap = cheap or weakest[:1]
    return Pools(tuple(cheap), tuple(strong)) if cheap and strong else None


def measured(outcomes: Outcomes, difficulty: Floats) -> dict[str, Any]:
    """APGR with its interval, CPT, AUC, calibration, frontier, domains and baselines of one difficulty (n,)."""
    cheap, strong = outcomes.cheap, outcomes.strong
    others = {name: score(outcomes.conversations) for name, score in BASELINES.items()}
    samples = resampled([difficulty, *others.values()], outcomes)
    return {
        "n": len(cheap),
        "cheap_mean": float(cheap.mean()),
        "strong_mean": float(strong.mean()),
        **_routing(difficulty, cheap, strong),
        "apgr_ci95": _limits(samples[:, 0]),
        "auc": _or_none(auc(1.0 - difficulty, cheap)),
        "ece": calibration_error(1.0 - difficulty, cheap),
        "baselines": {
            name: _routing(score, cheap, strong)
            | {
                "auc": _or_none(auc(-score, cheap)),
                "apgr_ci95": _limits(samples[:, column]),
                "behind_ci95": _limits(samples[:, 0] - samples[:, column]),
            }
            for column, (name, score) in enumerate(others.items(), start=1)
        },
        "frontier": frontier_points(difficulty, cheap, strong),
        "calibration": calibration_bins(1.0 - difficulty, cheap),
        "domains": by_group(outcomes.domains, outcomes, difficulty),
    }


def win_rates(outcomes: Outcomes, percentile: Floats) -> dict[str, Any]:
    """The pair routed at the median difficulty, prompt by prompt against each side alone; a tie is half a win."""
    to_strong = percentile > EVEN_SPLIT
    routed = np.where(to_strong, outcomes.strong, outcomes.cheap)
    alone = {"always_cheap": outcomes.cheap, "always_strong": outcomes.strong}
    return {
        "strong_share": float(to_strong.mean()),
        "mean_score": float(routed.mean()),
        "against": {name: _wins(routed, score) for name, score in alone.items()},
    }


def resampled(difficulties: Sequence[Floats], outcomes: Outcomes, rounds: int = BOOTSTRAP_ROUNDS) -> Floats:
    """(rounds, scores) APGR of several scores on the same resampled *questions*, so that differences can be taken.

    Prompts that ask one question in several wrappings are drawn together. Prompts of equal score are one straight
    piece of the frontier, as in `metrics.apgr`.
    """
    rng = np.random.default_rng(rounds)
    question = question_ids([c.text for c in outcomes.conversations])
    count = int(question.max(initial=-1)) + 1
    gain = outcomes.strong - outcomes.cheap
    pieces = [np.unique(-difficulty, return_inverse=True)[1] for difficulty in difficulties]
    areas = np.empty((rounds, len(pieces)))
    for number in range(rounds):
        weight = np.bincount(rng.integers(count, size=count), minlength=count)[question].astype(np.float64)
        areas[number] = [_area(piece, gain, weight) for piece in pieces]
    return areas


def by_group(
    groups: Sequence[str], outcomes: Outcomes, difficulty: Floats
) -> dict[str, Mapping[str, float | int | None]]:
    """Rows, mean scores, mean difficulty and APGR of each group (n names) that has enough prompts."""
    found: dict[str, Mapping[str, float | int | None]] = {}
    names = np.array(groups)
    for name in sorted(set(groups)):
        rows = np.flatnonzero(names == name)
        if len(rows) >= _FEWEST_GROUP_ROWS:
            cheap, strong = outcomes.cheap[rows], outcomes.strong[rows]
            found[name] = {
                "n": len(rows),
                "cheap": float(cheap.mean()),
                "strong": float(strong.mean()),
                "difficulty": float(difficulty[rows].mean()),
                "apgr": _or_none(apgr(difficulty[rows], cheap, strong)),
            }
    return found


def frontier_points(difficulty: Floats, cheap: Floats, strong: Floats) -> list[tuple[float, float]]:
    """(share of strong calls, mean score) at evenly spaced shares."""
    curve = frontier(difficulty, cheap, strong)
    shares = np.linspace(0.0, 1.0, FRONTIER_POINTS)
    gap = strong.mean() - cheap.mean()
    reached = np.interp(shares, curve.share, curve.pgr) if gap else np.zeros(FRONTIER_POINTS)
    return [(float(s), float(cheap.mean() + r * gap)) for s, r in zip(shares, reached, strict=True)]


def cost_points(difficulty: Floats, outcomes: Outcomes) -> list[tuple[float, float]]:
    """(mean cost of a prompt in USD, mean score) at evenly spaced shares of strong calls; empty unless all costs are known."""
    if outcomes.costs_usd is None or not np.isfinite(outcomes.costs_usd).all():
        return []
    cheap_usd, strong_usd = outcomes.costs_usd
    return [
        (cost, score)
        for (_, cost), (_, score) in zip(
            frontier_points(difficulty, cheap_usd, strong_usd),
            frontier_points(difficulty, outcomes.cheap, outcomes.strong),
            strict=True,
        )
    ]


def _best_first(table: OutcomeTable) -> list[str]:
    asked = np.isfinite(table.scores)
    mean = np.where(asked, table.scores, 0.0).sum(axis=0) / np.maximum(asked.sum(axis=0), 1)
    return [table.models[i] for i in np.argsort(-mean, kind="stable")]


def _cheapest(table: OutcomeTable) -> str | None:
    """The model with the lowest mean cost, if at least two models have costs."""
    known = np.isfinite(table.costs_usd)
    priced = known.any(axis=0)
    if priced.sum() < 2:
        return None
    mean = np.where(known, table.costs_usd, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return table.models[int(np.argmin(np.where(priced, mean, np.inf)))]


def _trained_on(bundle: Bundle) -> set[str]:
    return {str(table["name"]) for table in bundle.manifest.get("training_data", {}).get("tables", ())}


def _kept(names: Iterator[str], keep: NDArray[np.int64]) -> tuple[str, ...]:
    listed = list(names)
    return tuple(listed[i] for i in keep)


def _wins(routed: Floats, alone: Floats) -> dict[str, float]:
    wins, losses = float((routed > alone).mean()), float((routed < alone).mean())
    return {"win_rate": (1.0 + wins - losses) / 2, "wins": wins, "losses": losses}


def _area(piece: NDArray[np.int64], gain: Floats, weight: Floats) -> float:
    width = np.bincount(piece, weights=weight)
    rise = np.bincount(piece, weights=weight * gain)
    total = rise.sum()
    if total == 0:
        return float("nan")
    return float(((np.cumsum(rise) - rise / 2) * width).sum() / (total * width.sum()))


def _routing(difficulty: Floats, cheap: Floats, strong: Floats) -> dict[str, float | None]:
    """The numbers of one ranking; null where the strong side is not better."""
    return {
        "apgr": _or_none(apgr(difficulty, cheap, strong)),
        "cpt50": _or_none(cpt(difficulty, cheap, strong, 0.5)),
        "cpt80": _or_none(cpt(difficulty, cheap, strong, 0.8)),
    }


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def _limits(samples: Floats) -> tuple[float, float]:
    """The middle 95 % of the samples that are numbers; NaN (JSON: null) where none is."""
    finite = samples[np.isfinite(samples)]
    return interval(finite) if len(finite) else (float("nan"), float("nan"))
