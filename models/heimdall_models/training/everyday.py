"""Prompts that no exam has: small talk, translations, everyday code, and open-ended hard work.

They were written for this project and labelled by judgement, not measured; the model card says so. They tell the
classifier what lies outside of its tables: a short prompt is not hard for being unlike an exam question, and a short
request for a proof is not easy.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import orjson
from numpy.typing import NDArray

from heimdall_models.conversation import Conversation, read_conversation

HARD_BELOW, EASY_ABOVE = 0.3, 0.8
COPIES_HARD, COPIES_BETWEEN, COPIES_EASY = 400, 4, 1
"""There are few of them beside tens of thousands of exam questions, of hard ones fewest; more copies move these little."""


@dataclass(frozen=True, slots=True)
class Everyday:
    """`n` prompts, the `label` (n,) 0..1 given to each, their `domains`, and in how many `copies` (n,) each is trained on."""

    conversations: tuple[Conversation, ...]
    label: NDArray[np.float64]
    domains: tuple[str, ...]
    copies: NDArray[np.int64]


def read_everyday() -> Everyday:
    """The prompts that come with the package."""
    lines = files(__package__).joinpath("everyday.jsonl").read_bytes().splitlines()
    rows = [orjson.loads(line) for line in lines]
    label = np.array([row["cheap_ok"] for row in rows], np.float64)
    copies = np.select([label < HARD_BELOW, label < EASY_ABOVE], [COPIES_HARD, COPIES_BETWEEN], COPIES_EASY)
    return Everyday(
        conversations=tuple(
            read_conversation({"messages": [{"role": "user", "content": row["prompt"]}]}) for row in rows
        ),
        label=label,
        domains=tuple(row["domain"] for row in rows),
        copies=copies,
    )
