"""The manifest of a bundle learned from logs: what it was made of, what it is worth on the last rows, what it continues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from heimdall_models.bundle import QUALITY, Bundle
from heimdall_models.learning.areas import areas
from heimdall_models.learning.fitted import Fit, preference, raw
from heimdall_models.learning.lineage import continued
from heimdall_models.learning.logged import Logged
from heimdall_models.learning.outcome import corrected, effective_rows, side_scores
from heimdall_models.learning.prior import PRIOR_TEXT, PRIOR_TREES
from heimdall_models.learning.text_refit import Refit
from heimdall_models.training.fit import made_with
from heimdall_models.training.metrics import calibration_error

UNTIL = "until_ms"
"""In `training_data`: the time of the last decision that was fitted to or calibrated on; later ones may judge the bundle."""

_FEW_EFFECTIVE_ROWS = 100


@dataclass(frozen=True, slots=True)
class Learned:
    """A fit, the bundle that it continues, the log as that one sees it, and the text model where it is another one's."""

    fit: Fit
    base: Bundle
    before: Logged
    text: Refit | None = None


def trained_until(bundle: Bundle) -> int | None:
    """Milliseconds since 1970 up to which the bundle's own logs reach; None for one that was not learned from logs."""
    found = bundle.manifest.get("training_data", {}).get(UNTIL)
    return None if found is None else int(found)


def manifest_of(learned: Learned, files: Mapping[str, bytes], created: datetime, seed: int) -> dict[str, Any]:
    """Everything but the hashes of the files."""
    fit, base = learned.fit, learned.base
    metrics = metrics_of(learned)
    known = {"accuracy": metrics["held_out"]["apgr"]} if metrics["held_out"].get("apgr") is not None else {}
    return {
        **made_with(),
        "created": created.astimezone(UTC).isoformat(),
        "parent": base.hash,
        **continued(base, same_text=learned.text is None),
        PRIOR_TREES: fit.prior.trees,
        "tree_count": fit.trees,
        "target": "gain",
        "settings": {"seed": seed, "transfer": False},
        "platt": {"slope": fit.platt.slope, "intercept": fit.platt.intercept},
        **{name: base.manifest[name] for name in ("embedding",) if name in base.manifest},
        **_text_models(learned.text, base),
        "export_largest_difference": fit.export_difference,
        "calibration_error": metrics["calibration_error"],
        "quality_measured": QUALITY in files,
        "bytes": sum(map(len, files.values())),
        "training_data": _training_data(fit),
        "metrics": metrics,
        **known,
    }


def _text_models(text: Refit | None, base: Bundle) -> dict[str, Any]:
    """The text model, and the one that learning began with where that is another one."""
    kept = base.manifest["text_model"]
    if text is None:
        return {name: base.manifest[name] for name in ("text_model", PRIOR_TEXT) if name in base.manifest}
    fitted = {"scales": text.model.scales, "bias": text.model.bias, "slopes": kept["slopes"]}
    counted = {"from": "logs", "texts": text.texts, "rows_with_text": len(text.rows)}
    return {"text_model": {**fitted, **counted}, PRIOR_TEXT: base.manifest.get(PRIOR_TEXT, kept)}


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


def metrics_of(learned: Learned) -> dict[str, Any]:
    """On rows later than all that were fitted to or calibrated on: APGR of the new order, the parent's and the prior's."""
    fit, base = learned.fit, learned.base
    later = fit.logged.rows(fit.split.calibrate)
    p_later = fit.platt(raw(fit.model).log_odds(later.features))
    labels = preference(corrected(fit.outcomes.predict(later.features), later, fit.sides))
    rows = fit.split.held_out[np.isfinite(fit.logged.p_served[fit.split.held_out])]
    known = fit.logged.rows(rows)
    held_out: dict[str, Any] = {"n": len(known), "effective": round(effective_rows(known), 1), "apgr": None}
    if len(known):
        scores = side_scores(fit.outcomes.predict(known.features), known, fit.sides)
        began = learned.before if learned.text is None else learned.text.began
        orders = {
            "apgr": 1.0 - raw(fit.model).log_odds(known.features),
            "apgr_parent": -base.classifier.log_odds(learned.before.features[rows]),
            "apgr_prior": -raw(fit.prior.model).log_odds(began.features[rows]),
        }
        held_out |= areas(orders, scores, known.question)
    return {"held_out": held_out, "calibration_error": calibration_error(p_later, np.clip(labels, 0.0, 1.0))}


def warnings_of(learned: Learned, unknown: int, rows: int, why_not: str | None) -> tuple[str, ...]:
    """What a reader should know before trusting the bundle. `unknown`: decisions whose features mean something else; `rows`:
    usable ones; `why_not`: why the text model was not fitted to their texts, where that was wished."""
    found = [f"{count} left out: {why}" for why, count in learned.fit.logged.left_out.items()]
    if unknown:
        found.append(
            f"{unknown} decisions were taken by bundles with another text model: their features mean "
            "something else, they were left out"
        )
    if why_not is not None:
        found.append(why_not)
    if learned.text is not None and (bare := rows - len(learned.text.rows)):
        found.append(
            f"{bare} usable rows left out: no text of theirs is kept, or not what was scored (a short question is scored with "
            "the one before it), so nobody knows their score by the new text model"
        )
    if learned.fit.effective_rows < _FEW_EFFECTIVE_ROWS:
        found.append(
            f"the rows say as much as {learned.fit.effective_rows:.0f} evenly explored ones: the prior's order rules, and an "
            "evaluation will hardly conclude; raise router.exploration.share"
        )
    return tuple(found)
