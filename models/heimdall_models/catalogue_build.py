"""Builds the shipped catalogue from a table of published model facts.

    python -m heimdall_models.catalogue_build FACTS.json --out models/catalogue/models.json

FACTS.json: `date`, `sources` and a list `models` of `id`, `aliases`, `context_window`, `max_output`, `abilities`,
`price` (USD per million tokens), `status`. The output keeps what the fleet reads, the date and the attributions.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EXTRA_ALIASES: Mapping[str, tuple[str, ...]] = {
    "google/gemma-2-27b-it": ("google/gemma-2-27b", "gemma-2-27b"),
    "anthropic/claude-3.5-sonnet": ("anthropic/claude-3-5-sonnet", "claude-3-5-sonnet-latest"),
    "google/gemini-1.5-pro": ("gemini-1.5-pro-latest",),
}
"""Spellings of the Heimdall and Bifrost configurations that the published tables lack."""

REPLACEMENTS: Mapping[str, str] = {
    "qwen/qwen3-coder": "qwen/qwen3.8-max",
    "deepseek/deepseek-r1": "deepseek/deepseek-v4-pro",
    "google/gemma-2-27b-it": "google/gemma-4-31b-it",
    "anthropic/claude-3.5-sonnet": "anthropic/claude-sonnet-5.5",
    "anthropic/claude-3-haiku": "anthropic/claude-haiku-5.5",
    "anthropic/claude-haiku-4.5": "anthropic/claude-haiku-5.5",
    "anthropic/claude-sonnet-4.6": "anthropic/claude-sonnet-5.5",
    "google/gemini-1.5-pro": "google/gemini-3.8-flash",
    "openai/gpt-5": "openai/gpt-6-sol",
    "openai/gpt-5-mini": "openai/gpt-5.6-terra",
    "meta-llama/llama-3.1-70b-instruct": "meta/muse-spark-1.3",
    "meta-llama/llama-3.1-8b-instruct": "openai/gpt-oss-120b",
    "meta-llama/llama-3.3-70b-instruct": "meta/muse-spark-1.3",
    "meta-llama/llama-4-maverick": "meta/muse-spark-1.3",
    "mistralai/mixtral-8x7b-instruct": "mistralai/mistral-medium-3.5",
}
"""Ours, where the maker names none or names a model that is itself leaving or not in the table."""


def build_catalogue(source: Mapping[str, Any]) -> dict[str, Any]:
    """The catalogue document of the table `source`."""
    return {
        "date": source["date"],
        "prices": source["prices"],
        "attributions": _attributions(source["sources"]),
        "models": [_model(row) for row in source["models"]],
    }


def _attributions(sources: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line for each source: what it is, which version, under which licence."""
    lines = []
    for name, facts in sorted(sources.items()):
        what = facts.get("package") or facts.get("repository") or facts.get("what") or name
        version = facts.get("version") or facts.get("commit") or facts.get("read")
        licence = facts.get("licence")
        lines.append(" ".join(filter(None, (what, version, f"({licence})" if licence else None))))
    return lines


def _model(row: Mapping[str, Any]) -> dict[str, Any]:
    model_id = row["id"]
    status = {
        name: row["status"][name] for name in ("state", "shutdown", "replacement", "note") if name in row["status"]
    }
    if model_id in REPLACEMENTS:
        status["replacement"] = REPLACEMENTS[model_id]
    aliases = dict(row["aliases"])
    if model_id in EXTRA_ALIASES:
        aliases["other"] = list(EXTRA_ALIASES[model_id])
    built = {
        "id": model_id,
        "aliases": aliases,
        "context_window": row["context_window"],
        "max_input": row.get("max_input"),
        "max_output": row.get("max_output"),
        "abilities": row["abilities"],
        "price": {name: value for name, value in row["price"].items() if name != "audio_input"},
        "price_later": row.get("price_later"),
        "status": status,
    }
    return {name: value for name, value in built.items() if value is not None}


def main() -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(description="Build the shipped model catalogue.")
    parser.add_argument("facts", type=Path, help="table of published facts, JSON")
    parser.add_argument("--out", type=Path, required=True, help="catalogue to write")
    arguments = parser.parse_args()
    document = build_catalogue(json.loads(arguments.facts.read_text("utf-8")))
    arguments.out.write_text(json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
