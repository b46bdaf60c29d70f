"""Scores that need no training, to be beaten: each maps conversations to a difficulty (n,), higher = harder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from heimdall_models.conversation import Conversation
from heimdall_models.embed import embed_texts

Floats = NDArray[np.float64]

_RULES: tuple[tuple[str, float], ...] = (
    (r"\b(prove|proof|derive|theorem|rigorous|formally)\b", 3.0),
    (r"\b(step by step|think through|reason(ing)?|analy[sz]e|evaluate|compare|critique|trade-?offs?)\b", 2.0),
    (r"\b(design|architect(ure)?|implement|refactor|optimi[sz]e|debug|algorithm|distributed|concurren(t|cy))\b", 2.0),
    (r"```|\bdef |\bclass |\bfunction\b|\bimport |[{};]\s*\n", 1.5),
    (r"\\[a-z]+|\$[^$]+\$|\b(integral|derivative|matrix|probability|equation)\b", 1.5),
    (r"\b(and then|first|second|finally|in addition|also)\b", 0.5),
    (r"\?[^?]*\?", 0.5),
    (r"\b(hi|hello|hey|thanks|thank you|please|bye)\b", -1.0),
    (r"\b(translate|summari[sz]e|rephrase|define|what is|who is|when did|list)\b", -1.5),
)
"""The kind of keyword rules that gateways ship as a complexity router; weights by hand."""

_LENGTH_STEPS = ((1000, 2.0), (200, 1.0), (50, 0.5))
_WORDS_PER_STEP = 1.3

_HARD_PHRASES = (
    "prove the following theorem rigorously",
    "solve this competition mathematics problem",
    "design a distributed system and analyze its failure modes",
    "implement an efficient algorithm and prove its complexity",
    "derive the equation step by step from first principles",
    "find the subtle bug in this concurrent program",
    "analyze the legal and ethical arguments in depth",
)
_EASY_PHRASES = (
    "hello, how are you?",
    "what is the capital of this country?",
    "translate this sentence",
    "summarize this short text",
    "write a short birthday message",
    "fix the spelling in this sentence",
    "what does this word mean?",
)


def length(conversations: Sequence[Conversation]) -> Floats:
    """Characters of what is asked."""
    return np.array([c.ask_chars for c in conversations], np.float64)


def keywords(conversations: Sequence[Conversation]) -> Floats:
    """Keyword rules and length steps."""
    compiled = [(re.compile(pattern, re.IGNORECASE), weight) for pattern, weight in _RULES]
    return np.array([_rule_score(c.text, compiled) for c in conversations], np.float64)


def nearest_phrase(conversations: Sequence[Conversation]) -> Floats:
    """Similarity to the nearest hard reference phrase minus that to the nearest easy one."""
    hard, easy = embed_texts(_HARD_PHRASES), embed_texts(_EASY_PHRASES)
    vectors = np.concatenate(
        [embed_texts([c.text for c in conversations[at : at + 256]]) for at in range(0, len(conversations), 256)]
    )
    return np.asarray((vectors @ hard.T).max(axis=1) - (vectors @ easy.T).max(axis=1), np.float64)


def constant(conversations: Sequence[Conversation]) -> Floats:
    """No preference: the order is random (in expectation)."""
    return np.zeros(len(conversations))


BASELINES: Mapping[str, Callable[[Sequence[Conversation]], Floats]] = {
    "random": constant,
    "length": length,
    "always_cheap": constant,
    "always_strong": constant,
    "keywords": keywords,
    "nearest_phrase": nearest_phrase,
}
"""always_cheap and always_strong order nothing, so their APGR is that of random; their own numbers are cost and quality."""


def _rule_score(text: str, rules: Sequence[tuple[re.Pattern[str], float]]) -> float:
    score = sum(weight for pattern, weight in rules if pattern.search(text))
    words = text.count(" ") * _WORDS_PER_STEP
    return score + next((points for least, points in _LENGTH_STEPS if words >= least), 0.0)
