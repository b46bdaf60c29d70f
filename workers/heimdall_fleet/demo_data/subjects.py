"""Made-up traffic of four subjects, and who answers which of them well: the world of `heimdall demo-learning`.

The scripted providers answer anything; what an answer was worth comes as feedback from this table, so that every
decision can be held against the truth.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Subject = Literal["chat", "facts", "sums", "proofs"]
Phase = Literal["at_first", "changed", "learning", "after"]

SMALL, LARGE, RELIC = "openai/gpt-4o-mini", "openai/gpt-5", "amazon/nova-premier-v1"
"""Cheapest first. The relic is dear and no better than the small one: it keeps exploration honest."""

SHARES: Mapping[Subject, float] = {"chat": 0.25, "facts": 0.25, "sums": 0.27, "proofs": 0.23}

ANSWER_TOKENS = 60
"""Asked for, so that the cost that a decision expects is about the cost that is paid."""

NOISE = 0.04
"""Share of feedback that says the opposite of the truth."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of the made-up traffic."""

    subject: Subject
    text: str

    def body(self, phase: Phase) -> dict[str, Any]:
        """What the request says of itself stands in its tags, and so in the audit."""
        tags = {"subject": self.subject, "phase": phase}
        messages = [{"role": "user", "content": self.text}]
        return {"messages": messages, "max_tokens": ANSWER_TOKENS, "heimdall": {"tags": tags}}


def answers_well(model: str, subject: Subject, phase: Phase) -> bool:
    """The truth. The planted change: after the first phase the small model loses sums."""
    if model == LARGE or subject in ("chat", "facts"):
        return True
    return subject == "sums" and (model == RELIC or phase == "at_first")


def right_model(subject: Subject, phase: Phase) -> str:
    """The cheapest one that answers well."""
    return SMALL if answers_well(SMALL, subject, phase) else LARGE


def asks(count: int, seed: int) -> list[Ask]:
    """The same for the same seed; hardly any text comes twice."""
    draw = random.Random(seed)
    subjects = draw.choices(list(SHARES), list(SHARES.values()), k=count)
    return [Ask(subject, _text(subject, draw)) for subject in subjects]


def score(model: str, subject: Subject, phase: Phase, draw: random.Random) -> float:
    """The feedback of one caller: the truth, or now and then the opposite."""
    return float(answers_well(model, subject, phase) != (draw.random() < NOISE))


def _text(subject: Subject, draw: random.Random) -> str:
    numbers = {name: draw.randrange(low, high) for name, (low, high) in _NUMBERS.items()}
    words = {name: draw.choice(choices) for name, choices in _WORDS.items()}
    return draw.choice(_TEMPLATES[subject]).format(**numbers, **words)


_NUMBERS = {"a": (3, 97), "b": (11, 990), "c": (2, 49), "d": (2, 19), "n": (2, 9)}

_WORDS: Mapping[str, tuple[str, ...]] = {
    "name": ("Ada", "Bo", "Chen", "Dina", "Emil", "Farah", "Goran", "Hana", "Ines", "Jonas", "Kofi", "Lena"),
    "mood": ("cheerful", "short", "polite", "warm", "casual", "friendly", "kind", "relaxed"),
    "event": (
        "a birthday party",
        "the team lunch",
        "a housewarming",
        "the film night",
        "a walk in the park",
        "the choir",
    ),
    "topic": (
        "owls",
        "tea",
        "lighthouses",
        "bicycles",
        "glaciers",
        "honey",
        "maps",
        "trams",
        "cheese",
        "tulips",
        "bridges",
    ),
    "who": ("a child", "a tourist", "a new colleague", "my grandmother", "a school class", "a curious neighbour"),
    "thing": ("apples", "pencils", "tickets", "candles", "bricks", "notebooks", "lamps", "bolts"),
    "set": (
        "the positive integers",
        "a finite group",
        "a compact metric space",
        "a commutative ring",
        "a finite graph",
    ),
    "claim": (
        "every subsequence converges",
        "the kernel is normal",
        "the chromatic number is bounded",
        "the sum diverges",
    ),
}

_TEMPLATES: Mapping[Subject, tuple[str, ...]] = {
    "chat": (
        "hey, can you write a {mood} note to {name} to say i am coming to {event} with {who} and some {topic}?",
        "please help me say no to {event} in a {mood} way, {name} asked me and {who} about {topic}",
        "what could i bring along to {event}? {name} likes {topic}, {who} is {mood}",
    ),
    "facts": (
        "Tell {who} and {name} {n} {mood} things about {topic} for {event}.",
        "What are {topic} known for? Explain it to {who} called {name} before {event}, in a {mood} way.",
        "Give me a {mood} description of {topic} for {who}, {name} will read it at {event}.",
    ),
    "sums": (
        "A shop sells {a} {thing} at {b} cents each. {name} buys {c} of them with {d} % off. How many cents is that in all?",
        "{name} has {a} {thing} and buys {b} more, then gives away {c}. What is ({a} + {b} - {c}) * {d}?",
        "Compute {a} * {b} + {c} * {d}, then divide the result by {n}. How much is left over?",
    ),
    "proofs": (
        "Let X be {set}. Prove rigorously that {claim} whenever the {n}-th condition of the definition holds, derive each "
        "step, state every lemma that you use, and construct a counterexample when the hypothesis is dropped for n > {a}.",
        "Derive a necessary and sufficient condition on {set} under which {claim}. Analyse the asymptotic complexity of "
        "checking it, prove that the bound O(n^{n} log n) is tight, and discuss why an induction on {a} fails.",
    ),
}
