"""A/B experiments: which rules a request is judged by, drawn from a hash so that anyone can draw it again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from heimdall_schemas.topics import Bucket

CONTROL = "control"

_DRAW_BITS = 53


@dataclass(frozen=True, slots=True)
class Arm:
    """One treatment: a share of the traffic and what is different for it. None leaves the rule as it is."""

    name: str
    share: float
    alpha: float | None = None
    candidates: Mapping[Bucket, tuple[str, ...]] | None = None
    bundle: str | None = None


@dataclass(frozen=True, slots=True)
class Experiment:
    """Arms whose shares sum to at most 1; the rest of the traffic is the control."""

    name: str
    arms: tuple[Arm, ...]

    def __post_init__(self) -> None:
        total = sum(arm.share for arm in self.arms)
        if any(arm.share < 0 for arm in self.arms) or total > 1 + 1e-9:
            raise ValueError(
                f"experiment {self.name!r}: shares must be at least 0 and sum to at most 1, they sum to {total}"
            )


def draw(purpose: str, unit: str) -> float:
    """A number in [0, 1) that depends on nothing but its arguments: even over units, independent between purposes."""
    digest = hashlib.blake2b(f"{purpose}\x1f{unit}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> (64 - _DRAW_BITS)) / (1 << _DRAW_BITS)


def arm_of(experiment: Experiment, session: str | None, request_id: str) -> str:
    """The arm's name, or `control`: a session keeps its arm, a request without a session draws its own."""
    drawn = draw(f"experiment {experiment.name}", session if session is not None else request_id)
    bounds = accumulate(arm.share for arm in experiment.arms)
    return next((arm.name for arm, bound in zip(experiment.arms, bounds, strict=True) if drawn < bound), CONTROL)
