"""Champion against challenger on logged decisions that neither was trained on, or a plain refusal to conclude."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from heimdall_models.bundle import DOMAINS, Bundle, load_bundle
from heimdall_models.classify import BUCKETS
from heimdall_models.conversation import read_conversation
from heimdall_models.learning.areas import areas, frontier_of
from heimdall_models.learning.cells import domain_shares
from heimdall_models.learning.fitted import preference
from heimdall_models.learning.lineage import Seen, seen_by
from heimdall_models.learning.logged import NOBODY, Flags, Floats, Indices, Logged
from heimdall_models.learning.manifest import trained_until
from heimdall_models.learning.offpolicy import Estimate, matches, mean_of, possible
from heimdall_models.learning.outcome import effective_size, side_scores
from heimdall_models.learning.pairs import pairs_of
from heimdall_models.learning.policy import AS_LOGGED, Choices, PolicyRules, choices_of, expected_cost
from heimdall_models.learning.predict import judged_rows, predict
from heimdall_models.learning.sides import CHEAP, STRONG, Sides, pools_of, sides_of, strangers
from heimdall_models.learning.split import after
from heimdall_models.learning.worth import (
    Ground,
    Scores,
    Worth,
    ground_of,
    leader,
    lift_difference,
    scores_of,
    worth_of,
)
from heimdall_models.training.baselines import keywords, nearest_phrase

FEWEST_ROWS = 200
FEWEST_EFFECTIVE = 20.0
"""Effective rows in which the challenger's own, different choice was shown; fewer prove nothing."""

MOST_IMPOSSIBLE = 0.02
"""Share of rows in which the challenger asks whom the log could never have asked."""

CALIBRATION_BINS = 10
_BY_TEXT = {"keywords": keywords, "nearest_phrase": nearest_phrase}
_TIMED_ROWS, _TIMED_RUNS = 64, 20


@dataclass(frozen=True, slots=True)
class Facts:
    """Of the challenger's bundle: what the gates look at besides its decisions."""

    export_largest_difference: float | None
    bytes: int
    us_per_row: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Challenger minus champion. `lift`: at equal spending (`worth.py`). `win_rate`: chance that the challenger's answer is
    the better one, a tie half: exact for rewards of 0 and 1, (1 + difference) / 2 else. `changed`: share of rows with
    another choice; `effective`: rows of these in which the log shows the challenger's."""

    reward: Estimate
    cost: Estimate
    lift: Estimate
    win_rate: float
    changed: float
    effective: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """`n` judged rows. Where `conclusive` is False, `why_not` says why, and numbers may be missing; they prove nothing.

    `policies`: champion, challenger, always_cheap, always_strong, and keywords and nearest_phrase where the texts are
    known. `domains`: rows and difference in reward by kind of task. `ece` of champion and challenger, with the noise of the
    scores taken out. `basis`: decisions, or pairs of answers to one request. `buckets`: shares by bundle. `orders`: APGR
    with intervals, frontier and CPT by bundle.
    """

    n: int
    conclusive: bool
    why_not: str | None
    facts: Facts
    basis: Literal["decisions", "pairs"] = "decisions"
    difference: Difference | None = None
    policies: Mapping[str, Worth] = field(default_factory=dict)
    domains: Mapping[str, tuple[int, Estimate]] = field(default_factory=dict)
    ece: Mapping[str, float] = field(default_factory=dict)
    calibration: Mapping[str, list[tuple[float, float, int]]] = field(default_factory=dict)
    buckets: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    orders: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain values; an interval without bounds is null."""
        found: dict[str, Any] = _plain(asdict(self))
        return found


def compare(
    champion: Path,
    challenger: Path,
    logged: Logged,
    rules: PolicyRules = AS_LOGGED,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Judge two bundles on the decisions after the last one that either learned from. Raises BundleError.

    Where these decide nothing, the pairs among them are asked: requests that two models have answered need no overlap.
    `rules`: pools and thresholds as configured. Never raises for thin data: it is then not conclusive, and says why.
    """
    bundles = {"champion": load_bundle(champion), "challenger": load_bundle(challenger)}
    facts = _facts(bundles["challenger"], clock)
    found = _compared(bundles, logged, rules, facts)
    pairs = pairs_of(logged)
    if found.conclusive or not len(pairs):
        return found
    by_pairs = _compared(bundles, pairs, rules, facts)
    return by_pairs if by_pairs.conclusive else replace(found, why_not=f"{found.why_not}. By pairs: {by_pairs.why_not}")


