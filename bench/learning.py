"""What learning from logs is worth, where the truth is known.

    python bench/learning.py --tables TABLES -o json

TABLES is a folder of outcome tables. The traffic is `routellm_mmlu.parquet`; `zeroeval_*.parquet` and `routellm_gsm8k.parquet`
make the bundle that serves at first, which therefore never saw a question of the traffic. Without --tables both are made up.
The settings of learning were chosen on RouteLLM's two tables; traffic that had no part in it is

    --traffic mmlu_pro.parquet --pair Meta-Llama-3_1-8B-Instruct Meta-Llama-3_1-70B-Instruct

`apgr_*`: order of questions that no log had, by the bundle that served (`serving`), by one learned from a log with 5 %
exploration (`learned`) and from both sides' answers to every question (`full`), and by the naive label "the cheap model
failed", read off its own answers (`naive`). `of_full` is learned over full. `*_text`: the same logs, the
text model fitted to them too.
`cover_*`: share of simulated logs whose 95 % interval holds the truth. `seen_*`: alarms of drift after a planted change:
the cheap model loses the subject that it is asked most, and the prices of both sides are swapped. `regret_*`: reward lost in
the changed world against the bundle of full information, at equal shares of strong calls, before and after learning once.
"""

import tempfile
import time
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from harness import parser, show
from simulated import POOLS, RULES, World, both_sides, costs_of, greedy, log_of, made_up, seen_with, world_of

from heimdall_models.bundle import Bundle, load_bundle
from heimdall_models.learning.compare import compare
from heimdall_models.learning.drift import drift
from heimdall_models.learning.logged import Floats, Indices, Logged
from heimdall_models.learning.outcome import effective_rows, own_weight
from heimdall_models.learning.train import Options, train_logged
from heimdall_models.shipped import shipped
from heimdall_models.training.build import Plan, build
from heimdall_models.training.fit import fit_reward, mean_reward
from heimdall_models.training.metrics import apgr
from heimdall_models.training.questions import question_ids
from heimdall_models.training.tables import read_table

CREATED = datetime(2026, 11, 21, tzinfo=UTC)
TRAFFIC = "routellm_mmlu.parquet"
SERVING = ("zeroeval_gsm.parquet", "zeroeval_crux.parquet", "zeroeval_math_l5.parquet", "routellm_gsm8k.parquet")
LOGGED_SHARE = 0.75
OPTIONS = Options(CREATED, pools=POOLS)
SWAPPED_RATES = (20.0, 1.0)


@dataclass(frozen=True, slots=True)
class Size:
    """`logs`: simulated for coverage, of `log_rows` each; `seeds`: repetitions of learning; `timed_rows`: of one training."""

    logs: int
    log_rows: int
    seeds: int
    timed_rows: int
    made_rows: int


