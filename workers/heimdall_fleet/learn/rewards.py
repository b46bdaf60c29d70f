"""What an answer was worth, 0 to 1: named signals, each a pure function, and their weighted mean.

Explicit signals (`score`, `accepted`, `label`) are a person's or a program's own word and stand alone where there
is one; implicit ones (`finish`, `refusal`, `retry`, `schema`, `followup`) are read off the traffic: weaker evidence.
None always means: this signal says nothing about this answer.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

EXPLICIT = ("score", "accepted", "label")
IMPLICIT = ("finish", "refusal", "retry", "schema", "followup")
SIGNALS = (*EXPLICIT, *IMPLICIT)

_RANK = {"cheap": 0, "mid": 1, "hard": 2}
_FINISHED = frozenset({"stop", "tool_calls", "function_call"})

Floats = NDArray[np.float64]


def score(said: float | None) -> float | None:
    """The rating itself."""
    return said


def accepted(said: bool | None) -> float | None:
    """1 when the answer was used, 0 when it was thrown away."""
    return None if said is None else float(said)


def label(said: str | None, bucket: str | None) -> float | None:
    """0 when a harder bucket would have been right: the answer came from a model too weak. Else 1: a lower label says
    that the answer was good and too dear, which is the cost's affair."""
    if said not in _RANK or bucket not in _RANK:
        return None
    return float(_RANK[said] <= _RANK[bucket])


def finish(reason: str | None) -> float | None:
    """1 for an answer that came to its own end, 0 for one that its token limit cut. A content filter's cut is a
    refusal and none of this signal's business."""
    if reason in _FINISHED:
        return 1.0
    return 0.0 if reason == "length" else None


def refusal(refused: bool | None) -> float | None:
    """0 when the model declined to answer."""
    return None if refused is None else float(not refused)


def schema(valid: bool | None) -> float | None:
    """Where structured output was asked for: 1 when the answer keeps to the schema, else 0."""
    return None if valid is None else float(valid)


def retry(asked_again: bool | None) -> float | None:
    """0 when the same session asked the same question again within `learning.retry_within`."""
    return None if asked_again is None else float(not asked_again)


def followup(distance: float | None) -> float | None:
    """Edit distance of the session's next question to this one over the longer length: near 0, the asker had to say it
    again in other words; near 1, they went on to something else."""
    return None if distance is None else min(1.0, max(0.0, distance))


def combine(signals: Mapping[str, Floats], weights: Mapping[str, float]) -> tuple[Floats, list[str | None]]:
    """The reward of n rows and where each came from: `explicit`, `implicit` or None (then the reward is NaN).

    `signals`: (n,) by name, NaN where a signal says nothing. Mean by weight of the explicit signals that speak, where
    one does, else of the implicit ones. A signal of weight 0 is reported and not counted.
    """
    explicit = _mean(signals, weights, EXPLICIT)
    implicit = _mean(signals, weights, IMPLICIT)
    own_word = np.isfinite(explicit)
    reward = np.where(own_word, explicit, implicit)
    names = np.where(own_word, "explicit", np.where(np.isfinite(implicit), "implicit", "")).tolist()
    return reward, [name or None for name in names]


def _mean(signals: Mapping[str, Floats], weights: Mapping[str, float], names: Sequence[str]) -> Floats:
    values = np.stack([signals[name] for name in names])
    weight = np.where(np.isfinite(values), np.array([[weights[name]] for name in names]), 0.0)
    total = weight.sum(axis=0)
    summed = (np.nan_to_num(values) * weight).sum(axis=0)
    return np.where(total > 0, summed / np.where(total > 0, total, 1.0), np.nan)