def _compared(bundles: Mapping[str, Bundle], logged: Logged, rules: PolicyRules, facts: Facts) -> Comparison:
    sides = sides_of(logged, pools_of(logged, rules.pools), rules.cheap, rules.strong)
    views = _views(logged, bundles)
    # Outcome models need one meaning of the features; by which of the two they predict does not bias a comparison.
    logged = views["champion"].logged
    late, early = _late(logged, bundles, views)
    judged = judged_rows(logged, late)
    early["no reward, or nobody knows with which probability"] = int(late.sum()) - len(judged)
    left_out = {why: count for why, count in {**logged.left_out, **early}.items() if count}
    too_few = strangers(logged, rules.pools) or _too_few(logged, judged, sides, early)
    predicted = None if too_few else predict(logged, judged, sides)
    if predicted is None:
        why = too_few or _ONE_SIDE
        return Comparison(len(judged), False, why, facts, left_out=left_out)
    rows = logged.rows(judged)
    ground = ground_of(rows, sides, predicted, expected_cost(logged)[judged])
    choices = {
        name: choices_of(bundle, views[name].logged.rows(judged), rules, ground.cost)
        for name, bundle in bundles.items()
    }
    scores = {name: _scored(choice, ground) for name, choice in choices.items()}
    difference = _difference(scores, ground)
    why_not = _why_not(scores, difference)
    return Comparison(
        n=len(rows),
        conclusive=why_not is None,
        why_not=why_not,
        facts=facts,
        basis="pairs" if logged.paired else "decisions",
        difference=difference,
        policies={name: worth_of(each, ground) for name, each in (scores | _baselines(scores, ground)).items()},
        domains=_domains(scores, ground, bundles["champion"]),
        buckets={name: _shares(choice.bucket) for name, choice in choices.items()},
        left_out=left_out,
        **_ranked(choices, bundles, ground),
    )


_ONE_SIDE = (
    "one of the two sides answered hardly any of these requests: nobody knows what it would have been worth; "
    "explore (router.exploration.share, with candidates that stand in several buckets) or record shadow pairs"
)


def _views(logged: Logged, bundles: Mapping[str, Bundle]) -> dict[str, Seen]:
    """The log as each of the two sees it."""
    champion, challenger = bundles["champion"], bundles["challenger"]
    return {"champion": seen_by(champion, logged, challenger), "challenger": seen_by(challenger, logged, champion)}


def _late(logged: Logged, bundles: Mapping[str, Bundle], views: Mapping[str, Seen]) -> tuple[Flags, dict[str, int]]:
    """Rows that no bundle learned from, and whose features mean the same to both; and why how many others are none."""
    same, later, unseen = (np.ones(len(logged), np.bool_) for _ in range(3))
    for name, bundle in bundles.items():
        same &= views[name].known
        until = trained_until(bundle)
        if until is not None:
            later &= logged.time_ms > until
            unseen &= after(logged, until)
    return same & later & unseen, {
        "decided with another text model than that of one of the two, and without the text that was scored": int(
            (~same).sum()
        ),
        "no later than what one of the two learned from": int((same & ~later).sum()),
        "later, but their question was asked while one of the two learned": int((same & later & ~unseen).sum()),
    }


def _too_few(logged: Logged, judged: Indices, sides: Sides, left_out: Mapping[str, int]) -> str | None:
    if len(judged) < FEWEST_ROWS:
        what = "pairs" if logged.paired else "decisions"
        others = "; ".join(f"{count} {why}" for why, count in left_out.items() if count)
        return (
            f"{len(judged)} later {what} have a reward and a known probability, {FEWEST_ROWS} are needed"
            f"{f' (left out of {len(logged)}: {others})' if others else ''}; wait for more traffic and feedback"
        )
    if not sides.cheap or not sides.strong:
        return _ONE_SIDE
    reward = logged.reward[judged]
    if reward.min() == reward.max():
        return f"all {len(judged)} rewards are {reward[0]:g}: they tell no answer from another; feedback is needed"
    return None


def _scored(choices: Choices, ground: Ground) -> Scores:
    """A row whose bucket has no model at all counts as not possible; it is scored as if the cheap side were asked."""
    nobody = choices.model == NOBODY
    asked = np.where(nobody, ground.cheap.choice, choices.model)
    scores = scores_of(asked, ground.logged, ground.predicted, ground.cost)
    return replace(scores, possible=scores.possible - float((nobody & possible(asked, ground.logged)).mean()))


def _difference(scores: Mapping[str, Scores], ground: Ground) -> Difference:
    one, other = scores["challenger"], scores["champion"]
    changed = one.choice != other.choice
    shown = matches(one.choice, ground.logged)[changed]
    size = effective_size(shown) if len(shown) else 0.0
    # Rows with the same choice have equal scores: what is left rests on the changed ones alone.
    basis = size if changed.any() else float(len(changed))
    question = ground.logged.question
    reward = mean_of(one.reward - other.reward, question, basis)
    return Difference(
        reward=reward,
        cost=mean_of(one.cost - other.cost, question, basis),
        lift=lift_difference(one, other, ground),
        win_rate=(1.0 + reward.value) / 2.0,
        changed=float(changed.mean()),
        effective=size,
    )


def _why_not(scores: Mapping[str, Scores], difference: Difference) -> str | None:
    if not difference.changed:
        return None
    for name, each in scores.items():
        if 1.0 - each.possible > MOST_IMPOSSIBLE:
            return (
                f"in {1.0 - each.possible:.0%} of the decisions the {name} asks a model that these logs could never have "
                "shown: overlap is too small. Let candidates stand in several buckets and explore, or record shadow pairs"
            )
    if difference.effective < FEWEST_EFFECTIVE:
        times = (
            f"about {FEWEST_EFFECTIVE / difference.effective:.0f} times as many"
            if difference.effective
            else "many more"
        )
        return (
            f"the two differ in {difference.changed:.1%} of the decisions, and the logs show the challenger's choice in as "
            f"many of them as say {difference.effective:.0f} rows; {FEWEST_EFFECTIVE:.0f} are needed. "
            f"Wait for {times} rated decisions, raise router.exploration.share, or record shadow pairs"
        )
    return None


