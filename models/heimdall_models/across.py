"""Exploration over all buckets: who could be drawn for each row, and taking a row over to the bucket of who was.

What passes the guardrails in any bucket stands, each model once. Of n that stand the one that is best in the row's own bucket
has the probability 1 − share + share / n, every other one share / n, so a log shows a cheap model on hard requests and a
strong one on easy ones, however the buckets' lists are cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from heimdall_models.asked import Asked
from heimdall_models.choose import Choices, choose, scores_of
from heimdall_models.experiment import draw
from heimdall_models.guard import Guarded, note_fallen, passing
from heimdall_models.pools import BUCKETS, Flags, PoolBook
from heimdall_models.score import Scores, View

Reach = Mapping[int, Mapping[str, int]]
"""By row: the models that could be drawn, each with the bucket it stands in: the row's own where it stands there."""


def explore_across(
    asked: Asked, guarded: Guarded, scored: tuple[Scores, View, Flags], book: PoolBook
) -> tuple[Scores, Choices]:
    """Choose a model for every row, a share of them drawn over all buckets. Changes `guarded` of rows that move.

    A row whose drawn model stands in another bucket is judged as one of that bucket, with its candidates and its chain.
    Rows whose caller names models, and rows without a choice, are not drawn.
    """
    choices = choose(asked, guarded, scored, book, 0.0)
    reach, masks = _reach(asked, guarded, book)
    share = book.rules.exploration
    p_chosen, drawn = list(choices.p_chosen), {}
    for row, found in reach.items():
        names = sorted(found)
        greedy = book.pools[int(guarded.pool[row])].names[choices.chosen[row]]
        taken = greedy
        if draw("explore", asked.ids[row]) < share:
            taken = drawn[row] = names[int(draw("explored model", asked.ids[row]) * len(names))]
        p_chosen[row] = share / len(names) + (1.0 - share if taken == greedy else 0.0)
    if _move(guarded, {row: reach[row][name] for row, name in drawn.items()}, masks, asked, book):
        scored = scores_of(asked, guarded, book)
        choices = choose(asked, guarded, scored, book, 0.0)
    chosen, explored = list(choices.chosen), list(choices.explored)
    for row, name in drawn.items():
        chosen[row], explored[row] = book.pools[int(guarded.pool[row])].names.index(name), True
    reached = {row: sorted(found) for row, found in reach.items()}
    return scored[0], replace(choices, chosen=chosen, explored=explored, p_chosen=p_chosen, reach=reached)


def _reach(asked: Asked, guarded: Guarded, book: PoolBook) -> tuple[Reach, Flags]:
    """Who could be drawn, and which slots pass in each bucket (n, buckets, slots)."""
    count = len(asked)
    rows, pools = np.repeat(np.arange(count), len(BUCKETS)), np.tile(np.arange(len(BUCKETS)), count)
    view = View(asked, book, rows, pools)
    eligible, taken = passing(view)
    guarded.note_deadline(view, taken)
    masks = eligible.reshape(count, len(BUCKETS), -1)
    found: dict[int, Mapping[str, int]] = {}
    for row in range(count):
        own = int(guarded.pool[row])
        if own >= len(BUCKETS) or row in guarded.refused:
            continue
        masks[row, own] = guarded.eligible[row]
        bucket_of: dict[str, int] = {}
        for bucket in (own, *range(len(BUCKETS))):
            for slot in np.flatnonzero(masks[row, bucket]).tolist():
                bucket_of.setdefault(book.pools[bucket].names[slot], bucket)
        if len(bucket_of) > 1:
            found[row] = bucket_of
    return found, masks


def _move(guarded: Guarded, target: Mapping[int, int], masks: Flags, asked: Asked, book: PoolBook) -> bool:
    """Take rows over to other buckets; whether any went. What fell out there is noted like everywhere."""
    moved = {row: bucket for row, bucket in target.items() if bucket != guarded.pool[row]}
    for row, bucket in moved.items():
        guarded.bucket[row] = guarded.pool[row] = bucket
        guarded.eligible[row] = masks[row, bucket]
        if guarded.preferred is not None:
            guarded.preferred[row] = False
        view = View(asked, book, np.array([row]), np.array([bucket]))
        for guardrail, mask in passing(view)[1]:
            note_fallen(guarded, view, guardrail, mask)
    return bool(moved)
