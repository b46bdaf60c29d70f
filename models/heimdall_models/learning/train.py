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
    PRIOR_TEXT_TABLES,
    QUALITY,
    TEXT_TABLES,
    Bundle,
    load_bundle,
)
from heimdall_models.learning.card import CARD, card_text
from heimdall_models.learning.cells import refitted_quality
from heimdall_models.learning.fitted import TooLittle, fitted
from heimdall_models.learning.lineage import Seen, seen_by
from heimdall_models.learning.logged import Indices, Logged
from heimdall_models.learning.manifest import Learned, manifest_of, warnings_of
from heimdall_models.learning.outcome import usable
from heimdall_models.learning.pairs import with_shadows
from heimdall_models.learning.prior import prior_text_files, read_prior, read_prior_text
from heimdall_models.learning.sides import Sides, pools_of, sides_of, strangers
from heimdall_models.learning.split import split_by_time
from heimdall_models.learning.text_refit import Refit, refit
from heimdall_models.npy import to_npy
from heimdall_models.training.train import TrainingError, write_bundle

__all__ = ["Options", "TooLittle", "Trained", "TrainingError", "train_logged"]

FEWEST_ROWS = 200


@dataclass(frozen=True, slots=True)
class Options:
    """`created` goes into the manifest. `pools`: models by bucket, as configured; `cheap`, `strong`: models of the two
    sides that a difficulty tells apart. Without them, as the log shows (`sides.py`). `fit_text`: whether the text model may be
    fitted to the texts that tenants let be kept; where they are few, it is not."""

    created: datetime
    seed: int = 0
    pools: Mapping[str, tuple[str, ...]] | None = None
    fit_text: bool = False
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
    seen = seen_by(base, with_shadows(logged))
    rows, sides = _rows(seen, options)
    text, why_not = _text(seen.logged, rows, sides, base) if options.fit_text else (None, None)
    if text is None:
        fit = fitted(seen.logged, sides, split_by_time(seen.logged, rows), read_prior(base), options.seed)
    else:
        fit = fitted(text.logged, sides, text.split, read_prior(base), options.seed)
    learned = Learned(fit, base, seen.logged, text)
    files = _files(learned)
    manifest = manifest_of(learned, files, options.created, options.seed)
    write_bundle(out, files, manifest)
    (out / CARD).write_text(card_text(manifest), encoding="utf-8")
    warnings = warnings_of(learned, int((~seen.known).sum()), len(rows), why_not)
    return Trained(out, manifest, len(rows if text is None else text.rows), manifest["metrics"], warnings)


def _text(logged: Logged, rows: Indices, sides: Sides, base: Bundle) -> tuple[Refit | None, str | None]:
    """The text model fitted to the rows' texts, else why there is none."""
    found = refit(logged, rows, sides, read_prior_text(base))
    return (None, found) if isinstance(found, str) else (found, None)


def _rows(seen: Seen, options: Options) -> tuple[Indices, Sides]:
    """Places in the log of what can be learned from. Raises TooLittle."""
    logged = seen.logged
    if (why := strangers(logged, options.pools)) is not None:
        raise TooLittle(why)
    sides = sides_of(logged, pools_of(logged, options.pools), options.cheap, options.strong)
    rows = usable(logged, sides)
    rows = rows[seen.known[rows]]
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


def _files(learned: Learned) -> dict[str, bytes]:
    base, fit, text = learned.base, learned.fit, learned.text
    kept = [name for name in PRIOR_TEXT_TABLES if name in base.manifest["files"]]
    files = {name: (base.path / name).read_bytes() for name in (*TEXT_TABLES, *kept, CENTRES, CLUSTER_DOMAINS)}
    if text is not None:
        files |= prior_text_files(base)
        files |= {name: to_npy(table) for name, table in zip(TEXT_TABLES, text.model.weights, strict=True)}
    files |= {ONNX: fit.model, PERCENTILES: to_npy(fit.percentiles)}
    learned_from = fit.logged.rows(np.concatenate((fit.split.fit, fit.split.calibrate)))
    quality = refitted_quality(learned_from, base)
    return files if quality is None else files | {QUALITY: quality}
