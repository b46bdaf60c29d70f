"""From scores to a model and a chain: rank, then what may overrule the rank (the session's model, exploration)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heimdall_models.asked import Asked
from heimdall_models.experiment import draw
from heimdall_models.guard import Guarded, passing
from heimdall_models.pools import BUCKETS, FAR, Flags, Floats, Indices, PoolBook
from heimdall_models.score import Scores, View, score

BUCKET_STEPS = 6
"""Models of the bucket that a chain holds at most, the chosen one included."""

STEPS_ABOVE = 4
"""Models of the bucket above that follow them."""


@dataclass(frozen=True, slots=True)
class Choices:
    """(n,) the slot chosen in each row's pool, with the probability that it was; `order` (n, slots) best first.

    `above`: for rows that have a bucket above, their own pool and the eligible slots of the one above, best first.
    """

    chosen: list[int]
    p_chosen: list[float]
    explored: list[bool]
    sticky: list[bool]
    order: list[list[int]]
    eligible: list[int]
    above: dict[int, tuple[int, list[int]]]


def scores_of(asked: Asked, guarded: Guarded, book: PoolBook) -> tuple[Scores, View, Flags]:
    """Scores of each row's pool, then of the pool above for rows that have one: one matrix operation for both.

    The view's first n rows are the batch's own. The flags say which slots of the view are eligible.
    """
    everyone = np.arange(len(asked))
    upward = np.flatnonzero(guarded.pool < len(BUCKETS) - 1)
    above = View(asked, book, upward, guarded.pool[upward] + 1)
    passed, taken = passing(above)
    guarded.note_deadline(above, taken)
    eligible = np.concatenate((guarded.eligible, passed))
    view = View(asked, book, np.concatenate((everyone, upward)), np.concatenate((guarded.pool, above.pool)))
    return score(view), view, eligible


def rank(scores: Scores, eligible: Flags, preferred: Flags | None) -> Indices:
    """(r, slots) slots best first: preferred, then by score, then the cheaper, then by name; the ineligible last.

    Slots stand in the order of names, and the sort is stable.
    """
    lowest = np.where(eligible, -scores.score, FAR)
    keys: list[Floats | Flags] = [scores.cost_usd_micros, lowest]
    if preferred is not None:
        keys.append(~preferred)
    return np.asarray(np.lexsort(keys, axis=-1))


def choose(asked: Asked, guarded: Guarded, scored: tuple[Scores, View, Flags], book: PoolBook) -> Choices:
    """Pick a model for every row. Refused rows get slot 0 and are not looked at again."""
    scores, view, eligible = scored
    preferred = guarded.preferred
    if preferred is not None:
        preferred = np.concatenate((preferred, np.zeros((len(view.rows) - len(asked), preferred.shape[1]), np.bool_)))
    order = rank(scores, eligible, preferred)
    counts = eligible.sum(axis=1).tolist()
    count = len(asked)
    ranked = order.tolist()
    chosen = order[:count, 0].tolist()
    sticky = _stay(asked, guarded, scores, chosen, book)
    explored, p_chosen = _explore(asked, chosen, ranked, counts, book.rules.exploration)
    return Choices(
        chosen=chosen,
        p_chosen=p_chosen,
        explored=explored,
        sticky=sticky,
        order=ranked[:count],
        eligible=counts[:count],
        above={
            row: (pool - 1, ranked[at][: counts[at]])
            for at, (row, pool) in enumerate(
                zip(view.rows[count:].tolist(), view.pool[count:].tolist(), strict=True), start=count
            )
        },
    )


def _stay(asked: Asked, guarded: Guarded, scores: Scores, chosen: list[int], book: PoolBook) -> list[bool]:
    """A session stays with its model unless the best is better by more than the margin. Changes `chosen`."""
    sticky = [False] * len(chosen)
    if asked.plain:
        return sticky
    for row, one in enumerate(asked.asking):
        if one.previous is None or one.pinned is not None:
            continue
        names = book.pools[int(guarded.pool[row])].names
        if one.previous not in names:
            continue
        slot, best = names.index(one.previous), chosen[row]
        gain = scores.score[row, best] - scores.score[row, slot]
        if slot == best or not guarded.eligible[row, slot] or gain > book.rules.switch_margin:
            continue
        if guarded.preferred is not None and guarded.preferred[row, best] and not guarded.preferred[row, slot]:
            continue
        chosen[row], sticky[row] = slot, True
    return sticky


def _explore(
    asked: Asked, chosen: list[int], ranked: list[list[int]], counts: list[int], share: float
) -> tuple[list[bool], list[float]]:
    """A share of the requests draws evenly among the eligible. Changes `chosen`.

    The probability of what came out is exact: share / n for each of n models, and 1 − share more for the greedy one.
    """
    rows = len(chosen)
    if share <= 0.0:
        return [False] * rows, [1.0] * rows
    explored, p_chosen = [], []
    for row, (request_id, one) in enumerate(zip(asked.ids, asked.asking, strict=True)):
        options = counts[row]
        if one.pinned is not None or options < 2:
            explored.append(False)
            p_chosen.append(1.0)
            continue
        greedy = chosen[row]
        explored.append(draw("explore", request_id) < share)
        if explored[-1]:
            eligible = sorted(ranked[row][:options])
            chosen[row] = eligible[int(draw("explored model", request_id) * options)]
        p_chosen.append(share / options + (1.0 - share if chosen[row] == greedy else 0.0))
    return explored, p_chosen


def chain(choices: Choices, row: int) -> list[int]:
    """The row's slots in the order of asking: the chosen one, then the runners-up by rank."""
    ranked = choices.order[row][: min(choices.eligible[row], BUCKET_STEPS)]
    chosen = choices.chosen[row]
    if ranked[0] == chosen:
        return ranked
    return [chosen, *(slot for slot in ranked if slot != chosen)][:BUCKET_STEPS]
