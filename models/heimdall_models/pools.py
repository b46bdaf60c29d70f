"""The models that may be chosen, as arrays: one pool for each bucket, and one for each set of models a caller names.

A pool's models stand in slots, ordered by name. Pools are stacked into (pools, slots) arrays padded to the widest, so
that a batch whose rows look at different pools is still judged in one operation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from heimdall_models.catalogue import MILLION, Catalogue, ModelFacts, Price
from heimdall_models.forms import Form, Steps, write_form
from heimdall_models.quality import QualityTable
from heimdall_models.rules import Rules, allows, settings_for
from heimdall_schemas.order import Step
from heimdall_schemas.topics import Bucket

BUCKETS: tuple[Bucket, ...] = tuple(Bucket)
FAR = float("inf")

_MAX_NAMED_POOLS = 64

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pool:
    """The models of one pool, in slot order; `steps` and `bare_steps` are by bucket, with and without its settings.

    `forms`: the texts of its records, by bucket.
    """

    names: tuple[str, ...]
    providers: tuple[str, ...]
    members: tuple[int, ...]
    steps: tuple[tuple[Step, ...], ...]
    bare_steps: tuple[tuple[Step, ...], ...]
    penalties: tuple[dict[str, float], ...]
    penalties_over_80: tuple[dict[str, float], ...]
    smallest_window: float
    left_out: Mapping[str, str]
    forms: dict[int, Form] = field(default_factory=dict, compare=False)

    def form(self, bucket: int) -> Form:
        """The texts of rows of this pool and bucket, written when they are first asked for."""
        form = self.forms.get(bucket)
        if form is None:
            heads = tuple(zip(self.names, self.providers, strict=True))
            form = self.forms[bucket] = write_form(heads, BUCKETS[bucket].value, self.penalties, self.penalties_over_80)
        return form


@dataclass(frozen=True, slots=True)
class Stack:
    """All pools: (pools, slots) arrays, `quality` (slots, pools, clusters + 1) min-max normalised in pool and cluster.

    `smallest`: tokens that fit every model; `slowest_ms`: enough time for any. Rates are micro-dollars a token; the
    output rate holds the model's own length of answers. `long_*` hold above `long_above` prompt tokens.
    `lacks_*`: a source says that the model cannot.
    """

    valid: Flags
    quality: Floats
    rate_in: Floats
    rate_out: Floats
    long_in: Floats
    long_out: Floats
    long_above: Floats
    first_long: float
    window: Floats
    max_input: Floats
    lacks_tools: Flags
    lacks_images: Flags
    lacks_structured: Flags
    lacks_schema: Flags
    gemini: Flags
    latency_penalty: Floats
    shortest_ms: Floats
    slowest_ms: float
    smallest: float

    def quality_at(self, pool: Indices, clusters: Indices) -> Floats:
        """(slots, top_p, r) for pools (r,) and clusters (top_p, r)."""
        slots, _, width = self.quality.shape
        return np.asarray(self.quality.reshape(slots, -1).take(pool * width + clusters, axis=1))


@dataclass(frozen=True, slots=True)
class _Models:
    """The same facts along the axis of all served models, one spare row at the end for empty pools."""

    facts: tuple[ModelFacts, ...]
    row_of: Mapping[str, int]
    numbers: Mapping[str, Floats]
    flags: Mapping[str, Flags]
    quality: Floats

    def shortest_ms(self) -> dict[str, float]:
        """The quickest answer of each model, by its id."""
        return dict(zip(self.row_of, self.numbers["shortest_ms"].tolist(), strict=False))


class PoolBook:
    """The pools of one judge. Pools that callers name are added as they come; what a pool holds never changes."""

    def __init__(self, catalogue: Catalogue, rules: Rules, quality: QualityTable, mixture: Floats) -> None:
        """`mixture`: (clusters, domains of the quality table)."""
        self.catalogue = catalogue
        self.rules = rules
        self.output_tokens: Floats = quality.output_by_cluster(mixture)
        self._models = _models(catalogue, rules, quality, mixture)
        self.pools: list[Pool] = [self._pool(rules.candidates.get(bucket, ())) for bucket in BUCKETS]
        self.above = tuple(_above(self.pools[at], self.pools[at + 1], at + 1) for at in range(len(BUCKETS) - 1))
        self.shortest_ms: Mapping[str, float] = self._models.shortest_ms()
        self._named: dict[tuple[str, ...], int] = {}
        self.stack = self._stacked()

    @property
    def left_out(self) -> Mapping[str, str]:
        """Configured candidates that cannot be chosen → why; to be said once."""
        return {name: why for pool in self.pools[: len(BUCKETS)] for name, why in pool.left_out.items()}

    def facts(self, pool: int, slot: int) -> ModelFacts:
        return self._models.facts[self.pools[pool].members[slot]]

    def add(self, wanted: Sequence[tuple[str, ...] | None], pinned: Sequence[bool]) -> list[int | None]:
        """For each row the index of the pool of the models it names, or None when it names none; adds what is new."""
        found: list[int | None] = [None] * len(wanted)
        if not any(wanted):
            return found
        if len(self._named) > _MAX_NAMED_POOLS:
            del self.pools[len(BUCKETS) :]
            self._named.clear()
        before = len(self.pools)
        for row, names in enumerate(wanted):
            if names is not None:
                found[row] = self._index(names, pinned[row])
        if len(self.pools) > before:
            self.stack = self._stacked()
        return found

    def _index(self, names: tuple[str, ...], pinned: bool) -> int:
        key = ("pinned", *names) if pinned else names
        if key not in self._named:
            self._named[key] = len(self.pools)
            self.pools.append(self._pool(names, pinned=pinned))
        return self._named[key]

    def _pool(self, names: Sequence[str], *, pinned: bool = False) -> Pool:
        left_out = {name: why for name in names if (why := self._why_left_out(name, pinned)) is not None}
        ids = {self.catalogue.resolve(name) or name for name in names if name not in left_out}
        members = tuple(self._models.row_of[model_id] for model_id in sorted(ids))
        facts = [self._models.facts[member] for member in members]
        latency = [float(self._models.numbers["latency_penalty"][member]) for member in members]
        over = self.rules.penalties.ctx_over_80pct
        return Pool(
            names=tuple(fact.id for fact in facts),
            providers=tuple(self.rules.served[fact.id] for fact in facts),
            members=members,
            steps=tuple(tuple(self._step(fact, bucket) for fact in facts) for bucket in BUCKETS),
            bare_steps=tuple(tuple(Step(fact.id, bucket.value) for fact in facts) for bucket in BUCKETS),
            penalties=tuple({"latency_sd": value} for value in latency),
            penalties_over_80=tuple({"latency_sd": value, "ctx_over_80pct": over} for value in latency),
            smallest_window=min((fact.context_window or FAR for fact in facts), default=FAR),
            left_out=left_out,
        )

    def _step(self, facts: ModelFacts, bucket: Bucket) -> Step:
        defaults = self.rules.bucket_defaults.get(bucket, {})
        return Step(facts.id, bucket.value, settings_for(facts.family, facts.abilities.reasoning, defaults))

    def _why_left_out(self, name: str, pinned: bool) -> str | None:
        """Why a named model cannot be chosen whatever the request; None when it can."""
        model_id = self.catalogue.resolve(name)
        if model_id is None:
            return "not in the catalogue; add it under models: with context_window and price"
        if model_id not in self.rules.served:
            return f"no configured provider serves {model_id}"
        facts = self.catalogue.models[model_id]
        if allows(tuple(f"{author}/" for author in self.rules.exclude_authors), model_id):
            return f"router.openrouter.exclude_authors names {facts.author}"
        if not pinned and facts.price is None:
            return "its price is unknown; set models.<id>.price"
        if not pinned and facts.context_window is None:
            return "its context window is unknown; set models.<id>.context_window"
        return self._over_max_price(facts)

    def _over_max_price(self, facts: ModelFacts) -> str | None:
        limit = self.rules.max_price_usd
        if limit is None or facts.price is None or self.rules.served[facts.id] not in self.rules.by_openrouter:
            return None
        dearest = facts.price.dearest_usd_micros / MILLION
        if dearest <= limit:
            return None
        return f"{dearest:g} USD per million tokens is over router.openrouter.provider.max_price {limit:g}"

    def _stacked(self) -> Stack:
        width = max(1, *(len(pool.members) for pool in self.pools))
        spare = len(self._models.facts)
        members = np.array([_padded(pool.members, width, spare) for pool in self.pools])
        sizes = np.array([len(pool.members) for pool in self.pools])
        long_above = self._models.numbers["long_above"][members]
        columns: dict[str, Floats | Flags] = {
            name: values[members] for name, values in (*self._models.numbers.items(), *self._models.flags.items())
        }
        return Stack(
            valid=np.arange(width) < sizes[:, None],
            quality=_normalised(self._models.quality[:, members].transpose(2, 1, 0)),
            first_long=float(long_above.min()),
            slowest_ms=float(self._models.numbers["shortest_ms"][members].max()),
            smallest=float(min(self._models.numbers[name][members].min() for name in ("window", "max_input"))),
            **columns,  # type: ignore[arg-type]  # the keys are the fields of Stack, floats and flags apart
        )


def _above(below: Pool, pool: Pool, bucket: int) -> tuple[Steps, Steps]:
    """The steps of `pool`, with and without settings, for a chain that begins in `below`: None where it has one."""

    def fresh(steps: tuple[Step, ...]) -> Steps:
        return tuple(None if step.model in below.names else step for step in steps)

    return fresh(pool.steps[bucket]), fresh(pool.bare_steps[bucket])


def _padded(members: tuple[int, ...], width: int, spare: int) -> list[int]:
    """Slots beyond the pool repeat its first model: a minimum or maximum over the slots stays the pool's own."""
    filler = members[0] if members else spare
    return [*members, *[filler] * (width - len(members))]


