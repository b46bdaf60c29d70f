"""Simulated logs: real prompts, real or made-up outcomes of both sides, and a bundle that decides, with exploration.

Every request is decided by the bundle's percentile (`SHARES` to cheap), one in twenty by a coin, as triage records it. Both
sides' outcomes are known here, so every estimate can be held against the truth; the log shows one of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall_models.bundle import Bundle
from heimdall_models.conversation import Conversation, read_conversation
from heimdall_models.embed import embed_texts, nearest_clusters
from heimdall_models.features import FEATURE_NAMES, MAX_BATCH, extract
from heimdall_models.learning.lineage import scored_anew, with_scores
from heimdall_models.learning.logged import Floats, Indices, Logged, Shadows, Terms
from heimdall_models.learning.policy import PolicyRules

CHEAP, STRONG = "sim/cheap", "sim/strong"
MODELS = (CHEAP, STRONG)
POOLS: Mapping[str, tuple[str, ...]] = {"cheap": (CHEAP,), "mid": (CHEAP,), "hard": (STRONG,)}
HARD_ABOVE = 0.5
RULES = PolicyRules(POOLS, cheap_below=0.3, hard_above=HARD_ABOVE)
EXPLORATION = 0.05
ALPHA = 0.7
BEGIN_MS = 1_790_000_000_000
STEP_MS = 1_000
USD_MICROS_PER_TOKEN = (1.0, 20.0)
ANSWER_TOKENS = 120.0
_TOKENS = FEATURE_NAMES.index("token_count_log")


@dataclass(frozen=True, slots=True)
class World:
    """`n` prompts with what both sides would answer them. `scores` (n, 2) 0..1; `costs` (n, 2) micro-dollars. `text` (n,): what
    is scanned of each."""

    text: NDArray[np.object_]
    features: NDArray[np.float32]
    clusters: Indices
    weights: Floats
    question: NDArray[np.str_]
    scores: Floats
    costs: Floats

    def __len__(self) -> int:
        return len(self.scores)

    def rows(self, keep: Indices) -> "World":
        names = ("text", "features", "clusters", "weights", "question", "scores", "costs")
        return World(**{name: getattr(self, name)[keep] for name in names})


def world_of(conversations: tuple[Conversation, ...], question: NDArray[Any], scores: Floats, bundle: Bundle) -> World:
    """Prompts as triage with `bundle` would read them."""
    starts = range(0, len(conversations), MAX_BATCH)
    chunks = [conversations[at : at + MAX_BATCH] for at in starts]
    features = np.concatenate([extract(chunk, bundle.text_model).numeric for chunk in chunks])
    near = [nearest_clusters(embed_texts([c.text for c in chunk]), bundle.clusters.centres, 5) for chunk in chunks]
    return World(
        text=np.array([each.text for each in conversations], object),
        features=features,
        clusters=np.concatenate([each.ids for each in near]),
        weights=np.concatenate([each.weights for each in near]).astype(np.float64),
        question=question.astype(str),
        scores=scores,
        costs=costs_of(features),
    )


def seen_with(world: World, bundle: Bundle) -> World:
    """The world as triage with another bundle of the same clusters would read it."""
    rows = np.arange(len(world))
    told = _logged(world, bundle, np.zeros(len(world), np.int64), np.ones(len(world)), np.zeros(len(world), np.bool_))
    return replace(world, features=with_scores(told, rows, scored_anew(told, rows, bundle.text_model)).features)


def costs_of(features: NDArray[np.float32], rates: tuple[float, float] = USD_MICROS_PER_TOKEN) -> Floats:
    """(n, 2) micro-dollars at these rates for prompt and answer tokens alike."""
    tokens = np.expm1(features[:, _TOKENS].astype(np.float64)) + ANSWER_TOKENS
    return np.asarray(tokens[:, None] * np.array(rates))


def greedy(bundle: Bundle, world: World) -> Indices:
    """(n,) 0 or 1: the side that the bundle sends each prompt to."""
    percentile = bundle.classifier.predict(world.features).percentile
    return np.asarray(percentile > HARD_ABOVE, np.int64)


def log_of(world: World, bundle: Bundle, rng: np.random.Generator, exploration: float = EXPLORATION) -> Logged:
    """What the audit would hold of these prompts, in this order."""
    count = len(world)
    best = greedy(bundle, world)
    drawn = rng.random(count) < exploration
    served = np.where(drawn, rng.integers(0, 2, count), best)
    p_served = np.where(served == best, 1.0 - exploration / 2, exploration / 2)
    return _logged(world, bundle, served, p_served, drawn)


def both_sides(world: World, bundle: Bundle) -> Logged:
    """Full information: every prompt answered by both sides."""
    twice = world.rows(np.repeat(np.arange(len(world)), 2))
    served = np.tile(np.array([0, 1]), len(world))
    return _logged(twice, bundle, served, np.full(len(served), 0.5), np.ones(len(served), np.bool_))


def _logged(world: World, bundle: Bundle, served: Indices, p_served: Floats, explored: NDArray[np.bool_]) -> Logged:
    rows = np.arange(len(world))
    percentile = bundle.classifier.predict(world.features).percentile
    bucket = np.where(percentile < RULES.cheap_below, "cheap", np.where(percentile > HARD_ABOVE, "hard", "mid"))
    quality = np.tile(np.array([0.0, 1.0]), (len(world), 1))
    return Logged(
        models=MODELS,
        time_ms=BEGIN_MS + STEP_MS * rows,
        request_id=np.char.add("r", rows.astype(str)),
        features=world.features,
        bucket=bucket,
        forced=np.zeros(len(world), np.bool_),
        explored=explored,
        alpha=np.full(len(world), ALPHA),
        served=served,
        p_served=p_served,
        reward=world.scores[rows, served],
        cost_usd_micros=world.costs[rows, served],
        clusters=world.clusters,
        cluster_weights=world.weights,
        question=world.question,
        bundle=np.full(len(world), bundle.hash),
        candidates=Terms(ALPHA * quality - (1 - ALPHA) * quality, quality, quality, world.costs),
        shadows=Shadows.none(len(world)),
        text=tuple(world.text),
    )


SUBJECTS = ("river", "garden", "engine", "letter", "market", "bridge", "candle", "forest")


def made_up(rows: int, bundle: Bundle, rng: np.random.Generator) -> tuple[World, Indices]:
    """Prompts about eight subjects, and the number of each one's; half are hard, which their wording shows. The strong side
    answers nine of ten; the cheap one as many of the easy and three of ten of the hard."""
    subject = rng.integers(0, len(SUBJECTS), rows)
    hard = rng.random(rows) < 0.5
    texts = [
        f"Question {at}: " + (f"prove the theorem of the {name} and derive its integral" if tough else f"what is a {name}")
        + "?" + f" {name}" * int(rng.integers(1, 12))
        for at, (name, tough) in enumerate(zip(np.array(SUBJECTS)[subject], hard, strict=True))
    ]  # fmt: skip
    talks = tuple(read_conversation({"messages": [{"role": "user", "content": text}]}) for text in texts)
    chance = np.stack((np.where(hard, 0.3, 0.9), np.full(rows, 0.9)), axis=1)
    scores = (rng.random((rows, 2)) < chance).astype(np.float64)
    return world_of(talks, np.arange(rows), scores, bundle), subject
