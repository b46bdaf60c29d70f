"""What `evaluate` found, on one screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from heimdall_models.training.card import interval, number

_HEAD = ("order by", "APGR", "95 %", "lead of the bundle", "CPT 50 %", "CPT 80 %", "AUC")


def summary(found: Mapping[str, Any]) -> str:
    """The bundle beside each baseline that orders anything, for what `evaluate_bundle` returned; lines of text."""
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in found["buckets"].items())
    lines = (
        *_sides(found),
        "",
        *_aligned((_HEAD, *_rows(found))),
        "",
        f"buckets: {shares}; calibration error {number(found['ece'])}",
        *_tables(found["tables"]),
    )
    return "\n".join(lines)


def _sides(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"{found['n']:,} prompts; mean score {number(found['cheap_mean'])} cheap, {number(found['strong_mean'])} strong"
    for name, pair in found["pairs"].items():
        yield f"{name}: {', '.join(pair['cheap'])} against {', '.join(pair['strong'])}"


def _rows(found: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    yield ("this bundle", *_area(found), "", *_others(found))
    for name, row in found["baselines"].items():
        # The two single models order nothing, as random does.
        if not name.startswith("always_"):
            yield (name, *_area(row), _limits(row["behind_ci95"], signed=True), *_others(row))
    yield ("known", number(found["apgr_known"]), "", "", "", "", "")


def _area(row: Mapping[str, Any]) -> tuple[str, str]:
    return number(row["apgr"]), _limits(row["apgr_ci95"])


def _others(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(number(row[name]) for name in ("cpt50", "cpt80", "auc"))


def _limits(limits: Sequence[float], *, signed: bool = False) -> str:
    low, high = limits
    if low != low:  # noqa: PLR0124 — NaN is the one value unlike itself
        return number(None)
    return f"{low:+.3f} to {high:+.3f}" if signed else interval(limits)


def _tables(tables: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if len(tables) > 1:
        rows = ((name, f"{row['n']:,}", *(number(row[key]) for key in _OF_TABLE)) for name, row in tables.items())
        yield ""
        yield from _aligned((("table", "prompts", *_OF_TABLE), *rows))


_OF_TABLE = ("cheap", "strong", "apgr")


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
