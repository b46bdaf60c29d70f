"""What the report pages are made of: one page, its sections, figures and tables. Nothing is fetched, no script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files


def page(title: str, parts: Iterable[str]) -> str:
    """A whole HTML page of those parts that are not empty, in light and dark."""
    style = files(__package__).joinpath("report.css").read_text("utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)}</title>'
        f"<style>\n{style}</style></head><body><main>\n{chr(10).join(filter(None, parts))}\n</main></body></html>\n"
    )


def figure(title: str, drawn: str, below: str) -> str:
    """A plot under its title."""
    return f"<figure><figcaption><h2>{escape(title)}</h2></figcaption>{drawn}{below}</figure>"


def section(title: str, inside: str, note: str = "") -> str:
    """A part under its title; nothing when there is nothing inside."""
    if not inside:
        return ""
    said = f'<p class="note">{note}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{said}{inside}</section>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column names the rows."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def number(value: float | None) -> str:
    """Three decimals, a dash for what is not known."""
    return "–" if value is None else f"{value:.3f}"


def share(value: float | None) -> str:
    """As a percentage, a dash for what is not known."""
    return "–" if value is None else f"{100 * value:.1f} %"


def interval(limits: Sequence[float | None]) -> str:
    """Both bounds, a dash where there are none."""
    low, high = limits
    return f"{number(low)} to {number(high)}" if low == low else "–"  # noqa: PLR0124


def bucket_bar(shares: Mapping[str, float]) -> str:
    """One bar cut by the shares of the buckets."""
    said = ", ".join(f"{name} {100 * part:.0f} %" for name, part in shares.items())
    parts = "".join(f'<i class="{escape(name)}" style="flex:{part:.4f}"></i>' for name, part in shares.items())
    return f'<div class="bar" role="img" aria-label="Bucket shares: {escape(said)}">{parts}</div>'
