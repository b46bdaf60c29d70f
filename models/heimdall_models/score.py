"""The α-score: `alpha · quality − (1 − alpha) · cost − penalties`, for a whole batch in one go.

Quality and cost are min-max normalised to 0..1 within each cluster over the models of the pool, then averaged over the
nearest clusters with their softmax weights. Quality comes from the bundle's table, cost from the catalogue's prices for
the request's own tokens and the cluster's usual length of answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from heimdall_models.asked import Asked
from heimdall_models.pools import FAR, Flags, Floats, Indices, PoolBook

TERM_DECIMALS = 6
SCORE_DECIMALS = 10
"""Terms are rounded before they are added, so that a record's terms give its score again to 1e-9."""

CONTEXT_LIMIT = 0.8

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, slots=True)
class View:
    """Which row of the batch looks at which pool: (r,) each. One row may look at several pools."""

    asked: Asked
    book: PoolBook
    rows: Indices
    pool: Indices

    @property
    def valid(self) -> Flags:
        return self.book.stack.valid[self.pool]


@dataclass(frozen=True, slots=True)
class Scores:
    """All (r, slots): the score and its terms. `over_80`: the full window is penalised. `cost_usd_micros`: expected."""

    score: Floats
    quality: Floats
    cost: Floats
    over_80: Flags
    cost_usd_micros: Floats


def score(view: View) -> Scores:
    """Scores of every slot of each row's pool; slots that fell out are scored too."""
    asked, stack = view.asked, view.book.stack
    weights = _per_row(asked.weights, view)
    quality = _over_clusters(stack.quality_at(view.pool, _clusters(view)) * weights)
    per_cluster = _cost_by_cluster(view)
    cheapest = per_cluster.min(axis=0)
    span = per_cluster.max(axis=0) - cheapest
    shares = weights / np.where(span > 0, span, 1.0)
    cost = _over_clusters((per_cluster - cheapest) * shares)
    over_80 = asked.tokens[view.rows, None] > CONTEXT_LIMIT * stack.window[view.pool]
    penalty = stack.latency_penalty[view.pool] + over_80 * view.book.rules.penalties.ctx_over_80pct
    alpha = asked.alpha[view.rows, None]
    return Scores(
        score=alpha_score(alpha, quality, cost, penalty).round(SCORE_DECIMALS),
        quality=quality,
        cost=cost,
        over_80=over_80,
        cost_usd_micros=_weighted(per_cluster, weights),
    )


def alpha_score(alpha: Floats, quality: Floats, cost: Floats, penalty: Floats) -> Floats:
    """The formula, element by element."""
    return alpha * quality - (1.0 - alpha) * cost - penalty


def expected_cost(view: View) -> Floats:
    """(r, slots) micro-dollars that a call is expected to cost, rounded up."""
    return _weighted(_cost_by_cluster(view), _per_row(view.asked.weights, view))


def _weighted(per_cluster: Floats, weights: Floats) -> Floats:
    return np.asarray(np.ceil(_over_clusters(per_cluster * weights)))


def _over_clusters(values: Floats) -> Floats:
    """(r, slots) sums of (slots, top_p, r), rounded; in one order whatever the batch, unlike numpy's sum."""
    total = values[:, 0]
    for place in range(1, values.shape[1]):
        total = total + values[:, place]
    return np.asarray(total.round(TERM_DECIMALS).T)


def _clusters(view: View) -> Indices:
    return _per_row(view.asked.reading.clusters, view)


def _per_row(values: NDArray[Number], view: View) -> NDArray[Number]:
    """(top_p, r) of (n, top_p): with the rows last, sums and extremes over slots and clusters run along whole rows."""
    return np.ascontiguousarray(values.T[:, view.rows])


def _cost_by_cluster(view: View) -> Floats:
    """(slots, top_p, r) micro-dollars: the prompt at the input rate, the cluster's answer length at the output rate."""
    asked, stack, pool = view.asked, view.book.stack, view.pool
    tokens = asked.tokens[view.rows, None]
    rate_in, rate_out = stack.rate_in[pool], stack.rate_out[pool]
    if tokens.max(initial=0.0) > stack.first_long:
        long = tokens > stack.long_above[pool]
        rate_in = np.where(long, stack.long_in[pool], rate_in)
        rate_out = np.where(long, stack.long_out[pool], rate_out)
    answer = view.book.output_tokens[_clusters(view)]
    asked_for = asked.reading.max_output[view.rows]
    if asked_for.any():
        answer = np.minimum(answer, np.where(asked_for > 0, asked_for, FAR))
    prompt = np.ascontiguousarray((rate_in * tokens).T)
    return np.asarray(prompt[:, None, :] + np.ascontiguousarray(rate_out.T)[:, None, :] * answer)
