"""One turn of the loop on a replayed data set: what drifted, a challenger learned from it, and whether it may serve.

It reads the data set and the champion, writes the challenger's directory, and decides; promoting is its caller's.
"""

from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from heimdall_fleet.config import Config
from heimdall_fleet.settings import catalogue_of
from heimdall_models.learning.compare import Comparison, compare
from heimdall_models.learning.drift import Drift, drift
from heimdall_models.learning.evaluation import evaluation_of
from heimdall_models.learning.gates import Gate, judge
from heimdall_models.learning.logged import DatasetError, Logged, read_logged
from heimdall_models.learning.policy import PolicyRules
from heimdall_models.learning.report import comparison_html
from heimdall_models.learning.train import Options, TooLittle, Trained, TrainingError, train_logged
from heimdall_schemas import control as message

OUTDATED_BY = ("reward:", "cost:")
"""Alarms after which the older rows tell of models that are no longer what they were."""

SHOWN_FEATURES = 10

NO_DRIFT = Drift((0, 0), {}, 0.0, (), {}, {})


@dataclass(frozen=True, slots=True)
class Plan:
    """`out` gets the challenger. `recent`: the end of the log that is held against what was before it, by length or begin.
    `fit_text`: whether the text model may be fitted to logged texts."""

    dataset: Path
    champion: Path
    out: Path
    created: datetime
    recent: timedelta | datetime
    rules: PolicyRules
    fit_text: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of it. `promotable` only where a challenger was trained and every gate passed."""

    rows: int
    learned_from_recent: bool
    drift: Drift
    trained: Trained | None
    comparison: Comparison | None
    gates: tuple[Gate, ...]
    why_not: str | None

    @property
    def promotable(self) -> bool:
        return self.why_not is None and bool(self.gates)

    def page(self) -> str | None:
        """The comparison as an HTML page; None where there was none."""
        return None if self.comparison is None else comparison_html(evaluation_of(self.comparison))

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "learned_from": "recent" if self.learned_from_recent else "all",
            "drift": drift_json(self.drift),
            "trained": self.trained and trained_json(self.trained),
            "comparison": self.comparison and self.comparison.as_json(),
            "gates": [asdict(gate) for gate in self.gates],
            "why_not": self.why_not,
        }


def turn(plan: Plan) -> Turn:
    """Raises BundleError for the champion. Whatever the rows lack is said in `why_not`.

    After an alarm about rewards or costs only the recent rows teach and judge: the older ones tell of other models.
    """
    try:
        logged = read_logged(plan.dataset)
    except DatasetError as why:
        return Turn(0, False, NO_DRIFT, None, None, (), str(why))
    earlier, recent = parted(logged, plan.recent)
    seen = drift(earlier, recent)
    outdated = any(name.startswith(OUTDATED_BY) for name in seen.alarms)
    rows = recent if outdated else logged
    try:
        options = Options(plan.created, pools=plan.rules.pools, fit_text=plan.fit_text)
        trained = train_logged(rows, plan.champion, plan.out, options)
    except (TooLittle, TrainingError) as why:
        return Turn(len(logged), outdated, seen, None, None, (), str(why))
    comparison, gates = judged(plan.champion, plan.out, rows, plan.rules)
    return Turn(len(logged), outdated, seen, trained, comparison, gates, failing(gates))


def judged(champion: Path, challenger: Path, logged: Logged, rules: PolicyRules) -> tuple[Comparison, tuple[Gate, ...]]:
    """The challenger held against the champion, and every gate. Raises BundleError."""
    comparison = compare(champion, challenger, logged, rules)
    return comparison, tuple(judge(comparison))


def failing(gates: tuple[Gate, ...]) -> str | None:
    """Why the challenger may not serve; None when it may."""
    reasons: dict[str, list[str]] = {}
    for gate in gates:
        if not gate.passed:
            reasons.setdefault(gate.why, []).append(gate.name)
    return "; ".join(f"{', '.join(names)}: {why}" for why, names in reasons.items()) or None


def parted(logged: Logged, recent: timedelta | datetime) -> tuple[Logged, Logged]:
    """The log before its last stretch, and that stretch. A length is counted from the last decision, not from a clock."""
    if isinstance(recent, datetime):
        edge_ms = round(recent.timestamp() * 1000)
    else:
        edge_ms = int(logged.time_ms.max(initial=0)) - recent // timedelta(milliseconds=1)
    late = np.asarray(logged.time_ms > edge_ms)
    return logged.rows(~late), logged.rows(late)


def rules_for(config: Config, today: date) -> PolicyRules:
    """What decides beside the bundle, as configured now; logs name models by their ids, the configuration as it likes."""
    router, catalogue = config.router, catalogue_of(config, today)
    named = {"cheap": router.cheap_candidates, "mid": router.mid_candidates, "hard": router.hard_candidates}
    pools = {bucket: tuple(catalogue.resolve(name) or name for name in names) for bucket, names in named.items()}
    return PolicyRules(pools, router.thresholds.cheap, router.thresholds.hard)


def drift_json(found: Drift) -> dict[str, Any]:
    """The figures and the alarms; of the features those that moved most."""
    moved = sorted(found.features.items(), key=lambda each: -each[1])[:SHOWN_FEATURES]
    return {
        "rows": {"before": found.rows[0], "recent": found.rows[1]},
        "psi_features": {name: round(value, 4) for name, value in moved},
        "psi_buckets": round(found.buckets, 4),
        "reward_drops": [asdict(drop) for drop in found.drops],
        "cost_ratios": {model: round(ratio, 4) for model, ratio in found.costs.items()},
        "alarms": dict(found.alarms),
    }


def drift_message(found: Drift, time: datetime) -> message.Drift | None:
    """What triage shows of it on `/metrics`; None where too few rows say anything."""
    if not found.features:
        return None
    drops: dict[str, float] = {}
    for drop in found.drops:
        drops[drop.model] = max(drops.get(drop.model, 0.0), round(drop.before - drop.now, 4))
    return message.Drift(
        time=time.isoformat(timespec="seconds"),
        psi={"features": round(max(found.features.values()), 4), "buckets": round(found.buckets, 4)},
        reward_drops=drops,
        alarms=tuple(found.alarms),
    )


def trained_json(trained: Trained) -> dict[str, Any]:
    return {
        "bundle": str(trained.bundle),
        "rows": trained.rows,
        "metrics": dict(trained.metrics),
        "warnings": list(trained.warnings),
    }
