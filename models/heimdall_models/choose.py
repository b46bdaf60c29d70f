"""From scores to a model and a chain: rank, then what may overrule the rank (the session's model, exploration)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from heimdall_models.asked import Asked
from heimdall_models.experiment import draw
from heimdall_models.guard import Guarded, passing
from heimdall_models.pools import BUCKETS, FAR, Flags, Floats, Indices, PoolBook
from heimdall_models.score import SCORE_DECIMALS, Scores, View, score

BUCKET_STEPS = 6
"""Models of the bucket that a chain holds at most, the chosen one included."""

STEPS_ABOVE = 4
"""Models of the bucket above that follow them."""


@dataclass(frozen=True, slots=True)
class Choices:
    """(n,) the slot chosen in each row's pool, with the probability that it was.

    `order`: the view's slots, best first; `eligible`: how many of them, (r,) each. `above`: for rows that have a bucket
    above, where it stands in the view. `reach`: by row, who could be drawn where exploration goes over all buckets.
    """

    chosen: list[int]
    p_chosen: list[float]
    explored: list[bool]
    sticky: list[bool]
    order: Indices
    eligible: list[int]
    above: dict[int, int]
    reach: Mapping[int, Sequence[str]] = field(default_factory=dict)

    def slots(self, row: int) -> list[int]:
        """The row's slots in the order of asking: the chosen one, then the runners-up by rank."""
        ranked: list[int] = self.order[row, : min(self.eligible[row], BUCKET_STEPS)].tolist()
        chosen = self.chosen[row]
        return [chosen, *(slot for slot in ranked if slot != chosen)][:BUCKET_STEPS]

    def slots_above(self, row: int) -> list[int]:
        """The eligible slots of the bucket above, best first."""
        at = self.above[row]
        found: list[int] = self.order[at, : self.eligible[at]].tolist()
        return found

    def marks(self) -> list[tuple[bytes, int, bytes | None]]:
        """(n,) what decides the order of asking in a row's pool: equal for rows that ask in the same order."""
        width = self.order.shape[1]
        ranked = np.concatenate((self.order, np.array(self.eligible)[:, None]), axis=1).astype(np.uint16)
        keys: list[bytes] = ranked.view(f"V{2 * (width + 1)}")[:, 0].tolist()
        upward = [None if at is None else keys[at] for at in map(self.above.get, range(len(self.chosen)))]
        return list(zip(keys, self.chosen, upward, strict=False))


def scores_of(asked: Asked, guarded: Guarded, book: PoolBook) -> tuple[Scores, View, Flags]:
    """Scores of each row's pool, then of the pool above for rows that have one: one matrix operation for both.

    The view's first n rows are the batch's own. The flags say which slots of the view are eligible.
    """
    everyone = np.arange(len(asked))
    upward = (guarded.pool < len(BUCKETS) - 1).nonzero()[0]
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


def choose(
    asked: Asked, guarded: Guarded, scored: tuple[Scores, View, Flags], book: PoolBook, exploration: float
) -> Choices:
    """Pick a model for every row, a share `exploration` of them by a draw within its pool.

    Refused rows get slot 0 and are not looked at again.
    """
    scores, view, eligible = scored
    preferred = guarded.preferred
    if preferred is not None:
        preferred = np.concatenate((preferred, np.zeros((len(view.rows) - len(asked), preferred.shape[1]), np.bool_)))
    order = rank(scores, eligible, preferred)
    counts = eligible.sum(axis=1).tolist()
    count = len(asked)
    chosen: list[int] = order[:count, 0].tolist()
    sticky = _stay(asked, guarded, scores, chosen, book)
    explored, p_chosen = _explore(asked, chosen, order, counts, exploration)
    return Choices(
        chosen=chosen,
        p_chosen=p_chosen,
        explored=explored,
        sticky=sticky,
        order=order,
        eligible=counts,
        above=dict(zip(view.rows[count:].tolist(), range(count, len(order)), strict=True)),
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
        gain = round(float(scores.score[row, best] - scores.score[row, slot]), SCORE_DECIMALS)
        if slot == best or not guarded.eligible[row, slot] or gain > book.rules.switch_margin:
            continue
        if guarded.preferred is not None and guarded.preferred[row, best] and not guarded.preferred[row, slot]:
            continue
        chosen[row], sticky[row] = slot, True
    return sticky


def _explore(
    asked: Asked, chosen: list[int], order: Indices, counts: list[int], share: float
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
            eligible = sorted(order[row, :options].tolist())
            chosen[row] = eligible[int(draw("explored model", request_id) * options)]
        p_chosen.append(share / options + (1.0 - share if chosen[row] == greedy else 0.0))
    return explored, p_chosen
