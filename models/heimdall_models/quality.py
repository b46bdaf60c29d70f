"""How good each model is at each kind of task: published estimates to begin with, measured outcomes as they come.

    python -m heimdall_models.quality ESTIMATES.json --out quality.json

builds a bundle's `quality.json` from a table of published estimates. Only derived numbers are kept, no single score.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

FORMAT = 1

FEW_SCORES = 5
"""A model with at most so many published scores counts as quality − sd: the top is not told apart by so few."""

PRIOR_WEIGHT = 2.0
"""Scores that a model's overall estimate is worth beside a domain's own: a cell of n scores keeps n / (n + 2) of its
distance to the model's mean."""

OUTCOME_PRIOR_WEIGHT = 20.0
"""Measured outcomes that the estimate of a cell is worth."""

MOST_OUTPUT_TOKENS = 10_000_000
"""Of an answer, far above what any model writes: a table that says more is damaged, and would overflow what a call costs."""

ATTRIBUTIONS = (
    "LiveBench (Apache-2.0)",
    "Arena (CC BY 4.0)",
    "Epoch AI (CC BY 4.0)",
    "Aider (Apache-2.0)",
    "ZeroEval, MMLU-Pro, RULER, Arena-Hard, AlpacaEval (Apache-2.0)",
    "simple-evals (MIT)",
    "LLM Stats (CC BY 4.0)",
    "models.dev (MIT)",
)

_OUTPUT_TOKENS = {
    "knowledge": 120.0,
    "science": 150.0,
    "math": 250.0,
    "code": 600.0,
    "reasoning": 200.0,
    "chat": 350.0,
    "long_context": 400.0,
    "instruction_following": 350.0,
    "multilingual": 350.0,
}
"""Priors: a plain answer's tokens by kind of task. They weigh the output price against the input price."""


class QualityError(ValueError):
    """A quality table is missing, damaged or of another format."""


@dataclass(frozen=True, slots=True)
class QualityTable:
    """Estimates in 0..1: `quality`, `sd` and `samples` are (models, domains) float64; `output_tokens` is (domains,).

    `quality` is what to act on: already lowered by the sd where a model has few scores, already shrunk in thin cells.
    """

    models: tuple[str, ...]
    domains: tuple[str, ...]
    quality: NDArray[np.float64]
    sd: NDArray[np.float64]
    samples: NDArray[np.float64]
    output_tokens: NDArray[np.float64]
    date: str

    def by_cluster(self, mixture: NDArray[np.float64], models: Sequence[str]) -> NDArray[np.float64]:
        """(clusters + 1, len(models)): each cluster's mixture over the domains, and last the plain mean over domains.

        `mixture`: (clusters, domains), rows sum to 1. A model without an estimate counts as the mean of the table minus
        twice its spread: it may be used, and is never preferred for a quality that nobody saw.
        """
        row_of = {model: row for row, model in enumerate(self.models)}
        means = self.quality.mean(axis=1)
        unknown = np.full(len(self.domains), max(0.0, float(means.mean() - 2 * means.std())))
        known = np.array([self.quality[row_of[model]] if model in row_of else unknown for model in models])
        return np.asarray(_with_mean(mixture) @ known.reshape(len(models), len(self.domains)).T)

    def output_by_cluster(self, mixture: NDArray[np.float64]) -> NDArray[np.float64]:
        """(clusters + 1,) tokens of a plain answer, the last over all domains."""
        return np.asarray(_with_mean(mixture) @ self.output_tokens)


