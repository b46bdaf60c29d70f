"""Outcome tables → a bundle, the same bytes for the same tables, recipe and library versions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from heimdall_models.bundle import (
    CENTRES,
    CLUSTER_DOMAINS,
    MANIFEST,
    ONNX,
    PERCENTILE_STEPS,
    PERCENTILES,
    QUALITY,
    TEXT_TABLES,
    Clusters,
    load_bundle,
)
from heimdall_models.classify import Classifier, Platt
from heimdall_models.embed import CheckedEmbedder, Embedder, embed_texts
from heimdall_models.features import FEATURE_NAMES
from heimdall_models.npy import to_npy
from heimdall_models.training.clusters_fit import domain_numbers, fit_clusters
from heimdall_models.training.everyday import read_everyday
from heimdall_models.training.export import largest_difference, to_onnx
from heimdall_models.training.fit import (
    CALIBRATION_FOLDS,
    Examples,
    Fitted,
    Settings,
    Target,
    calibrated_by_fold,
    calibration,
    fit,
    made_with,
    out_of_fold,
)
from heimdall_models.training.labels import Labelled, labelled, training_rows
from heimdall_models.training.metrics import bucket_shares, calibration_error
from heimdall_models.training.tables import OutcomeTable, Pools
from heimdall_models.training.text_fit import rounded

Floats = NDArray[np.float64]

CLUSTERS = 32
LARGEST_EXPORT_DIFFERENCE = 1e-4
FEWEST_ROWS = 10
"""Of fewer rows or questions there is nothing left for a tree in a fold that calibrates. So few are worth nothing, but they are
no accident."""


class TrainingError(RuntimeError):
    """A bundle was not written: says what went wrong and what to change."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything a bundle depends on besides its tables.

    `created` is written into the manifest, so that two runs can agree. `sources`: repository and licence of the tables'
    data, for the model card. `quality`: the bytes of the quality table. `parent`: hash of the bundle this one replaces.
    `measured`: what an evaluation found, kept in the manifest (`metrics`, `accuracy`). `embedder`: the plugged-in one that the
    clusters are made with, as they must be where it serves; None: the hashed embedding.
    """

    created: datetime
    settings: Settings = field(default_factory=Settings)
    target: Target = "cheap_ok"
    pools: Mapping[str, Pools] = field(default_factory=dict)
    sources: Sequence[Mapping[str, str]] = ()
    quality: bytes | None = None
    parent: str | None = None
    measured: Mapping[str, Any] = field(default_factory=dict)
    embedder: CheckedEmbedder | None = None


def check_enough(rows: Labelled) -> None:
    """Raises TrainingError for rows that teach nothing."""
    if len(rows) < FEWEST_ROWS:
        raise TrainingError(
            f"{len(rows)} prompts have scores of both sides, a bundle takes {FEWEST_ROWS} or more; "
            "hundreds are worth it: see the labels that beat the shipped bundle in its MODEL_CARD.md"
        )
    if np.ptp(rows.examples.label) == 0:
        raise TrainingError(
            "the scores say the same of every prompt, so nothing tells easy from hard; "
            "give scores of two models or more that do not always agree"
        )
    questions = len(np.unique(rows.examples.question))
    if questions < FEWEST_ROWS:
        raise TrainingError(
            f"the {len(rows)} prompts ask {questions} different questions, a bundle takes {FEWEST_ROWS} or more; prompts that "
            "differ in numbers, punctuation or what stands around the question are one"
        )


def train_bundle(tables: Sequence[OutcomeTable], out: Path, recipe: Recipe) -> dict[str, Any]:
    """Fit, calibrate, export and write a bundle into directory `out`; returns its manifest.

    Raises TrainingError when the rows teach nothing or the exported model does not agree with the fitted one, TableError
    for unusable tables.
    """
    rows = labelled(tables, recipe.pools, recipe.target)
    check_enough(rows)
    examples = training_rows(rows, recipe.settings.transfer)
    # The table's own rows come first; everyday prompts are neither calibrated on nor part of the reference traffic.
    held_out = out_of_fold(examples, recipe.settings, CALIBRATION_FOLDS).rows(np.arange(len(rows)))
    bend, platt = calibration(held_out, rows.examples.label, recipe.settings)
    fitted = replace(fit(examples, recipe.settings), bend=bend)
    text_model = rounded(fitted.text)
    reference = percentile_table(1.0 - platt(held_out.log_odds + bend.of(held_out.score))[_distinct_texts(rows)])
    trees = fitted.dumped()
    onnx_bytes = to_onnx(trees)
    difference = _export_difference(fitted, onnx_bytes, examples)
    clusters = _clusters(rows, recipe)
    files = {
        ONNX: onnx_bytes,
        **{name: to_npy(table) for name, table in zip(TEXT_TABLES, text_model.weights, strict=True)},
        CENTRES: to_npy(clusters.centres),
        CLUSTER_DOMAINS: to_npy(clusters.domains),
        PERCENTILES: to_npy(reference),
    }
    if recipe.quality is not None:
        files[QUALITY] = recipe.quality
    manifest = _manifest(recipe, rows, files) | {
        "tree_count": len(trees),
        "bend_steps": len(bend.edges),
        "platt": asdict(platt),
        "text_model": {
            "scales": text_model.scales,
            "bias": text_model.bias,
            "slopes": {FEATURE_NAMES[column]: slope for column, slope in text_model.slopes},
        },
        "export_largest_difference": difference,
        "calibration_error": calibration_error(
            calibrated_by_fold(held_out, rows.examples, recipe.settings), rows.examples.label
        ),
        "reference_buckets": _reference_buckets(fitted, rows, platt, reference),
    }
    write_bundle(out, files, manifest)
    return manifest


def percentile_table(difficulty: Floats) -> Floats:
    """(1001,) ascending difficulties at evenly spaced shares of the reference traffic."""
    return np.asarray(np.quantile(difficulty, np.linspace(0.0, 1.0, PERCENTILE_STEPS)), np.float64)


def write_bundle(out: Path, files: Mapping[str, bytes], manifest: Mapping[str, Any]) -> None:
    """Write files and manifest, the manifest last, and load the result once. Raises BundleError."""
    out.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (out / name).write_bytes(data)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    body = orjson.dumps({**manifest, "files": hashes}, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
    (out / MANIFEST).write_bytes(body + b"\n")
    load_bundle(out)


def _reference_buckets(fitted: Fitted, rows: Labelled, platt: Platt, reference: Floats) -> dict[str, float]:
    """Shares of the buckets that the fitted model gives the reference traffic, whose cuts come from held-out predictions."""
    difficulty = 1.0 - platt(fitted.log_odds(rows.examples)[_distinct_texts(rows)])
    return bucket_shares(np.interp(difficulty, reference, np.linspace(0.0, 1.0, len(reference))))


def _export_difference(fitted: Fitted, onnx_bytes: bytes, examples: Examples) -> float:
    """Largest difference between the fitted and the exported model over all rows, as a probability. Raises TrainingError."""
    numeric = fitted.numeric(examples)
    unused = np.zeros(2)
    exported = Classifier(onnx_bytes, Platt(1.0, 0.0), unused).log_odds(numeric)
    difference = largest_difference(fitted.native_log_odds(numeric), exported)
    if difference > LARGEST_EXPORT_DIFFERENCE:
        raise TrainingError(
            f"the exported model differs from the fitted one by {difference:.2g} in probability; "
            "the bundle was not written: report it with the versions of lightgbm and onnxruntime"
        )
    return difference


def _clusters(rows: Labelled, recipe: Recipe) -> Clusters:
    everyday = read_everyday()
    texts = [c.text for c in (*rows.conversations, *everyday.conversations)]
    embed: Embedder = recipe.embedder or embed_texts
    try:
        vectors = np.concatenate([embed(texts[at : at + 256]) for at in range(0, len(texts), 256)])
    except RuntimeError as error:  # the plug-in's own
        raise TrainingError(str(error)) from error
    domains = domain_numbers([*rows.domains.tolist(), *everyday.domains])
    return fit_clusters(vectors, domains, min(CLUSTERS, len(texts)), recipe.settings.seed)


def _distinct_texts(rows: Labelled) -> NDArray[np.int64]:
    """The first row of each text: the reference traffic asks everything once."""
    first = {c.text: number for number, c in reversed(list(enumerate(rows.conversations)))}
    return np.array(sorted(first.values()))


def _manifest(recipe: Recipe, rows: Labelled, files: Mapping[str, bytes]) -> dict[str, Any]:
    counts = np.bincount(rows.source, minlength=len(rows.tables))
    return {
        **made_with(),
        "created": recipe.created.isoformat(),
        "parent": recipe.parent,
        "target": recipe.target,
        "settings": asdict(recipe.settings),
        "training_data": {
            "rows": len(rows),
            "questions": len(np.unique(rows.examples.question)),
            "everyday_prompts": len(read_everyday().label) if recipe.settings.transfer else 0,
            "tables": [
                {"name": name, "rows": int(count), "cheap": list(pools.cheap), "strong": list(pools.strong)}
                for name, count, pools in zip(rows.tables, counts, rows.pools, strict=True)
            ],
            "sources": list(recipe.sources),
        },
        "bytes": sum(map(len, files.values())),
        **({"embedding": recipe.embedder.name} if recipe.embedder else {}),
        **recipe.measured,
    }