def _normalised(values: Floats) -> Floats:
    """Min-max over the slots (the first axis) to 0..1; where all are equal, all are the best."""
    high = values.max(axis=0)
    span = high - values.min(axis=0)
    return np.ascontiguousarray(1.0 - (high - values) / np.where(span > 0, span, 1.0))


def _models(catalogue: Catalogue, rules: Rules, quality: QualityTable, mixture: Floats) -> _Models:
    facts = tuple(catalogue.models[model_id] for model_id in sorted(rules.served) if model_id in catalogue.models)
    weight = rules.penalties.latency_sd
    prices = [_rates(fact.price, fact.output_ratio) for fact in facts]
    numbers = {
        "rate_in": [price[0] for price in prices],
        "rate_out": [price[1] for price in prices],
        "long_in": [price[2] for price in prices],
        "long_out": [price[3] for price in prices],
        "long_above": [price[4] for price in prices],
        "window": [float(fact.context_window or FAR) for fact in facts],
        "max_input": [float(fact.max_input or fact.context_window or FAR) for fact in facts],
        "latency_penalty": [
            round(weight * min(1.0, fact.latency.sd_ms / max(fact.latency.mean_ms, 1.0)), 6) for fact in facts
        ],
        "shortest_ms": [max(0.0, fact.latency.mean_ms - fact.latency.sd_ms) for fact in facts],
    }
    flags = {
        "lacks_tools": [fact.abilities.tools is False for fact in facts],
        "lacks_images": [fact.abilities.images is False for fact in facts],
        "lacks_structured": [fact.abilities.structured_output is False for fact in facts],
        "lacks_schema": [fact.id in rules.schemaless for fact in facts],
        "gemini": [fact.family == "gemini" for fact in facts],
    }
    table = quality.by_cluster(mixture, [fact.id for fact in facts])
    return _Models(
        facts=facts,
        row_of={fact.id: row for row, fact in enumerate(facts)},
        numbers={name: np.array([*column, 0.0]) for name, column in numbers.items()},
        flags={name: np.array([*column, False]) for name, column in flags.items()},
        quality=np.concatenate((table, np.zeros((len(table), 1))), axis=1),
    )


def _rates(price: Price | None, output_ratio: float) -> tuple[float, float, float, float, float]:
    if price is None:
        return 0.0, 0.0, 0.0, 0.0, FAR
    long = price.long or price.standard
    above = FAR if price.long_above_tokens is None else float(price.long_above_tokens)
    return (
        price.standard.input / MILLION,
        price.standard.output * output_ratio / MILLION,
        long.input / MILLION,
        long.output * output_ratio / MILLION,
        above,
    )
