"""Outcome tables → a bundle, the same bytes for the same tables, recipe and library versions."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from heimdall_models.bundle import (
    CENTRES,
    CLUSTER_DOMAINS,
    FORMAT,
    MANIFEST,
    ONNX,
    PERCENTILE_STEPS,
    PERCENTILES,
    QUALITY,
    TEXT_TABLES,
    load_bundle,
)
from heimdall_models.classify import Classifier, Platt
from heimdall_models.embed import embed_texts
from heimdall_models.features import FEATURE_NAMES, FEATURE_VERSION
from heimdall_models.text_model import TextModel
from heimdall_models.training.clusters_fit import domain_numbers, fit_clusters
from heimdall_models.training.export import largest_difference, to_onnx
from heimdall_models.training.fit import (
    Settings,
    Target,
    dumped_trees,
    fit,
    fit_platt,
    framework_version,
    native_log_odds,
    out_of_fold,
    with_text_score,
)
from heimdall_models.training.labels import Labelled, labelled
from heimdall_models.training.tables import OutcomeTable, Pools
from heimdall_models.training.text_fit import rounded

Floats = NDArray[np.float64]

CALIBRATION_FOLDS = 5
CLUSTERS = 32
LARGEST_EXPORT_DIFFERENCE = 1e-4


class TrainingError(RuntimeError):
    """A bundle was not written: says what went wrong and what to change."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything a bundle depends on besides its tables.

    `created` is written into the manifest, so that two runs can agree. `sources`: repository and licence of the tables'
    data, for the model card. `quality`: the bytes of the quality table. `parent`: hash of the bundle this one replaces.
    """

    created: datetime
    settings: Settings = field(default_factory=Settings)
    target: Target = "cheap_ok"
    pools: Mapping[str, Pools] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    sources: Sequence[Mapping[str, str]] = ()
    quality: bytes | None = None
    parent: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)


def train_bundle(tables: Sequence[OutcomeTable], out: Path, recipe: Recipe) -> dict[str, Any]:
    """Fit, calibrate, export and write a bundle into directory `out`; returns its manifest.

    Raises TrainingError when the exported model does not agree with the fitted one, TableError for unusable tables.
    """
    rows = labelled(tables, recipe.pools, recipe.target, recipe.weights)
    examples = rows.examples
    fitted = fit(examples, recipe.settings)
    text_model = rounded(fitted.text)
    held_out = out_of_fold(examples, recipe.settings, CALIBRATION_FOLDS)
    platt = fit_platt(held_out, examples.label, examples.weight)
    reference = percentile_table(1.0 - platt(held_out))
    onnx_bytes = to_onnx(dumped_trees(fitted.trees))
    numeric = with_text_score(examples.numeric, _served_text_score(text_model, rows))
    exported = Classifier(onnx_bytes, platt, reference).log_odds(numeric)
    difference = largest_difference(native_log_odds(fitted.trees, numeric), exported)
    if difference > LARGEST_EXPORT_DIFFERENCE:
        raise TrainingError(f"the exported model differs from the fitted one by {difference:.2g} in probability")
    vectors = np.concatenate(
        [embed_texts([c.text for c in rows.conversations[i : i + 256]]) for i in range(0, len(examples), 256)]
    )
    clusters = fit_clusters(vectors, domain_numbers(rows.domains), min(CLUSTERS, len(examples)), recipe.settings.seed)
    files = {
        ONNX: onnx_bytes,
        **{name: _npy(table) for name, table in zip(TEXT_TABLES, text_model.weights, strict=True)},
        CENTRES: _npy(clusters.centres),
        CLUSTER_DOMAINS: _npy(clusters.domains),
        PERCENTILES: _npy(reference),
    }
    if recipe.quality is not None:
        files[QUALITY] = recipe.quality
    manifest = _manifest(recipe, rows, tables, files) | {
        "tree_count": recipe.settings.trees,
        "platt": asdict(platt),
        "text_model": {"scales": text_model.scales, "bias": text_model.bias},
        "export_largest_difference": difference,
    }
    write_bundle(out, files, manifest)
    return manifest


def percentile_table(difficulty: Floats) -> Floats:
    """(1001,) ascending difficulties at evenly spaced shares of the reference traffic."""
    return np.quantile(difficulty, np.linspace(0.0, 1.0, PERCENTILE_STEPS))


def write_bundle(out: Path, files: Mapping[str, bytes], manifest: Mapping[str, Any]) -> None:
    """Write files and manifest, the manifest last, and load the result once. Raises BundleError."""
    out.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (out / name).write_bytes(data)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    body = orjson.dumps({**manifest, "files": hashes}, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
    (out / MANIFEST).write_bytes(body + b"\n")
    load_bundle(out)


def _manifest(
    recipe: Recipe, rows: Labelled, tables: Sequence[OutcomeTable], files: Mapping[str, bytes]
) -> dict[str, Any]:
    counts = np.bincount(rows.source, minlength=len(tables))
    return {
        "format": FORMAT,
        "feature_version": FEATURE_VERSION,
        "feature_count": len(FEATURE_NAMES),
        "framework": "lightgbm",
        "version": framework_version(),
        "created": recipe.created.isoformat(),
        "parent": recipe.parent,
        "target": recipe.target,
        "settings": asdict(recipe.settings),
        "training_data": {
            "rows": len(rows.examples),
            "questions": len(set(rows.examples.question.tolist())),
            "tables": {table.name: int(count) for table, count in zip(tables, counts, strict=True)},
            "sources": list(recipe.sources),
        },
        "metrics": dict(recipe.metrics),
        "bytes": sum(map(len, files.values())),
    }


def _served_text_score(text_model: TextModel, rows: Labelled) -> Floats:
    from heimdall_models.scan import scan  # noqa: PLC0415

    texts = [c.text for c in rows.conversations]
    return np.concatenate([text_model.score(scan(texts[i : i + 64])) for i in range(0, len(texts), 64)])


def _npy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return stream.getvalue()
