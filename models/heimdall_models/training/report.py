"""`evaluate --html`: one page with plots and tables; nothing is fetched, both colour schemes, no script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from heimdall_models.training.page import bucket_bar, figure, interval, number, page, section, share, table
from heimdall_models.training.plots import Axis, Curve, Dot, Point, axis_of, plot, swatch

_SAME_AS_RANDOM = ("always_cheap", "always_strong")
"""Baselines that order nothing: in the plot two points and one straight line."""

_NAMES = {
    "random": "random",
    "length": "length of the prompt",
    "keywords": "keyword rules",
    "nearest_phrase": "nearest reference phrase",
    "always_cheap": "always cheap",
    "always_strong": "always strong",
}


def report_html(evaluation: Mapping[str, Any], title: str = "Routing evaluation") -> str:
    """The page for what `evaluate_bundle` returned; a part whose data is absent is left out."""
    parts = (
        _header(evaluation, title),
        _warnings(evaluation),
        _tiles(evaluation),
        f'<div class="pair">{_frontier(evaluation)}{_calibration(evaluation)}</div>',
        section("Beside what needs no training", _baselines(evaluation), _BASELINES_SAY),
        f'<div class="pair">{_buckets(evaluation)}{_win_rates(evaluation)}</div>',
        section("By table", _groups(evaluation.get("tables", {}), "table"))
        if len(evaluation.get("tables", {})) > 1
        else "",
        section("By domain", _groups(evaluation["domains"], "domain"), _DOMAINS_SAY),
        section("Recorded when the bundle was made", _recorded(evaluation), _RECORDED_SAY),
        _GLOSSARY,
    )
    return page(title, parts)


def _header(found: Mapping[str, Any], title: str) -> str:
    names = ", ".join(found.get("pairs", {}))
    bundle = found.get("bundle", "")
    of = f" of {escape(names)}" if names else ""
    made = f" · bundle <code>{escape(str(bundle)[:12])}</code>" if bundle else ""
    return (
        f"<header><h1>{escape(title)}</h1><p>{found['n']:,} prompts{of} · mean score {found['cheap_mean']:.3f} on the "
        f"cheap side, {found['strong_mean']:.3f} on the strong side{made}</p></header>"
    )


def _warnings(found: Mapping[str, Any]) -> str:
    said = []
    if failed := found.get("classifier_failed"):
        said.append(
            f"<b>The classifier gave no number for {failed:,} prompts:</b> they count as of middling difficulty, and a worker "
            "sends such requests to mid."
        )
    if seen := ", ".join(found.get("seen_in_training", ())):
        said.append(
            f"<b>These figures flatter the bundle:</b> it was trained on {escape(seen)}. "
            "What it is worth on prompts that it never saw stands under “Recorded when the bundle was made”."
        )
    return "".join(f'<p class="warning">{each}</p>' for each in said)


def _tiles(found: Mapping[str, Any]) -> str:
    tiles = (
        ("APGR", number(found["apgr"]), f"95 % {interval(found['apgr_ci95'])}; random 0.500"),
        ("CPT 50 %", share(found["cpt50"]), "of calls to the strong side recover half of the gap"),
        ("CPT 80 %", share(found["cpt80"]), "of calls to the strong side recover 80 % of it"),
        ("AUC", number(found["auc"]), "easy prompts rank before hard ones"),
        ("Calibration error", number(found["ece"]), "15 bins; 0 is perfect"),
    )
    inside = "".join(
        f"<div><dt>{name}</dt><dd><b>{value}</b><span>{escape(note)}</span></dd></div>" for name, value, note in tiles
    )
    return f'<dl class="tiles">{inside}</dl>'


def _frontier(found: Mapping[str, Any]) -> str:
    costs = found.get("frontier_usd")
    curves = [
        Curve(_NAMES.get(name, name), f"line {name}", points)
        for name, points in (
            found.get("baseline_frontiers_usd" if costs else "baseline_frontiers") or _straight(found)
        ).items()
        if name not in _SAME_AS_RANDOM
    ]
    points: Sequence[Point] = costs or found["frontier"]
    curves.append(Curve("this bundle", "line bundle", points))
    across = (
        axis_of("mean cost of a prompt (USD)", [x for x, _ in points])
        if costs
        else Axis("share of calls to the strong side", 0.0, 1.0)
    )
    up = axis_of("mean score", [y for curve in curves for _, y in curve.points])
    ends = [_end("always cheap", points[0], across.name), _end("always strong", points[-1], across.name)]
    said = (
        f"Cost against quality. From always cheap ({points[0][1]:.3f}) to always strong ({points[-1][1]:.3f}); "
        f"the bundle's area is {number(found['apgr'])} of the gap, " + ", ".join(_said(found))
    )
    legend = "".join(f"<li>{swatch(curve.style)}{escape(curve.name)}</li>" for curve in reversed(curves))
    return figure("Cost against quality", plot((across, up), curves, ends, said), f'<ul class="legend">{legend}</ul>')


def _straight(found: Mapping[str, Any]) -> dict[str, Sequence[Point]]:
    return {"random": [found["frontier"][0], found["frontier"][-1]]}


def _said(found: Mapping[str, Any]) -> Iterable[str]:
    return (
        f"{_NAMES.get(name, name)} {number(row['apgr'])}"
        for name, row in found["baselines"].items()
        if name not in _SAME_AS_RANDOM
    )


def _end(name: str, point: Point, across: str) -> Dot:
    return Dot(point, f"{name}: {across} {point[0]:.3g}, mean score {point[1]:.3f}", name)


def _calibration(found: Mapping[str, Any]) -> str:
    bins: Sequence[tuple[float, float, int]] = found["calibration"]
    most = max((count for _, _, count in bins), default=1)
    dots = [
        Dot((p, observed), f"{count:,} prompts: predicted {p:.3f}, observed {observed:.3f}", weight=count / most)
        for p, observed, count in bins
    ]
    axes = (
        Axis("predicted chance that the cheap side answers well", 0.0, 1.0),
        Axis("mean score of the cheap side", 0.0, 1.0),
    )
    said = f"Calibration: {len(bins)} bins of predicted against observed score; mean distance {number(found['ece'])}."
    drawn = plot(axes, [Curve("perfect calibration", "line random", [(0, 0), (1, 1)])], dots, said)
    return figure(
        "Calibration", drawn, '<p class="note">A larger dot stands for more prompts. On the dashed line is perfect.</p>'
    )


def _baselines(found: Mapping[str, Any]) -> str:
    own = ("this bundle", number(found["apgr"]), interval(found["apgr_ci95"]), "", *_cpts(found), "")
    rest = (
        (
            _NAMES.get(name, name),
            number(row["apgr"]),
            interval(row["apgr_ci95"]),
            _lead(row["behind_ci95"]),
            *_cpts(row),
            _verdict(row["behind_ci95"]),
        )
        for name, row in found["baselines"].items()
    )
    known = ("what the cheap side really scored", number(found.get("apgr_known")), "", "", "", "", "")
    head = ("score", "APGR", "95 %", "lead of the bundle, 95 %", "CPT 50 %", "CPT 80 %", "the bundle is")
    return table(head, (own, *rest, known))


def _cpts(row: Mapping[str, Any]) -> tuple[str, str]:
    return share(row["cpt50"]), share(row["cpt80"])


def _verdict(lead: Sequence[float | None]) -> str:
    low, high = lead
    if low is None or high is None or low != low:  # noqa: PLR0124 — NaN is the one value unlike itself
        return "–"
    return "better" if low > 0 else "worse" if high < 0 else "not distinguishable"


def _buckets(found: Mapping[str, Any]) -> str:
    shares: Mapping[str, float] = found.get("buckets", {})
    if not shares:
        return ""
    rows = ((name, share(part)) for name, part in shares.items())
    return (
        '<section><h2>Buckets</h2><p class="note">Shares at the default thresholds; 30 / 40 / 30 on traffic like the '
        f"reference.</p>{bucket_bar(shares)}{table(('bucket', 'share of prompts'), rows)}</section>"
    )


def _win_rates(found: Mapping[str, Any]) -> str:
    rates: Mapping[str, Any] = found.get("win_rates", {})
    if not rates:
        return ""
    rows = (
        (_NAMES.get(name, name), share(row["win_rate"]), share(row["wins"]), share(row["losses"]))
        for name, row in rates["against"].items()
    )
    return (
        f'<section><h2>Win rates</h2><p class="note">The pair routed at the median difficulty: '
        f"{share(rates['strong_share'])} of calls to the strong side, mean score {rates['mean_score']:.3f}. "
        f"A tie is half a win.</p>{table(('against', 'win rate', 'wins', 'losses'), rows)}</section>"
    )


def _groups(groups: Mapping[str, Mapping[str, Any]], name: str) -> str:
    if not groups:
        return ""
    rows = (
        (
            group,
            f"{row['n']:,}",
            number(row["cheap"]),
            number(row["strong"]),
            number(row["difficulty"]),
            number(row["apgr"]),
        )
        for group, row in groups.items()
    )
    return table((name, "prompts", "cheap side", "strong side", "mean difficulty", "APGR"), rows)


def _recorded(found: Mapping[str, Any]) -> str:
    recorded: Mapping[str, Any] = found.get("recorded", {})
    rows = [
        (name, how, f"{row['n']:,}", number(row["apgr"]), interval(row["apgr_ci95"]))
        for key, how in (("left_out", "benchmark left out"), ("in_domain", "own labels, five folds"))
        for name, row in sorted(recorded.get(key, {}).items())
    ]
    return table(("table", "how", "prompts", "APGR", "95 %"), rows) if rows else ""


def _lead(limits: Sequence[float]) -> str:
    low, high = limits
    return f"{low:+.3f} to {high:+.3f}".replace("-", "−") if low == low else "–"  # noqa: PLR0124


_BASELINES_SAY = (
    "APGR is the mean share of the quality gap that is recovered over all shares of strong calls. Leads are "
    "differences on the same resampled questions. No prediction can be expected to beat the order by what the cheap side "
    "really scored; where that is below 0.5, the strong side fails what is hardest, too."
)
_DOMAINS_SAY = "Domains of 30 prompts and more."
_RECORDED_SAY = "Each figure from rows that the fit it comes from never saw."
_GLOSSARY = (
    '<footer><p class="note">APGR and CPT as in RouteLLM (arXiv 2406.18665); intervals are 95 % bootstrap over questions, so '
    "that one question in two wrappings counts once. Difficulty is one minus the predicted chance that the cheap side "
    "answers well.</p></footer>"
)
