"""MODEL_CARD.md of a bundle learned from logs, from its manifest alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from heimdall_models.learning.text_refit import FEWEST_QUESTIONS

CARD = "MODEL_CARD.md"


def card_text(manifest: Mapping[str, Any]) -> str:
    """The card of the bundle with this manifest."""
    parts = (_head(manifest), _data(manifest["training_data"]), _worth(manifest["metrics"]["held_out"]), _LIMITS)
    return "\n\n".join(parts) + "\n"


def _head(m: Mapping[str, Any]) -> str:
    own = m["tree_count"] - m["prior_trees"]
    return f"""# Model card

A classifier learned from logged decisions and their rewards. {m["framework"]} {m["version"]}, {m["tree_count"]} trees over
{m["feature_count"]} features (version {m["feature_version"]}); {m["bytes"]} bytes.
Created {m["created"]}; parent {m["parent"]}.

- The first {m["prior_trees"]} trees are those of the bundle that learning began with; {own} are own ones: an outcome model of
  the cheap and one of the strong side. {_text(m["text_model"])}
- Output: chance that the cheap side's answer is preferred (half its lead in reward plus a half), calibrated on later
  decisions than those fitted to (slope {m["platt"]["slope"]:.3f}, intercept {m["platt"]["intercept"]:.3f}); calibration error
  there {m["calibration_error"]:.3f}.
- The exported model differs from the fitted one by at most {m["export_largest_difference"]:.1e} in probability.
- Buckets: percentiles of the difficulty over the decisions learned from."""


def _text(text_model: Mapping[str, Any]) -> str:
    if text_model.get("from") != "logs":
        return "Text model and clusters are the parent's."
    return f"""Clusters are the parent's.
- The text model was fitted to {text_model["texts"]} texts of tenants that let theirs be kept: its weights hold what hashed
  words, pairs of words and character 4-grams mean that stand in at least {FEWEST_QUESTIONS} different questions; no text."""


def _data(data: Mapping[str, Any]) -> str:
    left = "".join(f"\n- Left out: {count} ({why})." for why, count in data["left_out"].items())
    return f"""## Training data

{data["rows"]} decisions of own traffic ({data["questions"]} questions), {_day(data["since_ms"])} to {_day(data["until_ms"])}:
{data["fitted"]} fitted to, {data["calibrated"]} later ones calibrated on. Weighted by their probabilities they say as much as
{data["effective_rows"]:.0f} evenly explored ones.

- Cheap side: {", ".join(data["cheap"])} ({data["cheap_answers"]} answers).
- Strong side: {", ".join(data["strong"])} ({data["strong_answers"]} answers).{left}"""


def _worth(held: Mapping[str, Any]) -> str:
    if held["apgr"] is None:
        return "## On later decisions\n\nNot measured: too few later decisions, or both sides are equally good there."
    rows = "\n".join(
        f"| {name} | {held[field]:.3f} | {held[field + '_ci95'][0]:.3f} to {held[field + '_ci95'][1]:.3f} |"
        for name, field in (("this bundle", "apgr"), ("its parent", "apgr_parent"), ("its prior", "apgr_prior"))
        if held[field] is not None
    )
    return f"""## On later decisions

{held["n"]} decisions after those above ({held["effective"]:.0f} effective), by doubly robust scores; random is 0.500.

| order of | APGR | 95 % |
| --- | --- | --- |
{rows}"""


def _day(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).date().isoformat()


_LIMITS = """## What it does not know

It was fitted to the traffic named above: other kinds of requests get the prior's order at best. It knows of a side only
what exploration showed. Rewards are what feedback and traffic said, not what is true."""
