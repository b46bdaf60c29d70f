"""Earlier rows to fit to, later ones to calibrate on, the last ones to judge by; never at random, no question on two sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heimdall_models.learning.logged import Flags, Indices, Logged

FIT_SHARE, CALIBRATE_SHARE = 0.65, 0.1


@dataclass(frozen=True, slots=True)
class Split:
    """Places of rows, each in the order of time."""

    fit: Indices
    calibrate: Indices
    held_out: Indices


def split_by_time(logged: Logged, rows: Indices) -> Split:
    """`rows` (in the order of time) cut in three; a later part lacks the questions of the parts before it."""
    first, second = int(len(rows) * FIT_SHARE), int(len(rows) * (FIT_SHARE + CALIBRATE_SHARE))
    fit, calibrate, held_out = rows[:first], rows[first:second], rows[second:]
    calibrate = calibrate[_new(logged, calibrate, fit)]
    held_out = held_out[_new(logged, held_out, rows[:second])]
    return Split(fit, calibrate, held_out)


def after(logged: Logged, time_ms: int) -> Flags:
    """(n,) rows later than `time_ms` whose question was not asked up to then."""
    late = logged.time_ms > time_ms
    return np.asarray(late & ~np.isin(logged.question, logged.question[~late]))


def _new(logged: Logged, later: Indices, earlier: Indices) -> Flags:
    return ~np.isin(logged.question[later], logged.question[earlier])
