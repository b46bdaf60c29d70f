"""Requests that two models have answered: how a log with shadows is learned from, and how it is judged on pairs alone.

To learn from, a shadow is one answer more, given with the probability share · p_drawn. To judge by, a pair needs none of
that: given the pair, one answer is known for certain and the other one with p_drawn, whatever the log's policy was. So a
paired comparison needs no overlap of the buckets' candidates.

The two answers of a pair count by the same measure (`logged.Shadows`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from heimdall_models.learning.logged import NOBODY, Flags, Floats, Indices, Logged, Shadows

FEWEST_LEVELS = 20


def has_pair(logged: Logged) -> Flags:
    """(n,)"""
    return np.asarray(logged.shadows.model != NOBODY)


def with_shadows(logged: Logged) -> Logged:
    """Each shadow as a row of its own behind that of its request.

    A judge's scores, or what is read off an answer, have another level than ratings: the mean difference between the
    reward that the served answers of the pairs have and what they are measured by as pairs is added to both.
    """
    rows = np.flatnonzero(has_pair(logged))
    if not len(rows):
        return logged
    level = _level(logged)
    unknown = has_pair(logged) & ~np.isfinite(logged.reward)
    reward = np.where(unknown, logged.shadows.beside + level, logged.reward)
    order = np.sort(np.concatenate((np.arange(len(logged)), rows)), kind="stable")
    is_shadow = np.zeros(len(order), np.bool_)
    is_shadow[1:] = order[1:] == order[:-1]
    found = replace(logged, reward=reward).rows(order)
    also = found.shadows
    return replace(
        found,
        served=np.where(is_shadow, also.model, found.served),
        p_served=np.where(is_shadow, also.share * also.p_drawn, found.p_served),
        reward=np.where(is_shadow, also.reward + level, found.reward),
        cost_usd_micros=np.where(is_shadow, also.cost_usd_micros, found.cost_usd_micros),
        shadows=Shadows.none(len(order)),
    )


def _level(logged: Logged) -> float:
    """By the pairs whose served answer has a reward of its own; while these are few, by all rewards: pairs are a random
    sample of the requests."""
    pairs, rewarded = has_pair(logged), np.isfinite(logged.reward)
    both = pairs & rewarded
    if both.sum() >= FEWEST_LEVELS:
        return float((logged.reward[both] - logged.shadows.beside[both]).mean())
    if not rewarded.any():
        return 0.0
    return float(logged.reward[rewarded].mean() - logged.shadows.beside[pairs].mean())


def pairs_of(logged: Logged) -> Logged:
    """The pairs alone, to be judged on: what was served is known for certain, the other answer with p_drawn."""
    rows = logged.rows(has_pair(logged))
    return replace(rows, reward=rows.shadows.beside, p_served=np.ones(len(rows)), paired=True)


def shown(choice: Indices, logged: Logged, served: Floats, shadow: Floats) -> Floats:
    """(n,) of what is known of both answers, that of the one that `choice` would have got; else of the one served."""
    return np.asarray(np.where(_second(choice, logged), shadow, served)) if logged.paired else served


def second_weights(choice: Indices, logged: Logged) -> Floats:
    """(n,) 1 / p_drawn where the policy would have asked the shadow's model, else 0; of pairs only."""
    return np.where(_second(choice, logged), 1.0 / logged.shadows.p_drawn, 0.0)


def could_be_drawn(choice: Indices, logged: Logged) -> Flags:
    """(n,) rows whose second answer is that of `choice`, or could have been: it was drawn beside this one elsewhere."""
    drawn = logged.shadows.model
    group = _groups(logged)
    support = np.zeros((group.max(initial=0) + 1, len(logged.models) + 1), np.bool_)
    support[group, drawn] = True
    several = logged.shadows.p_drawn < 1.0
    return np.asarray(_second(choice, logged) | (several & support[group, choice]))


def side_probability(side: Indices, logged: Logged) -> Floats:
    """(n,) how often, beside the same model in the same bucket, the drawn one is of this row's drawn side (n,)."""
    group = _groups(logged)
    width = int(side.max(initial=0)) + 2
    cell = group * width + side + 1
    of_cell, of_group = np.bincount(cell), np.bincount(group)
    return np.asarray(of_cell[cell] / of_group[group])


def _second(choice: Indices, logged: Logged) -> Flags:
    return np.asarray((choice == logged.shadows.model) & (choice != NOBODY))


def _groups(logged: Logged) -> NDArray[np.int64]:
    """A number for each bucket and model that answered."""
    _, bucket = np.unique(logged.bucket, return_inverse=True)
    return np.asarray(bucket.astype(np.int64) * (len(logged.models) + 1) + logged.served + 1)
