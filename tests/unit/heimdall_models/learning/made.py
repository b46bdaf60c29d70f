"""Logs with a known truth: half of the requests are hard, which one feature shows; the cheap side fails at most of those."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from heimdall_models.bundle import Bundle
from heimdall_models.conversation import read_conversation
from heimdall_models.features import FEATURE_NAMES, MAX_BATCH, extract
from heimdall_models.learning.logged import NOBODY, Floats, Indices, Logged, Shadows, Terms
from heimdall_models.learning.policy import PolicyRules

CHEAP, STRONG = "a/cheap", "b/strong"
POOLS: Mapping[str, tuple[str, ...]] = {"cheap": (CHEAP,), "mid": (CHEAP,), "hard": (STRONG,)}
RULES = PolicyRules(POOLS, cheap_below=0.3, hard_above=0.5)
BEGIN_MS = 1_790_000_000_000
CODE = FEATURE_NAMES.index("latex_commands_log")
TOKENS = FEATURE_NAMES.index("token_count_log")
CHANCE = np.array([[0.9, 0.9], [0.2, 0.9]])
"""Of a good answer: easy and hard requests by the cheap and the strong side."""

COSTS = np.array([100.0, 2000.0])
FILLING = ("river", "garden", "engine", "letter", "market", "bridge", "candle", "forest", "window", "copper")


def hard_of(features: NDArray[np.float32]) -> NDArray[np.bool_]:
    return features[:, CODE] > 0.5


def features_of(rows: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Numbers that mean nothing, and one that does; the text score, by which the shipped bundle decides, is of the former."""
    made = np.zeros((rows, len(FEATURE_NAMES)), np.float32)
    made[:, :20] = rng.random((rows, 20))
    made[:, TOKENS] = 4.0 + rng.random(rows)
    made[:, CODE] = rng.random(rows)
    made[:, -1] = rng.normal(0.1, 0.6, rows)
    return made


def log(rows: int, bundle: Bundle, seed: int = 0, exploration: float = 0.2, chance: Floats = CHANCE) -> Logged:
    """Requests that `bundle` decides, an `exploration` share of them by a coin."""
    rng = np.random.default_rng(seed)
    features = features_of(rows, rng)
    return decided(features, hard_of(features), bundle, rng, exploration, chance)


def worded_log(rows: int, bundle: Bundle, seed: int = 0) -> Logged:
    """Requests with their texts, half of them evenly drawn: those about quartz are hard, those about marble are not."""
    rng = np.random.default_rng(seed)
    hard = rng.random(rows) < 0.5
    texts = [
        f"{' '.join(rng.choice(FILLING, 12))} what is known of {'quartz' if tough else 'marble'}"
        for tough in hard.tolist()
    ]
    return replace(decided(scanned(texts, bundle), hard, bundle, rng, exploration=0.5), text=tuple(texts))


def scanned(texts: Sequence[str], bundle: Bundle) -> NDArray[np.float32]:
    """What triage with this bundle logs of these questions."""
    talks = [read_conversation({"messages": [{"role": "user", "content": text}]}) for text in texts]
    starts = range(0, len(talks), MAX_BATCH)
    return np.concatenate([extract(talks[at : at + MAX_BATCH], bundle.text_model).numeric for at in starts])


def decided(
    features: NDArray[np.float32],
    hard: NDArray[np.bool_],
    bundle: Bundle,
    rng: np.random.Generator,
    exploration: float,
    chance: Floats = CHANCE,
) -> Logged:
    """Requests that `bundle` decides, an `exploration` share of them by a coin, answered well by `chance`."""
    rows = len(features)
    percentile = bundle.classifier.predict(features).percentile
    best = np.asarray(percentile > RULES.hard_above, np.int64)
    drawn = rng.random(rows) < exploration
    served = np.where(drawn, rng.integers(0, 2, rows), best)
    p_served = np.where(served == best, 1.0 - exploration / 2, exploration / 2)
    reward = (rng.random(rows) < chance[hard.astype(int), served]).astype(np.float64)
    made = rows_of(features, served, reward, bundle.hash)
    bucket = np.where(percentile < RULES.cheap_below, "cheap", np.where(percentile > RULES.hard_above, "hard", "mid"))
    quality = np.stack((1.0 - best, best), axis=1).astype(np.float64)
    terms = replace(made.candidates, score=0.7 * quality, quality=quality, cost=np.zeros((rows, 2)))
    return replace(made, p_served=p_served, explored=drawn, bucket=bucket, candidates=terms)


def rows_of(features: NDArray[np.float32], served: Indices, reward: Floats, bundle: str = "b1") -> Logged:
    """Decisions one second apart, each a question of its own, drawn evenly from both models."""
    count = len(served)
    terms = np.tile(np.array([0.0, 1.0]), (count, 1))
    return Logged(
        models=(CHEAP, STRONG),
        time_ms=BEGIN_MS + 1000 * np.arange(count),
        request_id=np.char.add("r", np.arange(count).astype(str)),
        features=features,
        bucket=np.full(count, "mid"),
        forced=np.zeros(count, np.bool_),
        explored=np.ones(count, np.bool_),
        alpha=np.full(count, 0.7),
        served=served,
        p_served=np.full(count, 0.5),
        reward=reward,
        cost_usd_micros=COSTS[served],
        clusters=np.tile(np.array([3, 1]), (count, 1)),
        cluster_weights=np.tile(np.array([0.6, 0.4]), (count, 1)),
        question=np.char.add("q", np.arange(count).astype(str)),
        bundle=np.full(count, bundle),
        candidates=Terms(0.4 * terms, terms, terms, np.tile(COSTS, (count, 1))),
        shadows=Shadows.none(count),
    )


def shadowed(logged: Logged, share: float, seed: int = 9, chance: Floats = CHANCE) -> Logged:
    """A share of the requests also answered by the other model; what was served counts as it did."""
    rng = np.random.default_rng(seed)
    other = 1 - logged.served
    reward = (rng.random(len(logged)) < chance[hard_of(logged.features).astype(int), other]).astype(np.float64)
    drawn = rng.random(len(logged)) < share
    found = Shadows(
        model=np.where(drawn, other, NOBODY),
        reward=np.where(drawn, reward, np.nan),
        beside=np.where(drawn, logged.reward, np.nan),
        cost_usd_micros=np.where(drawn, COSTS[other], np.nan),
        share=np.where(drawn, share, np.nan),
        p_drawn=np.where(drawn, 1.0, np.nan),
    )
    return replace(logged, shadows=found)
