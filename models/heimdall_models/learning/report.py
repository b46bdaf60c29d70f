"""`evaluate --html` on logs: champion against challenger on one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from heimdall_models.training.page import bucket_bar, figure, interval, number, page, section, share, table
from heimdall_models.training.plots import Axis, Curve, Dot, axis_of, plot, swatch

Fields = Mapping[str, Any]

_STYLES = {"challenger": "line bundle", "champion": "line length"}


def comparison_html(found: Fields, title: str = "Champion against challenger") -> str:
    """The page for what `evaluation_of` returned; parts that nothing is known of are left out."""
    parts = (
        _header(found, title),
        _tiles(found),
        f'<div class="pair">{_frontier(found)}{_calibration(found)}</div>',
        section("Gates", _gates(found), "All must pass before it is promoted; what is unknown does not."),
        section("What each policy is worth", _policies(found), _POLICIES_SAY),
        section("Order of difficulty", _orders(found), _ORDERS_SAY),
        section("Buckets", _buckets(found)),
        section(
            "By kind of task", _domains(found), "Challenger minus champion; kinds by the clusters of each request."
        ),
        section("Left out", _left_out(found)),
        _GLOSSARY,
    )
    return page(title, parts)


def _header(found: Fields, title: str) -> str:
    said = (
        "" if found["conclusive"] else f'<p class="warning"><b>No conclusion:</b> {escape(str(found["why_not"]))}</p>'
    )
    return f"<header><h1>{escape(title)}</h1><p>{found['n']:,} later decisions</p></header>{said}"


def _tiles(found: Fields) -> str:
    difference = found["difference"]
    if difference is None:
        return ""
    tiles = (
        ("Reward", *_signed(difference["reward"], 4)),
        ("Reward at equal spending", *_signed(difference["reward_at_equal_spending"], 4)),
        ("Cost of a request", *_signed(difference["cost_usd_micros"], 1)),
        ("Win rate", share(difference["win_rate"]), "chance that the challenger's answer is better, a tie half"),
        ("Decided otherwise", share(difference["changed"]), f"shown in {difference['effective']:.0f} effective rows"),
    )
    inside = "".join(
        f"<div><dt>{name}</dt><dd><b>{value}</b><span>{note}</span></dd></div>" for name, value, note in tiles
    )
    return f'<dl class="tiles">{inside}</dl>'


def _frontier(found: Fields) -> str:
    orders: Mapping[str, Fields] = found["orders"]
    policies: Mapping[str, Fields] = found["policies"]
    if not orders:
        return ""
    curves = [
        Curve(name, _STYLES[name], [(cost, reward) for _, reward, cost in orders[name]["frontier"]])
        for name in ("champion", "challenger")
    ]
    points = {name: (_value(each["cost_usd_micros"]), _value(each["reward"])) for name, each in policies.items()}
    dots = [Dot(at, f"{name}: {at[0]:.1f} micro-dollars, reward {at[1]:.3f}", name.replace("_", " "))
            for name, at in points.items()]  # fmt: skip
    across = axis_of("micro-dollars a request", [x for curve in curves for x, _ in curve.points])
    up = axis_of("mean reward", [y for curve in curves for _, y in curve.points] + [y for _, y in points.values()])
    legend = "".join(f"<li>{swatch(curve.style)}{curve.name}</li>" for curve in reversed(curves))
    said = "Cost against reward of both bundles over all thresholds, and where each policy stands."
    drawn = plot((across, up), curves, dots, said)
    return figure("Cost against reward", drawn, f'<ul class="legend">{legend}</ul>')


def _calibration(found: Fields) -> str:
    bins: Sequence[tuple[float, float, int]] = found["calibration"]
    if not bins:
        return ""
    most = max(count for _, _, count in bins)
    dots = [
        Dot((p, label), f"{count:,} decisions: predicted {p:.3f}, estimated {label:.3f}", weight=count / most)
        for p, label, count in bins
    ]
    up = axis_of("estimated from rewards", [0.0, 1.0, *(label for _, label, _ in bins)])
    axes = (Axis("predicted by the challenger", 0.0, 1.0), up)
    drawn = plot(axes, [Curve("perfect", "line random", [(0, 0), (1, 1)])], dots, "Calibration of the challenger.")
    error = number(found["ece"])
    return figure(
        "Calibration", drawn, f'<p class="note">Calibration error {error}, noise of the estimates taken out.</p>'
    )


def _gates(found: Fields) -> str:
    rows = [(gate["name"], "passed" if gate["passed"] else "failed", gate["why"]) for gate in found["gates"]]
    return table(("gate", "", "why"), rows)


def _policies(found: Fields) -> str:
    rows = (
        (
            name.replace("_", " "),
            _with_interval(each["reward"]),
            _with_interval(each["snips"]),
            _with_interval(each["cost_usd_micros"], 1),
            _with_interval(each["saving_at_equal_quality"]),
            share(each["strong_share"]),
            f"{each['effective']:.0f}",
            share(each["possible"]),
        )
        for name, each in found["policies"].items()
    )
    head = ("policy", "reward (doubly robust)", "reward (SNIPS)", "micro-dollars", "saved at equal reward", "strong calls",
            "effective rows", "could be shown")  # fmt: skip
    return table(head, rows) if found["policies"] else ""


def _orders(found: Fields) -> str:
    rows = [
        (
            name,
            number(each["apgr"]),
            interval(each["apgr_ci95"] or (None, None)),
            share(each["cpt50"]),
            share(each["cpt80"]),
        )
        for name, each in found["orders"].items()
    ]
    return table(("bundle", "APGR", "95 %", "CPT 50 %", "CPT 80 %"), rows) if rows else ""


def _buckets(found: Fields) -> str:
    shares: Mapping[str, Mapping[str, float]] = found["buckets"]
    bars = "".join(f'<p class="note">{name}</p>{bucket_bar(each)}' for name, each in shares.items())
    rows = ((name, *(share(part) for part in each.values())) for name, each in shares.items())
    return bars + table(("bundle", "cheap", "mid", "hard"), rows) if shares else ""


def _domains(found: Fields) -> str:
    rows = [(name, f"{each['n']:,}", _with_interval(each["difference"])) for name, each in found["domains"].items()]
    return table(("kind of task", "decisions", "difference in reward"), rows) if rows else ""


def _left_out(found: Fields) -> str:
    rows = [(why, f"{count:,}") for why, count in found["left_out"].items()]
    return table(("why", "rows"), rows) if rows else ""


def _value(estimate: Fields) -> float:
    return float(estimate["value"] or 0.0)


def _signed(estimate: Fields, decimals: int) -> tuple[str, str]:
    low, high = estimate["ci95"]
    if low is None or high is None:
        return f"{_value(estimate):+.{decimals}f}", "no interval: too few rows"
    return f"{_value(estimate):+.{decimals}f}", f"95 % {low:+.{decimals}f} to {high:+.{decimals}f}"


def _with_interval(estimate: Fields, decimals: int = 3) -> str:
    value, (low, high) = estimate["value"], estimate["ci95"]
    if value is None:
        return "–"
    between = "no interval" if low is None or high is None else f"{_plain(low, decimals)} to {_plain(high, decimals)}"
    return f"{_plain(value, decimals)} ({between})"


def _plain(value: float, decimals: int) -> str:
    """Without the sign of a zero."""
    return f"{round(value, decimals) + 0.0:.{decimals}f}"


_POLICIES_SAY = (
    "Saved at equal reward: beside a blind mix of the two sides that earns as much. Effective rows: how many equally weighted "
    "rows show the policy's choices. Could be shown: share of rows in which the log could have shown the choice at all."
)
_ORDERS_SAY = "From doubly robust scores of both sides; wide where one side was rarely shown. 0.5 is chance."
_GLOSSARY = (
    '<footer><p class="note">SNIPS: self-normalised weights (Swaminathan and Joachims 2015). Doubly robust: Dudík, '
    "Langford and Li 2011. Intervals are 95 %, by question, with as many degrees of freedom as effective rows. Only decisions "
    "after the last one that either bundle learned from are judged.</p></footer>"
)