THOROUGH = Size(logs=200, log_rows=3_000, seeds=3, timed_rows=100_000, made_rows=8_000)
QUICK = Size(logs=3, log_rows=800, seeds=1, timed_rows=2_000, made_rows=2_000)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the benchmark takes place: all prompts of the world, their subjects, and the bundle that serves at first."""

    world: World
    subject: Indices
    serving: Bundle
    folder: Path


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--tables", type=Path, help="folder of outcome tables")
    options.add_argument("--traffic", default=TRAFFIC, help="which of them is the traffic")
    options.add_argument("--pair", nargs=2, metavar=("CHEAP", "STRONG"), help="its models; else its first two")
    arguments = options.parse_args()
    size = QUICK if arguments.quick else THOROUGH
    with tempfile.TemporaryDirectory() as folder:
        place = _made_place(Path(folder), size) if arguments.tables is None else _place(Path(folder), arguments)
        figures = {**learned(place, size), **covered(place, size), **changed(place), **timed(place, size)}
    show(
        {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()},
        arguments.output,
    )


def learned(place: Place, size: Size) -> dict[str, Any]:
    """Means over seeds: each cuts the questions into logged and fresh ones anew."""
    rounds = [_learned(place, seed) for seed in range(size.seeds)]
    means = {name: float(np.mean([found[name] for found in rounds])) for name in rounds[0]}
    return {**means, "of_full": means["apgr_learned"] / means["apgr_full"]}


def _learned(place: Place, seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    seen, fresh = _cut(place.world, rng)
    log = log_of(seen, place.serving, rng)
    made = train_logged(log, place.serving.path, place.folder / f"learned-{seed}", OPTIONS)
    both = both_sides(seen, place.serving)
    full = train_logged(both, place.serving.path, place.folder / f"full-{seed}", OPTIONS)
    return {
        "apgr_serving": _apgr(place.serving, fresh),
        "apgr_naive": apgr(_naive(log, place.serving, fresh), fresh.scores[:, 0], fresh.scores[:, 1]),
        "apgr_learned": _apgr(load_bundle(made.bundle), fresh),
        "apgr_full": _apgr(load_bundle(full.bundle), fresh),
        "apgr_learned_text": _refitted(log, place, f"text-{seed}", fresh),
        "apgr_full_text": _refitted(both, place, f"full-text-{seed}", fresh),
    }


def _refitted(log: Logged, place: Place, name: str, fresh: World) -> float:
    made = train_logged(log, place.serving.path, place.folder / name, replace(OPTIONS, fit_text=True))
    bundle = load_bundle(made.bundle)
    return _apgr(bundle, seen_with(fresh, bundle))


def covered(place: Place, size: Size) -> dict[str, Any]:
    """Each log draws its prompts anew from the world, whose mean is the truth."""
    rng = np.random.default_rng(100)
    champion = place.serving
    challenger = load_bundle(place.folder / "learned-0")
    truth = {name: _value(place.world, bundle) for name, bundle in _pair(champion, challenger)}
    hits: dict[str, list[bool]] = {}
    for _ in range(size.logs):
        drawn = place.world.rows(rng.integers(0, len(place.world), size.log_rows))
        world = replace(drawn, question=np.arange(size.log_rows).astype(str))
        log = replace(log_of(world, champion, rng), text=(), time_ms=_after(challenger) + np.arange(size.log_rows))
        found = compare(champion.path, challenger.path, log, RULES)
        if found.difference is None:
            continue
        for name, value in truth.items():
            for way, estimate in (("dr", found.policies[name].reward), ("snips", found.policies[name].snips)):
                hits.setdefault(f"cover_{way}_{name}", []).append(estimate.low <= value <= estimate.high)
        gap, gain = truth["challenger"] - truth["champion"], found.difference.reward
        hits.setdefault("cover_dr_difference", []).append(gain.low <= gap <= gain.high)
    return {name: float(np.mean(values)) for name, values in hits.items()} | {"logs": size.logs}


def changed(place: Place) -> dict[str, Any]:
    """The planted change, what drift sees, and what learning once from the log after it is worth."""
    rng = np.random.default_rng(200)
    subject = int(np.bincount(place.subject[greedy(place.serving, place.world) == 0]).argmax())
    lost = place.subject == subject
    scores = place.world.scores.copy()
    scores[lost, 0] = 0.0
    now = replace(place.world, scores=scores)
    before, after = _cut(place.world, rng)[0], _cut(now, rng)
    quiet = drift(log_of(before, place.serving, rng), log_of(before, place.serving, rng))
    log = log_of(after[0], place.serving, rng)
    seen = drift(log_of(before, place.serving, rng), log)
    dear = replace(before, costs=costs_of(before.features, SWAPPED_RATES))
    swapped = drift(log_of(before, place.serving, rng), log_of(dear, place.serving, rng))
    made = train_logged(log, place.serving.path, place.folder / "mended", OPTIONS)
    full = train_logged(both_sides(after[0], place.serving), place.serving.path, place.folder / "mended-full", OPTIONS)
    best, old, new = (_at_half(load_bundle(each), after[1]) for each in (full.bundle, place.serving.path, made.bundle))
    return {
        "lost_share": float(lost.mean()),
        "alarms_without_change": len(quiet.alarms),
        "seen_lost_subject": sum(name.startswith("reward:") for name in seen.alarms) > 0,
        "seen_swapped_prices": sum(name.startswith("cost:") for name in swapped.alarms)
        == len(POOLS["cheap"] + POOLS["hard"]),
        "regret_before": best - old,
        "regret_after": best - new,
    }


def timed(place: Place, size: Size) -> dict[str, Any]:
    """Seconds of the clock and of one processor to learn from that many rows, the world's under names of their own."""
    rng = np.random.default_rng(300)
    world = place.world.rows(rng.integers(0, len(place.world), size.timed_rows))
    log = log_of(replace(world, question=np.arange(size.timed_rows).astype(str)), place.serving, rng)
    wall, cpu = time.perf_counter(), time.process_time()
    train_logged(log, place.serving.path, place.folder / "timed", OPTIONS)
    taken = {"train_s": time.perf_counter() - wall, "train_cpu_s": time.process_time() - cpu}
    return {"train_rows": size.timed_rows, **taken}


