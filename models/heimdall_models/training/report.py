"""`evaluate --html`: one page with a frontier, a calibration plot and tables; inline SVG, nothing fetched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_SIZE, _MARGIN = 320, 46
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1c2430;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse}td,th{padding:.25rem .8rem;border-bottom:1px solid #d9dee6;text-align:right}
td:first-child,th:first-child{text-align:left}.plots{display:flex;flex-wrap:wrap;gap:2rem}
svg{background:#f7f9fb;border-radius:6px}text{font-size:11px;fill:#4a5568}
"""


def report_html(evaluation: Mapping[str, Any], title: str = "Routing evaluation") -> str:
    """The page for what `evaluate_bundle` returned."""
    plots = (
        _plot("Frontier", "share of calls to the strong model", "mean score", _frontier(evaluation)),
        _plot("Calibration", "predicted", "observed", _calibration(evaluation)),
    )
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f"<meta name='viewport' content='width=device-width'><title>{escape(title)}</title>"
        f"<style>{_STYLE}</style></head><body>\n<h1>{escape(title)}</h1>\n{_summary(evaluation)}\n"
        f"<div class='plots'>{''.join(plots)}</div>\n"
        f"<h2>Beside scores that need no training</h2>\n{_baselines(evaluation)}\n"
        f"<h2>By domain</h2>\n{_domains(evaluation)}\n</body></html>\n"
    )


def _summary(found: Mapping[str, Any]) -> str:
    low, high = found["apgr_ci95"]
    return (
        f"<p>{found['n']} prompts; cheap side {found['cheap_mean']:.3f}, strong side {found['strong_mean']:.3f}. "
        f"APGR <b>{_number(found['apgr'])}</b> (95 % {low:.3f} to {high:.3f}; 0.5 = random), "
        f"CPT50 {_number(found['cpt50'])}, CPT80 {_number(found['cpt80'])}, AUC {_number(found['auc'])}, "
        f"calibration error {found['ece']:.3f}.</p>"
    )


def _frontier(found: Mapping[str, Any]) -> str:
    points = found["frontier"]
    scores = [score for _, score in points]
    low, high = min(scores), max(scores)
    span = (high - low) or 1.0
    curve = [(share, (score - low) / span) for share, score in points]
    straight = [curve[0], curve[-1]]
    labels = _label(0, 0, f"{low:.3f}", -8, 4) + _label(0, 1, f"{high:.3f}", -8, 4)
    return _line(straight, "#a0aec0", "4 4") + _line(curve, "#2563a8") + labels


def _calibration(found: Mapping[str, Any]) -> str:
    bins: Sequence[tuple[float, float, int]] = found["calibration"]
    most = max((count for _, _, count in bins), default=1)
    dots = "".join(
        f"<circle cx='{_x(p):.1f}' cy='{_y(observed):.1f}' r='{3 + 7 * (count / most) ** 0.5:.1f}' "
        f"fill='#2563a8' fill-opacity='.7'><title>{count} prompts: {p:.3f} → {observed:.3f}</title></circle>"
        for p, observed, count in bins
    )
    return _line([(0, 0), (1, 1)], "#a0aec0", "4 4") + dots + _label(0, 0, "0", -8, 4) + _label(0, 1, "1", -8, 4)


def _plot(title: str, x_name: str, y_name: str, inside: str) -> str:
    frame = f"<path d='M{_x(0)} {_y(1)}V{_y(0)}H{_x(1)}' fill='none' stroke='#4a5568'/>"
    names = (
        f"<text x='{_SIZE / 2}' y='{_SIZE - 8}' text-anchor='middle'>{escape(x_name)}</text>"
        f"<text x='14' y='{_SIZE / 2}' text-anchor='middle' transform='rotate(-90 14 {_SIZE / 2})'>{escape(y_name)}</text>"
    )
    return (
        f"<figure><figcaption><b>{escape(title)}</b></figcaption>"
        f"<svg width='{_SIZE}' height='{_SIZE}' role='img' aria-label='{escape(title)}'>{frame}{names}{inside}</svg></figure>"
    )


def _line(points: Sequence[tuple[float, float]], colour: str, dashes: str = "") -> str:
    path = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
    return f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2' stroke-dasharray='{dashes}'/>"


def _label(x: float, y: float, text: str, right: float, down: float) -> str:
    return f"<text x='{_x(x) + right:.1f}' y='{_y(y) + down:.1f}' text-anchor='end'>{escape(text)}</text>"


def _x(value: float) -> float:
    return _MARGIN + value * (_SIZE - 2 * _MARGIN)


def _y(value: float) -> float:
    return _SIZE - _MARGIN - value * (_SIZE - 2 * _MARGIN)


def _baselines(found: Mapping[str, Any]) -> str:
    rows = [("this bundle", found), *found["baselines"].items()]
    return _table(
        ("score", "APGR", "95 %", "CPT50", "CPT80"),
        (
            (
                name,
                _number(row["apgr"]),
                "{:.3f} to {:.3f}".format(*row["apgr_ci95"]),
                _number(row["cpt50"]),
                _number(row["cpt80"]),
            )
            for name, row in rows
        ),
    )


def _domains(found: Mapping[str, Any]) -> str:
    return _table(
        ("domain", "prompts", "cheap", "strong", "mean difficulty", "APGR"),
        (
            (
                name,
                str(row["n"]),
                _number(row["cheap"]),
                _number(row["strong"]),
                _number(row["difficulty"]),
                _number(row["apgr"]),
            )
            for name, row in found["domains"].items()
        ),
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
