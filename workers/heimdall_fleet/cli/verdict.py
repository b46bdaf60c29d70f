"""What `heimdall evaluate` says of logs to people."""

from collections.abc import Mapping
from typing import Any


def verdict_of(found: Mapping[str, Any]) -> list[str]:
    """An evaluation on logs in a few lines for people: what each policy is worth, the difference, and every gate."""
    of_what = "requests that two models answered" if found["basis"] == "pairs" else "later decisions"
    lines = [f"{found['n']:,} {of_what}"]
    for name, worth in found["policies"].items():
        reward, cost = _between(worth["reward"], ".3f"), _between(worth["cost_usd_micros"], ".0f")
        lines.append(f"  {name:<13} reward {reward}  micro-dollars {cost}  strong {worth['strong_share']:.1%}")
    if (gain := found["difference"]) is not None:
        lines.append(
            f"challenger minus champion: reward {_between(gain['reward'], '+.4f')}, at equal spending "
            f"{_between(gain['reward_at_equal_spending'], '+.4f')}, micro-dollars {_between(gain['cost_usd_micros'], '+.0f')}"
        )
    lines += [f"left out: {count:,}: {why}" for why, count in found["left_out"].items()]
    for gate in found["gates"]:
        lines.append(f"gate {gate['name']}: {'passed' if gate['passed'] else 'failed'}: {gate['why']}")
    lines.append(f"`heimdall promote --data` would {'' if found['would_be_promoted'] else 'not '}promote it")
    return lines


def _between(estimate: Mapping[str, Any], form: str) -> str:
    low, high = estimate["ci95"]
    if estimate["value"] is None or low is None or high is None:
        return "unknown"
    return f"{estimate['value']:{form}} (95 % {low:{form}} to {high:{form}})"