def _baselines(scores: Mapping[str, Scores], ground: Ground) -> dict[str, Scores]:
    """Always one side; where every text is known, also the orders of `_BY_TEXT` with as many strong calls as the champion's."""
    found = {"always_cheap": ground.cheap, "always_strong": ground.strong}
    texts = ground.logged.text
    if not texts or any(text is None for text in texts):
        return found
    talks = [read_conversation({"messages": [{"role": "user", "content": text}]}) for text in texts]
    share = float((ground.sides.of(scores["champion"].choice) == STRONG).mean())
    cheap, strong = (leader(ground.logged, ground.sides, side) for side in (CHEAP, STRONG))
    for name, order in _BY_TEXT.items():
        hard = np.argsort(np.argsort(-order(talks), kind="stable")) < share * len(talks)
        found[name] = scores_of(np.where(hard, strong, cheap), ground.logged, ground.predicted, ground.cost)
    return found


def _domains(scores: Mapping[str, Scores], ground: Ground, bundle: Bundle) -> dict[str, tuple[int, Estimate]]:
    gain = scores["challenger"].reward - scores["champion"].reward
    changed = scores["challenger"].choice != scores["champion"].choice
    weight = matches(scores["challenger"].choice, ground.logged)
    own = domain_shares(ground.logged, bundle).argmax(axis=1)
    found = {}
    for number, name in enumerate(DOMAINS):
        rows = np.flatnonzero(own == number)
        if len(rows):
            moved = weight[rows][changed[rows]]
            basis = effective_size(moved) if len(moved) else float(len(rows))
            found[name] = len(rows), mean_of(gain[rows], ground.logged.question[rows], basis)
    return found


def _shares(bucket: Indices) -> dict[str, float]:
    return {name: float((bucket == number).mean()) for number, name in enumerate(BUCKETS)}


def _ranked(choices: Mapping[str, Choices], bundles: Mapping[str, Bundle], ground: Ground) -> dict[str, Any]:
    """Calibration and order of both bundles against scores of both sides."""
    scores = side_scores(ground.predicted.sides, ground.logged, ground.sides)
    costs = np.stack((ground.cheap.cost, ground.strong.cost), axis=1)
    question = ground.logged.question
    difficulty = {name: 1.0 - np.nan_to_num(each.p_cheap_ok, nan=0.5) for name, each in choices.items()}
    found = areas(difficulty, scores, question)
    bins = {
        name: calibration(1.0 - each, _meant(bundles[name], scores), ground.logged) for name, each in difficulty.items()
    }
    return {
        "ece": {name: ece for name, (ece, _) in bins.items()},
        "calibration": {name: listed for name, (_, listed) in bins.items()},
        "orders": {
            name: {"apgr": found[name], "apgr_ci95": found[f"{name}_ci95"], **frontier_of(each, scores, costs)}
            for name, each in difficulty.items()
        },
    }


def _meant(bundle: Bundle, scores: Floats) -> Floats:
    """What the bundle's probability is of: that the cheap side is preferred, or what its answer is worth."""
    return preference(scores) if bundle.manifest.get("target") == "gain" else scores[:, 0]


def calibration(probability: Floats, label: Floats, logged: Logged) -> tuple[float, list[tuple[float, float, int]]]:
    """Calibration error over bins of equal counts, and mean probability, mean label and count of each.

    Doubly robust labels are noisy: of each bin's squared gap its sampling variance is taken off, never below 0.
    """
    order = np.argsort(probability, kind="stable")
    listed, total = [], 0.0
    for rows in np.array_split(order, min(CALIBRATION_BINS, max(1, len(order) // 20))):
        gap = mean_of(probability[rows] - label[rows], logged.question[rows], float(len(rows)))
        spread = (gap.high - gap.low) / 4.0
        total += len(rows) * max(0.0, gap.value**2 - spread**2) ** 0.5
        listed.append((float(probability[rows].mean()), float(label[rows].mean()), len(rows)))
    return total / max(1, len(order)), listed


def _facts(bundle: Bundle, clock: Callable[[], float]) -> Facts:
    numeric = np.zeros((_TIMED_ROWS, bundle.info.feature_count), np.float32)
    taken = []
    for _ in range(_TIMED_RUNS):
        begin = clock()
        bundle.classifier.predict(numeric)
        taken.append(clock() - begin)
    difference = bundle.manifest.get("export_largest_difference")
    return Facts(
        export_largest_difference=None if difference is None else float(difference),
        bytes=sum(file.stat().st_size for file in bundle.path.iterdir() if file.is_file()),
        us_per_row=float(np.median(taken)) / _TIMED_ROWS * 1e6,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