def _place(folder: Path, arguments: Namespace) -> Place:
    tables, traffic = arguments.tables, arguments.traffic
    quality = shipped("bundles/default") / "quality.json"
    plan = Plan(CREATED, traffic="unseen", quick=True, quality=quality)
    build([tables / name for name in SERVING if name != traffic], folder / "serving", plan)
    serving = load_bundle(folder / "serving")
    table = read_table(tables / traffic)
    scores = table.scores[:, [table.models.index(name) for name in arguments.pair or table.models[:2]]]
    question = question_ids([each.text for each in table.conversations])
    _, subject = np.unique(np.array(table.domains), return_inverse=True)
    return Place(world_of(table.conversations, question, scores, serving), subject, serving, folder)


def _made_place(folder: Path, size: Size) -> Place:
    serving = load_bundle(shipped("bundles/default"))
    world, subject = made_up(size.made_rows, serving, np.random.default_rng(7))
    return Place(world, subject, serving, folder)


def _cut(world: World, rng: np.random.Generator) -> tuple[World, World]:
    """Questions in a new order, cut in two."""
    _, number = np.unique(world.question, return_inverse=True)
    order = np.argsort(rng.permutation(int(number.max()) + 1)[number], kind="stable")
    edge = int(len(order) * LOGGED_SHARE)
    seen, fresh = order[:edge], order[edge:]
    return world.rows(seen), world.rows(fresh[~np.isin(number[fresh], number[seen])])


def _apgr(bundle: Bundle, world: World) -> float:
    difficulty = bundle.classifier.predict(world.features).difficulty
    return apgr(difficulty, world.scores[:, 0], world.scores[:, 1])


def _naive(log: Logged, serving: Bundle, fresh: World) -> Floats:
    """Difficulty (n,): the same prior and trees, fitted to the cheap side's own answers alone."""
    own = np.flatnonzero(log.served == 0)
    trees = fit_reward(log.features[own], log.reward[own], np.ones(len(own)))
    weight = own_weight(effective_rows(log))
    return -(serving.classifier.log_odds(fresh.features) + weight * mean_reward(trees, fresh.features))


def _pair(champion: Bundle, challenger: Bundle) -> tuple[tuple[str, Bundle], ...]:
    return (("champion", champion), ("challenger", challenger))


def _value(world: World, bundle: Bundle) -> float:
    return float(world.scores[np.arange(len(world)), greedy(bundle, world)].mean())


def _at_half(bundle: Bundle, world: World) -> float:
    """Mean reward when the harder half goes to the strong side."""
    difficulty = bundle.classifier.predict(world.features).difficulty
    hard = np.argsort(np.argsort(-difficulty, kind="stable")) < len(world) // 2
    return float(np.where(hard, world.scores[:, 1], world.scores[:, 0]).mean())


def _after(bundle: Bundle) -> int:
    data: Mapping[str, Any] = bundle.manifest["training_data"]
    return int(data["until_ms"]) + 1


if __name__ == "__main__":
    main()
