"""The parts of a decision's JSON that are the same for every request of a pool, written once.

A record holds some forty numbers for each request. Dictionaries of them cost three times what the decision itself does,
so a batch's numbers become JSON in one call, and the texts around them are templates with a `%b` for each number.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from heimdall_schemas.order import Step, steps_json

Steps = tuple[Step | None, ...]
Penalties = Sequence[dict[str, float]]

_MOST_CHAINS = 4_096


class Chain(NamedTuple):
    """The models to ask in turn: as steps of the order's Plan, and both as JSON."""

    steps: tuple[Step, ...]
    json: bytes
    models: bytes


@dataclass(frozen=True, slots=True)
class Form:
    """How rows are written whose pool is this one and whose bucket is this one.

    `heads`: model, provider and bucket of each slot. `scores`: takes a number for each slot. `candidates`: takes score,
    quality, cost and expected cost of each slot in turn, `candidate_over_80` is for one whose window is over 80 % full.
    """

    size: int
    heads: tuple[bytes, ...]
    score_of: tuple[bytes, ...]
    candidate: tuple[bytes, ...]
    candidate_over_80: tuple[bytes, ...]
    scores: bytes
    candidates: bytes
    chains: dict[Hashable, Chain] = field(default_factory=dict)

    def keep(self, key: Hashable, steps: tuple[Step, ...]) -> Chain:
        """The chain of these steps, from now on found in `chains`: most requests have one that was had before."""
        if len(self.chains) >= _MOST_CHAINS:
            self.chains.clear()
        made = Chain(steps, steps_json(steps), orjson.dumps([step.model for step in steps]))
        self.chains[key] = made
        return made


def write_form(heads: Sequence[tuple[str, str]], bucket: str, penalties: Penalties, over_80: Penalties) -> Form:
    """The form of a pool whose models and providers these are, with the penalties of each."""
    names = [name for name, _ in heads]
    candidate = tuple(_candidate(name, bucket, each) for name, each in zip(names, penalties, strict=True))
    score_of = tuple(_template(name) + b":%b" for name in names)
    return Form(
        size=len(names),
        heads=tuple(
            b'"selected_model":%b,"selected_provider":%b,"bucket":%b' % tuple(map(orjson.dumps, (*head, bucket)))
            for head in heads
        ),
        score_of=score_of,
        candidate=candidate,
        candidate_over_80=tuple(_candidate(name, bucket, each) for name, each in zip(names, over_80, strict=True)),
        scores=b",".join(score_of),
        candidates=b",".join(candidate),
    )


_CANDIDATE = b'{"model":%b,"bucket":%b,"score":%%b,"quality":%%b,"cost":%%b,"penalties":%b,"cost_usd_micros":%%b}'


def _candidate(name: str, bucket: str, penalties: dict[str, float]) -> bytes:
    return _CANDIDATE % tuple(map(_template, (name, bucket, penalties)))


def _template(value: Any) -> bytes:
    """JSON that stands in a template: a model's name may hold a percent sign."""
    return orjson.dumps(value).replace(b"%", b"%%")


def numbers(values: NDArray[Any]) -> list[bytes]:
    """Each number as JSON, in the order of memory; NaN is null. Single precision prints as short as it is."""
    return orjson.dumps(np.ascontiguousarray(values).reshape(-1), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")


def columns(*values: NDArray[np.float64]) -> list[list[bytes]]:
    """The numbers of arrays of one length as JSON, a list for each."""
    table = numbers(np.array(values))
    return [table[start : start + len(values[0])] for start in range(0, len(table), len(values[0]))]


def rows(values: NDArray[Any]) -> list[bytes]:
    """The numbers of each row of a matrix as JSON, without brackets."""
    return orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)[2:-2].split(b"],[")


def flags(values: Sequence[bool]) -> list[bytes]:
    """`true` or `false` for each."""
    return [b"true" if value else b"false" for value in values]
