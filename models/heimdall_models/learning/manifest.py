"""The manifest of a bundle learned from logs: what it was made of, what it is worth on the last rows, what it continues."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from heimdall_models.bundle import QUALITY, Bundle
from heimdall_models.learning.areas import areas
from heimdall_models.learning.fitted import Fit, effective_rows, preference, raw
from heimdall_models.learning.logged import Logged
from heimdall_models.learning.outcome import corrected, side_scores
from heimdall_models.learning.prior import PRIOR_TREES
from heimdall_models.training.fit import made_with
from heimdall_models.training.metrics import calibration_error

SAME_FEATURES = "same_features"
"""Hashes of bundles with the same text model and clusters: features that they logged mean the same."""

UNTIL = "until_ms"
"""In `training_data`: the time of the last decision that was fitted to or calibrated on; later ones may judge the bundle."""

_KEPT_HASHES = 200
_FEW_EFFECTIVE_ROWS = 100


def of_bundle(logged: Logged, bundle: Bundle) -> Logged:
    """The rows whose features mean the same to `bundle`: decided by it or by one with its text model and clusters."""
    known = (bundle.hash, *bundle.manifest.get(SAME_FEATURES, ()))
    return logged.rows(np.isin(logged.bundle, known))


def trained_until(bundle: Bundle) -> int | None:
    """Milliseconds since 1970 up to which the bundle's own logs reach; None for one that was not learned from logs."""
    found = bundle.manifest.get("training_data", {}).get(UNTIL)
    return None if found is None else int(found)


def manifest_of(fit: Fit, base: Bundle, files: Mapping[str, bytes], created: datetime, seed: int) -> dict[str, Any]:
    """Everything but the hashes of the files."""
    metrics = metrics_of(fit, base)
    known = {"accuracy": metrics["held_out"]["apgr"]} if metrics["held_out"].get("apgr") is not None else {}
    return {
        **made_with(),
        "created": created.astimezone(UTC).isoformat(),
        "parent": base.hash,
        SAME_FEATURES: [base.hash, *base.manifest.get(SAME_FEATURES, ())][:_KEPT_HASHES],
        PRIOR_TREES: fit.prior.trees,
        "tree_count": fit.trees,
        "target": "gain",
        "settings": {"seed": seed, "transfer": False},
        "platt": {"slope": fit.platt.slope, "intercept": fit.platt.intercept},
        "text_model": dict(base.manifest["text_model"]),
        "export_largest_difference": fit.export_difference,
        "calibration_error": metrics["calibration_error"],
        "quality_measured": QUALITY in files,
        "bytes": sum(map(len, files.values())),
        "training_data": _training_data(fit),
        "metrics": metrics,
        **known,
    }


def _training_data(fit: Fit) -> dict[str, Any]:
    split, logged = fit.split, fit.logged
    learned = np.concatenate((split.fit, split.calibrate))
    side = fit.sides.of(logged.served[split.fit])
    return {
        "rows": len(learned),
        "fitted": len(split.fit),
        "calibrated": len(split.calibrate),
        "held_out": len(split.held_out),
        "questions": len(np.unique(logged.question[learned])),
        "effective_rows": round(fit.effective_rows, 1),
        "since_ms": int(logged.time_ms[learned].min()),
        UNTIL: int(logged.time_ms[learned].max()),
        "tables": [],
        "sources": [],
        "cheap": list(fit.sides.cheap),
        "strong": list(fit.sides.strong),
        "cheap_answers": int((side == 0).sum()),
        "strong_answers": int((side == 1).sum()),
        "left_out": dict(logged.left_out),
    }


def metrics_of(fit: Fit, base: Bundle) -> dict[str, Any]:
    """On rows later than all that were fitted to or calibrated on: APGR of the new order, the parent's and the prior's."""
    later = fit.logged.rows(fit.split.calibrate)
    judged = fit.logged.rows(fit.split.held_out)
    p_later = fit.platt(raw(fit.model).log_odds(later.features))
    labels = preference(corrected(fit.outcomes.predict(later.features), later, fit.sides))
    known = judged.rows(np.isfinite(judged.p_served))
    held_out: dict[str, Any] = {"n": len(known), "effective": round(effective_rows(known), 1), "apgr": None}
    if len(known):
        scores = side_scores(fit.outcomes.predict(known.features), known, fit.sides)
        orders = {
            "apgr": 1.0 - raw(fit.model).log_odds(known.features),
            "apgr_parent": -base.classifier.log_odds(known.features),
            "apgr_prior": -raw(fit.prior.model).log_odds(known.features),
        }
        held_out |= areas(orders, scores, known.question)
    return {"held_out": held_out, "calibration_error": calibration_error(p_later, np.clip(labels, 0.0, 1.0))}


def warnings_of(logged: Logged, kept: Logged, fit: Fit) -> tuple[str, ...]:
    """What a reader should know before trusting the bundle."""
    found = [f"{count} left out: {why}" for why, count in logged.left_out.items()]
    if len(kept) < len(logged):
        found.append(
            f"{len(logged) - len(kept)} decisions were taken by bundles with another text model: their features mean "
            "something else, they were left out"
        )
    if fit.effective_rows < _FEW_EFFECTIVE_ROWS:
        found.append(
            f"the rows say as much as {fit.effective_rows:.0f} evenly explored ones: the prior's order rules, and an "
            "evaluation will hardly conclude; raise router.exploration.share"
        )
    return tuple(found)
