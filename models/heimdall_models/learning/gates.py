"""Whether a challenger may serve: plain rules over a comparison, each with its reason. All must pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from heimdall_models.bundle import MAX_BUNDLE_BYTES
from heimdall_models.learning.compare import Comparison
from heimdall_models.learning.offpolicy import Estimate


@dataclass(frozen=True, slots=True)
class GateRules:
    """`least_lift`: what the lower bound of the reward won at equal spending must exceed. `reward_margin`,
    `domain_margin`: how much reward may be lost in all, and in one kind of task, before a clear loss counts.
    `largest_ece`, `largest_export_difference`: in probability. `largest_us_per_row`: of the classifier alone."""

    least_lift: float = 0.0
    reward_margin: float = 0.02
    domain_margin: float = 0.05
    largest_ece: float = 0.1
    largest_export_difference: float = 1e-4
    largest_bytes: int = MAX_BUNDLE_BYTES
    largest_us_per_row: float = 200.0


@dataclass(frozen=True, slots=True)
class Gate:
    """One rule's verdict; `why` gives the numbers, whichever way it went."""

    name: str
    passed: bool
    why: str


def judge(comparison: Comparison, rules: GateRules = GateRules()) -> list[Gate]:
    """Every gate, in order; nothing that is unknown passes."""
    return [gate(comparison, rules) for gate in GATES]


def _conclusive(found: Comparison, rules: GateRules) -> Gate:
    return Gate("conclusive", found.conclusive, found.why_not or f"{found.n} later decisions with enough overlap")


def _better(found: Comparison, rules: GateRules) -> Gate:
    if found.difference is None:
        return _unknown("better")
    if not found.difference.changed:
        return Gate("better", False, "the challenger decides every request like the champion: nothing is won")
    lift = found.difference.lift
    return Gate(
        "better",
        lift.low > rules.least_lift,
        f"reward won at equal spending {_told(lift)}; its lower bound must exceed {rules.least_lift:g}",
    )


def _reward(found: Comparison, rules: GateRules) -> Gate:
    if found.difference is None or not math.isfinite(found.difference.reward.high):
        return _unknown("reward")
    reward = found.difference.reward
    return Gate(
        "reward",
        not _clearly_lost(reward, rules.reward_margin),
        f"difference in reward {_told(reward)}; a clear loss of more than {rules.reward_margin:g} fails",
    )


def _domains(found: Comparison, rules: GateRules) -> Gate:
    if found.difference is None:
        return _unknown("domains")
    lost = {name: gain for name, (_, gain) in found.domains.items() if _clearly_lost(gain, rules.domain_margin)}
    if lost:
        return Gate("domains", False, "; ".join(f"{name} loses {_told(gain)}" for name, gain in lost.items()))
    return Gate("domains", True, f"no kind of task clearly loses more than {rules.domain_margin:g}")


def _calibration(found: Comparison, rules: GateRules) -> Gate:
    if "challenger" not in found.ece:
        return _unknown("calibration")
    ece = found.ece["challenger"]
    return Gate("calibration", ece <= rules.largest_ece, f"calibration error {ece:.3f}, at most {rules.largest_ece:g}")


def _parity(found: Comparison, rules: GateRules) -> Gate:
    difference = found.facts.export_largest_difference
    if difference is None:
        return Gate("parity", False, "the manifest does not say how far the exported model is from the fitted one")
    why = f"exported and fitted model differ by {difference:.1e}, at most {rules.largest_export_difference:g}"
    return Gate("parity", difference <= rules.largest_export_difference, why)


def _size(found: Comparison, rules: GateRules) -> Gate:
    size = found.facts.bytes
    return Gate("size", size <= rules.largest_bytes, f"{size} bytes, at most {rules.largest_bytes}")


def _latency(found: Comparison, rules: GateRules) -> Gate:
    took = found.facts.us_per_row
    why = f"{took:.1f} µs a row in batches of 64, at most {rules.largest_us_per_row:g}"
    return Gate("latency", took <= rules.largest_us_per_row, why)


def _clearly_lost(gain: Estimate, margin: float) -> bool:
    return gain.value < -margin and gain.high < 0.0


def _told(estimate: Estimate) -> str:
    return f"{estimate.value:+.4f} (95 %: {estimate.low:+.4f} to {estimate.high:+.4f})"


def _unknown(name: str) -> Gate:
    return Gate(name, False, "not known: the comparison has no numbers for it")


GATES: tuple[Callable[[Comparison, GateRules], Gate], ...] = (
    _conclusive, _better, _reward, _domains, _calibration, _parity, _size, _latency,
)  # fmt: skip
