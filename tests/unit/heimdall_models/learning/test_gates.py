"""Each gate by itself: what passes, what does not, and that nothing unknown passes."""

import math
from dataclasses import replace
from typing import Any

import pytest

from heimdall_models.learning.compare import Comparison, Difference, Facts
from heimdall_models.learning.gates import Gate, GateRules, judge
from heimdall_models.learning.offpolicy import Estimate

FACTS = Facts(export_largest_difference=1e-7, bytes=600_000, us_per_row=4.0)


def around(value: float, reach: float = 0.01) -> Estimate:
    return Estimate(value, value - reach, value + reach, 100.0)


DIFFERENCE = Difference(around(0.02), around(5.0), around(0.03), 0.51, 0.2, 100.0)
GOOD = Comparison(
    n=2000,
    conclusive=True,
    why_not=None,
    facts=FACTS,
    difference=DIFFERENCE,
    domains={"math": (900, around(0.01)), "code": (1100, around(0.03))},
    ece={"champion": 0.1, "challenger": 0.03},
)


def gates(comparison: Comparison) -> dict[str, Gate]:
    return {gate.name: gate for gate in judge(comparison)}


def test_a_challenger_that_is_clearly_better_passes_every_gate() -> None:
    assert all(gate.passed for gate in judge(GOOD))
    assert len({gate.name for gate in judge(GOOD)}) == 8


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        ({"conclusive": False, "why_not": "overlap is too small"}, "conclusive"),
        ({"difference": replace(DIFFERENCE, lift=around(0.005))}, "better"),
        ({"difference": replace(DIFFERENCE, changed=0.0)}, "better"),
        ({"difference": replace(DIFFERENCE, reward=around(-0.04))}, "reward"),
        ({"domains": {"math": (900, around(0.1)), "code": (100, around(-0.08))}}, "domains"),
        ({"ece": {"champion": 0.0, "challenger": 0.2}}, "calibration"),
        ({"facts": replace(FACTS, export_largest_difference=0.01)}, "parity"),
        ({"facts": replace(FACTS, export_largest_difference=None)}, "parity"),
        ({"facts": replace(FACTS, bytes=8_000_000)}, "size"),
        ({"facts": replace(FACTS, us_per_row=900.0)}, "latency"),
    ],
)
def test_one_fault_closes_its_gate_and_no_other(change: dict[str, Any], gate: str) -> None:
    found = gates(replace(GOOD, **change))

    assert [name for name, each in found.items() if not each.passed] == [gate]
    assert found[gate].why


def test_a_loss_that_may_be_chance_is_no_clear_loss() -> None:
    wide = replace(GOOD, domains={"code": (40, around(-0.08, reach=0.2))})

    assert gates(wide)["domains"].passed


def test_a_reward_without_an_interval_is_not_known() -> None:
    difference = replace(DIFFERENCE, reward=Estimate(0.01, -math.inf, math.inf, 1.0))
    assert not gates(replace(GOOD, difference=difference))["reward"].passed


def test_a_comparison_without_numbers_opens_no_gate_that_needs_them() -> None:
    found = gates(Comparison(20, False, "20 later decisions", FACTS))

    closed = [name for name, gate in found.items() if not gate.passed]
    assert closed == ["conclusive", "better", "reward", "domains", "calibration"]


def test_the_bound_is_the_rule_s() -> None:
    strict = judge(GOOD, GateRules(least_lift=0.05))

    assert [gate.name for gate in strict if not gate.passed] == ["better"]
