"""Logged decisions → a bundle: two outcome models over the prior's trees, calibrated on later rows, quality measured anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from heimdall_models.bundle import (
    CENTRES,
    CLUSTER_DOMAINS,
    ONNX,
    PERCENTILES,
    QUALITY,
    TEXT_TABLES,
    Bundle,
    load_bundle,
)
from heimdall_models.learning.card import CARD, card_text
from heimdall_models.learning.cells import refitted_quality
from heimdall_models.learning.fitted import Fit, TooLittle, fitted
from heimdall_models.learning.logged import Indices, Logged
from heimdall_models.learning.manifest import manifest_of, of_bundle, warnings_of
from heimdall_models.learning.outcome import usable
from heimdall_models.learning.pairs import with_shadows
from heimdall_models.learning.prior import read_prior
from heimdall_models.learning.sides import Sides, pools_of, sides_of, strangers
from heimdall_models.learning.split import split_by_time
from heimdall_models.npy import to_npy
from heimdall_models.training.train import TrainingError, write_bundle

__all__ = ["Options", "TooLittle", "Trained", "TrainingError", "train_logged"]

FEWEST_ROWS = 200


@dataclass(frozen=True, slots=True)
class Options:
    """`created` goes into the manifest. `pools`: models by bucket, as configured; `cheap`, `strong`: models of the two
    sides that a difficulty tells apart. Without them, as the log shows (`sides.py`)."""

    created: datetime
    seed: int = 0
    pools: Mapping[str, tuple[str, ...]] | None = None
    cheap: tuple[str, ...] = ()
    strong: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trained:
    """What was written: the directory, its manifest, usable rows, metrics, and what a reader should know beside them."""

    bundle: Path
    manifest: Mapping[str, Any]
    rows: int
    metrics: Mapping[str, Any]
    warnings: tuple[str, ...] = field(default=())


def train_logged(logged: Logged, parent: Path, out: Path, options: Options) -> Trained:
    """Write a bundle learned from these decisions and their shadows into `out`, beginning from the bundle `parent`.

    Raises TooLittle when the rows cannot teach (few, one side only, all rewards equal), BundleError for the parent,
    TrainingError when the exported model disagrees with the fitted one. Nothing is written then.
    """
    base = load_bundle(parent)
    logged = with_shadows(logged)
    kept = of_bundle(logged, base)
    rows, sides = _rows(logged, kept, options)
    fit = fitted(logged, sides, split_by_time(logged, rows), read_prior(base), options.seed)
    files = _files(parent, base, fit)
    manifest = manifest_of(fit, base, files, options.created, options.seed)
    write_bundle(out, files, manifest)
    (out / CARD).write_text(card_text(manifest), encoding="utf-8")
    return Trained(out, manifest, len(rows), manifest["metrics"], warnings_of(logged, kept, fit))


def _rows(logged: Logged, kept: Logged, options: Options) -> tuple[Indices, Sides]:
    """Places in `logged` of what can be learned from. Raises TooLittle."""
    if (why := strangers(logged, options.pools)) is not None:
        raise TooLittle(why)
    sides = sides_of(logged, pools_of(logged, options.pools), options.cheap, options.strong)
    rows = usable(logged, sides)
    rows = rows[np.isin(logged.request_id[rows], kept.request_id)]
    if len(rows) < FEWEST_ROWS:
        raise TooLittle(
            f"{len(rows)} of {len(logged)} rows have a reward, a known side and features of the bundle in use; below "
            f"{FEWEST_ROWS} nothing is learned that is not chance: the bundle in use stays. Collect feedback, or replay more"
        )
    reward = logged.reward[rows]
    if float(reward.max() - reward.min()) == 0.0:
        raise TooLittle(
            f"all {len(rows)} rewards are {reward[0]:g}: they tell no answer from another, so nothing can be learned. "
            "Look at the coverage in the data set's manifest; feedback that is sometimes bad is needed"
        )
    return rows, sides


def _files(parent: Path, base: Bundle, fit: Fit) -> dict[str, bytes]:
    files = {name: (parent / name).read_bytes() for name in (*TEXT_TABLES, CENTRES, CLUSTER_DOMAINS)}
    files |= {ONNX: fit.model, PERCENTILES: to_npy(fit.percentiles)}
    learned = fit.logged.rows(np.concatenate((fit.split.fit, fit.split.calibrate)))
    quality = refitted_quality(learned, base)
    return files if quality is None else files | {QUALITY: quality}
