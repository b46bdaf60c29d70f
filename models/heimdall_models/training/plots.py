"""Inline SVG plots of the report: plain strings, colours by CSS variable so that both colour schemes hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT = 560, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 18, 52
_TICKS = 5
_SMALLEST_DOT, _DOT_GROWTH = 3.0, 8.0

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Curve:
    """A named line; `style` is the CSS class that colours it."""

    name: str
    style: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Dot:
    """A single point; `note` is its tooltip, `label` stands beside it when there is one, `weight` 0..1 sizes it."""

    at: Point
    note: str
    label: str = ""
    weight: float = 0.2


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis shows, from `low` to `high`."""

    name: str
    low: float
    high: float

    def place(self, value: float) -> float:
        """0..1 along the axis."""
        return (value - self.low) / ((self.high - self.low) or 1.0)


_SMALLEST_SPAN = 1e-9
"""What differs by less is one value."""


def axis_of(name: str, values: Sequence[float]) -> Axis:
    """An axis with round ends around these values."""
    low, high = min(values), max(values)
    span = (high - low) or abs(high)
    step = _round_step(span if span > _SMALLEST_SPAN else 1.0)
    begin = floor(low / step + 1e-9)
    return Axis(name, begin * step, max(ceil(high / step - 1e-9), begin + 1) * step)


def plot(axes: tuple[Axis, Axis], curves: Sequence[Curve], dots: Sequence[Dot], said: str) -> str:
    """An SVG with a grid, curves in order (the last on top) and dots; `said` is what a screen reader says."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}">'
        f"{_grid(*axes)}{''.join(_polyline(axes, curve) for curve in curves)}"
        f"{''.join(_circle(axes, dot) for dot in dots)}</svg>"
    )


def swatch(style: str) -> str:
    """A short piece of line for a legend."""
    return f'<svg class="swatch" viewBox="0 0 28 8" aria-hidden="true"><path class="{style}" d="M0 4H28"/></svg>'


def _round_step(span: float) -> float:
    rough = span / _TICKS
    size = 10.0 ** floor(log10(rough))
    return next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * (1 - 1e-9))


def _tick(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def _ticks(axis: Axis) -> list[float]:
    step = _round_step((axis.high - axis.low) or 1.0)
    count = round((axis.high - axis.low) / step)
    return [axis.low + step * number for number in range(count + 1)]


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.place(value) * (WIDTH - _LEFT - _RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - _BOTTOM - axis.place(value) * (HEIGHT - _TOP - _BOTTOM)


def _grid(across: Axis, up: Axis) -> str:
    lines = [f'<path class="grid" d="M{_LEFT} {_y(up, tick):.1f}H{WIDTH - _RIGHT}"/>' for tick in _ticks(up)]
    lines += [
        f'<text x="{_LEFT - 8}" y="{_y(up, tick) + 4:.1f}" text-anchor="end">{_tick(tick)}</text>'
        for tick in _ticks(up)
    ]
    lines += [
        f'<text x="{_x(across, tick):.1f}" y="{HEIGHT - _BOTTOM + 18}" text-anchor="middle">{_tick(tick)}</text>'
        for tick in _ticks(across)
    ]
    middle = (HEIGHT - _BOTTOM + _TOP) / 2
    return "".join(lines) + (
        f'<path class="axis" d="M{_LEFT} {HEIGHT - _BOTTOM}H{WIDTH - _RIGHT}"/>'
        f'<text class="name" x="{(WIDTH + _LEFT - _RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">'
        f"{escape(across.name)}</text>"
        f'<text class="name" x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})">'
        f"{escape(up.name)}</text>"
    )


def _polyline(axes: tuple[Axis, Axis], curve: Curve) -> str:
    path = " ".join(f"{_x(axes[0], x):.1f},{_y(axes[1], y):.1f}" for x, y in curve.points)
    return f'<polyline class="{curve.style}" points="{path}"><title>{escape(curve.name)}</title></polyline>'


def _circle(axes: tuple[Axis, Axis], dot: Dot) -> str:
    x, y = _x(axes[0], dot.at[0]), _y(axes[1], dot.at[1])
    radius = _SMALLEST_DOT + _DOT_GROWTH * dot.weight**0.5
    circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"><title>{escape(dot.note)}</title></circle>'
    if not dot.label:
        return circle
    left = axes[0].place(dot.at[0]) < 0.5
    return circle + (
        f'<text class="name" x="{x + (14 if left else -12):.1f}" y="{y + (4 if left else -10):.1f}" '
        f'text-anchor="{"start" if left else "end"}">{escape(dot.label)}</text>'
    )
