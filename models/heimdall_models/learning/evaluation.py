"""A comparison as `heimdall evaluate` prints it: the fields that outcome tables give too, and those of logs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from heimdall_models.learning.compare import Comparison
from heimdall_models.learning.gates import judge
from heimdall_models.learning.offpolicy import Estimate
from heimdall_models.learning.worth import Worth


def evaluation_of(found: Comparison) -> dict[str, Any]:
    """JSON-ready. `baselines` holds the champion and policies that ask one side only, with what they are worth;
    fields that nothing is known of are null or empty. `gates`: what a promotion with the same data would be asked."""
    plain = found.as_json()
    gates = judge(found)
    order = plain["orders"].get("challenger", {})
    alone = {name: found.policies[name].reward.value for name in ("always_cheap", "always_strong") if found.policies}
    return {
        **plain,
        "n": found.n,
        "gates": [asdict(gate) for gate in gates],
        "would_be_promoted": all(gate.passed for gate in gates),
        "apgr": order.get("apgr"),
        "apgr_ci95": order.get("apgr_ci95"),
        "cpt50": order.get("cpt50"),
        "cpt80": order.get("cpt80"),
        "auc": None,
        "ece": plain["ece"].get("challenger"),
        "calibration": plain["calibration"].get("challenger", []),
        "cheap_mean": alone.get("always_cheap"),
        "strong_mean": alone.get("always_strong"),
        "frontier": [point[:2] for point in order.get("frontier", [])],
        "cost_frontier": [[point[2], point[1]] for point in order.get("frontier", [])],
        "policies": {name: _worth(each) for name, each in found.policies.items()},
        "baselines": {
            name: _worth(each) | _order(plain, name) for name, each in found.policies.items() if name != "challenger"
        },
        "domains": {
            name: {"n": count, "difference": _estimate(gain)} for name, (count, gain) in found.domains.items()
        },
        "difference": None if found.difference is None else {
            "reward": _estimate(found.difference.reward),
            "cost_usd_micros": _estimate(found.difference.cost),
            "reward_at_equal_spending": _estimate(found.difference.lift),
            "win_rate": found.difference.win_rate,
            "changed": found.difference.changed,
            "effective": found.difference.effective,
        },
    }  # fmt: skip


def _order(plain: dict[str, Any], name: str) -> dict[str, Any]:
    """APGR and CPT where the policy is a bundle; asking one side orders nothing."""
    order = plain["orders"].get(name, {})
    return {field: order.get(field) for field in ("apgr", "apgr_ci95", "cpt50", "cpt80")}


def _worth(worth: Worth) -> dict[str, Any]:
    return {
        "reward": _estimate(worth.reward),
        "snips": _estimate(worth.snips),
        "cost_usd_micros": _estimate(worth.cost),
        "saving_at_equal_quality": _estimate(worth.saving),
        "reward_above_blind_mix": _estimate(worth.lift),
        "strong_share": worth.strong_share,
        "effective": worth.effective,
        "possible": worth.possible,
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    """Bounds that are not known are null."""

    def finite(value: float) -> float | None:
        return value if abs(value) < float("inf") else None

    return {"value": finite(estimate.value), "ci95": [finite(estimate.low), finite(estimate.high)]}