def _with_mean(mixture: NDArray[np.float64]) -> NDArray[np.float64]:
    even = np.full((1, mixture.shape[1]), 1.0 / mixture.shape[1])
    return np.concatenate((mixture, even))


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What was measured of one model in one domain: `count` answers with a mean score in 0..1."""

    model: str
    domain: str
    count: float
    mean: float


def merge_outcomes(table: QualityTable, outcomes: Iterable[Outcomes]) -> QualityTable:
    """The table with measured outcomes: (n · measured + 20 · estimate) / (n + 20) in each cell; new models are added.

    A new model begins at the mean of the table. Raises QualityError for a domain that the table does not have.
    """
    rows = list(outcomes)
    unknown = {row.domain for row in rows}.difference(table.domains)
    if unknown:
        raise QualityError(
            f"no domain {', '.join(sorted(unknown))} in the quality table; it has {', '.join(table.domains)}"
        )
    table = _with_models(table, sorted({row.model for row in rows}.difference(table.models)))
    quality, sd, samples = table.quality.copy(), table.sd.copy(), table.samples.copy()
    for row in rows:
        cell = table.models.index(row.model), table.domains.index(row.domain)
        weight = row.count / (row.count + OUTCOME_PRIOR_WEIGHT)
        quality[cell] += weight * (row.mean - quality[cell])
        sd[cell] *= (1.0 - weight) ** 0.5
        samples[cell] += row.count
    return replace(table, quality=quality, sd=sd, samples=samples)


def _with_models(table: QualityTable, added: Sequence[str]) -> QualityTable:
    def more(values: NDArray[np.float64], filler: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate((values, np.tile(filler, (len(added), 1))))

    return replace(
        table,
        models=(*table.models, *added),
        quality=more(table.quality, table.quality.mean(axis=0)),
        sd=more(table.sd, table.quality.std(axis=0)),
        samples=more(table.samples, np.zeros(len(table.domains))),
    )


def build_quality(source: Mapping[str, Any]) -> dict[str, Any]:
    """The document of `quality.json` from published estimates: `domains`, `models[id].estimate[overall | domain]`."""
    domains = list(source["domains"])
    return {
        "format": FORMAT,
        "date": source["date"],
        "attributions": list(ATTRIBUTIONS),
        "domains": domains,
        "output_tokens": [_OUTPUT_TOKENS[domain] for domain in domains],
        "models": {model: _cells(facts["estimate"], domains) for model, facts in sorted(source["models"].items())},
    }


def _cells(estimate: Mapping[str, Mapping[str, Any]], domains: Sequence[str]) -> dict[str, list[float]]:
    overall = estimate["overall"]
    lowered = overall["scores"] <= FEW_SCORES
    quality, sd, samples = [], [], []
    for domain in domains:
        cell = estimate[domain]
        kept = cell["scores"] / (cell["scores"] + PRIOR_WEIGHT)
        shrunk = overall["quality"] + kept * (cell["quality"] - overall["quality"])
        quality.append(round(max(0.0, shrunk - (overall["quality_sd"] if lowered else 0.0)), 4))
        sd.append(cell["quality_sd"])
        samples.append(cell["scores"])
    return {"quality": quality, "sd": sd, "samples": samples}


def quality_document(table: QualityTable) -> dict[str, Any]:
    """The table as the document that `read_quality` reads."""
    return {
        "format": FORMAT,
        "date": table.date,
        "attributions": list(ATTRIBUTIONS),
        "domains": list(table.domains),
        "output_tokens": table.output_tokens.tolist(),
        "models": {
            model: {
                "quality": table.quality[row].tolist(),
                "sd": table.sd[row].tolist(),
                "samples": table.samples[row].tolist(),
            }
            for row, model in enumerate(table.models)
        },
    }


def read_quality(path: Path) -> QualityTable:
    """The table in a bundle's `quality.json`. Raises QualityError when it is missing, damaged or not finite."""
    try:
        return parse_quality(path.read_bytes())
    except OSError as error:
        raise QualityError(f"{path.name}: {error.strerror}; a bundle needs its quality table") from error


def parse_quality(document: bytes) -> QualityTable:
    """The table in the bytes of a `quality.json`. Raises QualityError when its shape or numbers are wrong."""
    try:
        fields = orjson.loads(document)
        if fields["format"] != FORMAT:
            raise QualityError(f"quality table of format {fields['format']!r}, this version reads {FORMAT}")
        cells = fields["models"]
        if not isinstance(cells, dict) or not cells:
            raise QualityError("`models` of the quality table is no object with a model in it")
        domains = tuple(fields["domains"])
        table = QualityTable(
            models=tuple(cells),
            domains=domains,
            quality=_matrix(cells, "quality", len(domains)),
            sd=_matrix(cells, "sd", len(domains)),
            samples=_matrix(cells, "samples", len(domains)),
            output_tokens=np.array(fields["output_tokens"], np.float64).reshape(len(domains)),
            date=fields["date"],
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, QualityError):
            raise
        raise QualityError(f"the quality table cannot be read: {type(error).__name__} {error}") from error
    if not ((table.quality >= 0) & (table.quality <= 1)).all() or not np.isfinite((table.sd, table.samples)).all():
        raise QualityError("the quality table has a quality outside 0..1, or an sd or samples that are not finite")
    if not ((table.output_tokens >= 0) & (table.output_tokens <= MOST_OUTPUT_TOKENS)).all():
        raise QualityError(f"`output_tokens` of the quality table are not all in 0..{MOST_OUTPUT_TOKENS:,}")
    return table


def _matrix(cells: Mapping[str, Mapping[str, Any]], name: str, width: int) -> NDArray[np.float64]:
    return np.array([cell[name] for cell in cells.values()], np.float64).reshape(len(cells), width)


def main() -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(description="Build a bundle's quality table from published estimates.")
    parser.add_argument("estimates", type=Path, help="table of estimates, JSON")
    parser.add_argument("--out", type=Path, required=True, help="quality.json to write")
    arguments = parser.parse_args()
    document = build_quality(json.loads(arguments.estimates.read_text("utf-8")))
    arguments.out.write_text(json.dumps(document, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
