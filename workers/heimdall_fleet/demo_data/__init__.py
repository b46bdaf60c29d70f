"""The prompts of `heimdall demo`: from small talk to proofs and long contexts, each with the bucket it was written for.

One JSON object a line in `prompts.jsonl`: `id`, `expected` (cheap, mid or hard) and `body`, a Chat Completions body.
Long contexts stand there as a rule instead of as text: a message whose content is `{"expand": [part, …]}` is the parts
in a row, where a part is a text, or

    {"repeat": TEMPLATE, "times": COUNT, "choices": {NAME: [TEXT, …], …}}

which is the template COUNT times, with `{n}` counting from 1 and each `{NAME}` drawn from its texts. The draws come
from a generator seeded with the template, so they are the same everywhere.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from heimdall_schemas.topics import Bucket


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request of the demo. `expected` is what its writer thinks, not what any classifier says."""

    id: str
    expected: Bucket
    body: dict[str, Any]


def prompts() -> list[Prompt]:
    """Every prompt, expanded, in the order of the file: easy first, long contexts last."""
    text = resources.files(__package__).joinpath("prompts.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    return [Prompt(row["id"], Bucket(row["expected"]), expanded(row["body"])) for row in rows]


def expanded(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body with every rule replaced by the text it stands for."""
    return {**body, "messages": [{**message, "content": _content(message["content"])} for message in body["messages"]]}


def _content(content: Any) -> Any:
    if isinstance(content, dict):
        return "".join(part if isinstance(part, str) else _repeated(part) for part in content["expand"])
    return content


def _repeated(rule: Mapping[str, Any]) -> str:
    template, choices = rule["repeat"], rule["choices"]
    draw = random.Random(template).random  # of this generator alone Python promises the same numbers in every version
    return "".join(
        template.format(n=n, **{name: texts[int(draw() * len(texts))] for name, texts in choices.items()})
        for n in range(1, rule["times"] + 1)
    )
