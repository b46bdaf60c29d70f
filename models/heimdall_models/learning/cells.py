"""quality[model, domain] from rewards: what each model's answers were worth, as if it had answered all the traffic."""

from __future__ import annotations

import numpy as np
import orjson

from heimdall_models.bundle import DOMAINS, Bundle
from heimdall_models.learning.logged import Floats, Logged
from heimdall_models.learning.outcome import effective_size, fit_weights
from heimdall_models.quality import Outcomes, QualityTable, merge_outcomes, parse_quality, quality_document

FEWEST_ROWS = 5.0
"""Effective rows that a cell needs to be measured at all."""


def domain_shares(logged: Logged, bundle: Bundle) -> Floats:
    """(n, domains) what kind of task each row is: its clusters' mixtures by their weights; even where it has none."""
    mixtures = bundle.clusters.domains.astype(np.float64)
    known = (logged.clusters >= 0) & (logged.clusters < len(mixtures))
    weight = np.where(known, logged.cluster_weights, 0.0)
    shares = np.einsum("nk,nkd->nd", weight, mixtures[np.where(known, logged.clusters, 0)])
    total = shares.sum(axis=1, keepdims=True)
    return np.where(total > 0, shares / np.where(total > 0, total, 1.0), 1.0 / mixtures.shape[1])


def refitted_quality(logged: Logged, bundle: Bundle) -> bytes | None:
    """The bundle's quality table moved by the rewards of these rows, as the bytes of `quality.json`; None without a table.

    Each row counts 1 / p (a model is asked what suits it; weighted, its rows look like all traffic) and belongs to domains
    by its clusters' shares. A cell's estimate is worth 20 effective rows. Rewards have a level of their own, published
    scores another: the mean difference over all measured cells is taken out, since only differences of models decide.
    """
    if bundle.quality_json is None:
        return None
    table = parse_quality(bundle.quality_json)
    measured = _measured(logged, domain_shares(logged, bundle))
    merged = merge_outcomes(table, _at_level_of(table, measured))
    return orjson.dumps(quality_document(merged), option=orjson.OPT_SORT_KEYS) + b"\n"


def _measured(logged: Logged, shares: Floats) -> list[Outcomes]:
    found = []
    known = np.isfinite(logged.reward)
    weight = fit_weights(logged.p_served)
    for number, model in enumerate(logged.models):
        rows = known & (logged.served == number)
        for column, domain in enumerate(DOMAINS):
            cell = weight[rows] * shares[rows, column]
            # Shares below one make a row a part of a row: never more effective rows than the shares add up to.
            count = min(effective_size(cell), float(shares[rows, column].sum()))
            if count >= FEWEST_ROWS:
                found.append(Outcomes(model, domain, count, float(cell @ logged.reward[rows] / cell.sum())))
    return found


def _at_level_of(table: QualityTable, measured: list[Outcomes]) -> list[Outcomes]:
    known = [row for row in measured if row.model in table.models]
    if not known:
        return measured
    place = [(table.models.index(row.model), table.domains.index(row.domain)) for row in known]
    gaps = np.array([row.mean - table.quality[cell] for row, cell in zip(known, place, strict=True)])
    level = float(np.average(gaps, weights=[row.count for row in known]))
    return [Outcomes(r.model, r.domain, r.count, min(1.0, max(0.0, r.mean - level))) for r in measured]
