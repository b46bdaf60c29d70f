"""Guardrails: named plain functions that take candidates out of a batch, and what happens to a row they leave empty.

A guardrail returns None when nothing in the batch concerns it, else a (rows, slots) mask of what it takes out. Order
matters only for the record: the first that takes a model out is named as the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from heimdall_models.asked import Asked
from heimdall_models.ceiling import UNKNOWN_PRICE, USUAL_OUTPUT_TOKENS, needed_usd_micros
from heimdall_models.pools import BUCKETS, FAR, Flags, Indices, PoolBook
from heimdall_models.rules import allows, meant
from heimdall_models.score import View, expected_cost
from heimdall_schemas.failure import Failure, FailureCode

LONG_CONTEXT_TOKENS = 200_000
CONTEXT_200K = "context_200k"
CONTEXT_OVERFLOW = "context_overflow"
DEADLINE = "deadline"
JSON_SCHEMA = "json_schema"
MAX_COST = "max_cost"

_HARD = len(BUCKETS) - 1


@dataclass(frozen=True, slots=True)
class Guardrail:
    """`takes_out` judges the batch; `why` says of one row and slot which numbers decided."""

    name: str
    takes_out: Callable[[View], Flags | None]
    why: Callable[[View, int, int], str]


def context_overflow(view: View) -> Flags | None:
    """The prompt, or the prompt and the output asked for, is over the model's window. A pinned model may try."""
    stack, tokens = view.book.stack, view.asked.tokens[view.rows, None]
    whole = tokens + view.asked.reading.max_output[view.rows, None]
    if whole.max(initial=0.0) <= stack.smallest:
        return None
    mask = (tokens > stack.max_input[view.pool]) | (whole > stack.window[view.pool])
    return _not_pinned(view, mask) if mask.any() else None


def images(view: View) -> Flags | None:
    return _lacking(view, view.asked.reading.images, view.book.stack.lacks_images)


def tools(view: View) -> Flags | None:
    return _lacking(view, view.asked.reading.tools, view.book.stack.lacks_tools)


def structured_output(view: View) -> Flags | None:
    return _lacking(view, view.asked.reading.structured, view.book.stack.lacks_structured)


def json_schema(view: View) -> Flags | None:
    """The provider that is asked first for the model takes no JSON schema: it would only be told of it in words."""
    return _lacking(view, view.asked.reading.schema, view.book.stack.lacks_schema)


def tenant_allow_list(view: View) -> Flags | None:
    """Models that the request's tenant may not use; holds for pinned models too."""
    tenants = view.book.rules.tenants
    if view.asked.plain or not tenants:
        return None
    patterns = {row: tenants[one.tenant] for row, one in _asking(view) if one.tenant in tenants}
    return _by_name(view, {row: _outside(view, row, allowed) for row, allowed in patterns.items()})


def excluded_by_caller(view: View) -> Flags | None:
    """Models and authors that the request's own `heimdall.exclude` names."""
    if view.asked.plain:
        return None
    excluded = {row: meant(one.exclude, view.book.catalogue.resolve) for row, one in _asking(view) if one.exclude}
    names = {row: _inside(view, row, patterns) for row, patterns in excluded.items()}
    return _by_name(view, names)


def deadline(view: View) -> Flags | None:
    """Even a quick answer (mean − sd of the model's latency) comes after the deadline."""
    left = view.asked.time_left_ms[view.rows, None]
    if left.min(initial=FAR) >= view.book.stack.slowest_ms:
        return None
    return _not_pinned(view, view.book.stack.shortest_ms[view.pool] > left)


def max_cost(view: View) -> Flags | None:
    """What the call must be able to cost, or is expected to, is over the request's `max_cost_usd`.

    Dispatch would refuse the first. Of the second it would leave only a part of the usual answer.
    """
    limit = view.asked.max_cost[view.rows, None]
    if view.asked.plain or limit.min(initial=FAR) == FAR:
        return None
    unsaid = view.asked.reading.max_output[view.rows, None] == 0
    mask: Flags = unsaid & (expected_cost(view) > limit)
    for row, slot in zip(*(view.valid & (limit < FAR) & ~mask).nonzero(), strict=True):
        mask[row, slot] = _needed_usd_micros(view, row, slot) > limit[row, 0]
    return mask


def _needed_usd_micros(view: View, row: int, slot: int) -> int:
    asked = view.rows[row]
    tokens, limit = int(view.asked.tokens[asked]), int(view.asked.reading.max_output[asked])
    price = view.book.facts(int(view.pool[row]), slot).price or UNKNOWN_PRICE
    return needed_usd_micros(tokens, limit or USUAL_OUTPUT_TOKENS, price.at(tokens))


def _why_context(view: View, row: int, slot: int) -> str:
    facts = view.book.facts(int(view.pool[row]), slot)
    asked = view.rows[row]
    output = int(view.asked.reading.max_output[asked])
    room = f"a window of {facts.context_window:,}" + (
        f", at most {facts.max_input:,} of prompt" if facts.max_input else ""
    )
    return f"{int(view.asked.tokens[asked]):,} tokens and {output:,} of output do not fit {room}"


def _why_lacking(ability: str) -> Callable[[View, int, int], str]:
    return lambda _view, _row, _slot: f"the request has {ability}, the model takes none"


def _why_schema(_view: View, _row: int, _slot: int) -> str:
    return "the request has a JSON schema, the model's provider takes none"


def _why_tenant(view: View, row: int, _slot: int) -> str:
    return f"tenant {view.asked.asking[view.rows[row]].tenant} may not use it"


def _why_excluded(_view: View, _row: int, _slot: int) -> str:
    return "heimdall.exclude names it"


def _why_deadline(view: View, row: int, slot: int) -> str:
    facts = view.book.facts(int(view.pool[row]), slot)
    shortest = facts.latency.mean_ms - facts.latency.sd_ms
    return f"needs {shortest:,.0f} ms or more, {view.asked.time_left_ms[view.rows[row]]:,.0f} ms are left"


def _why_cost(view: View, row: int, slot: int) -> str:
    one = View(view.asked, view.book, view.rows[row : row + 1], view.pool[row : row + 1])
    cost, allowed = int(expected_cost(one)[0, slot]), int(view.asked.max_cost[view.rows[row]])
    needed = _needed_usd_micros(view, row, slot)
    words = f"needs {needed:,}" if needed > allowed else f"expected {cost:,}"
    return f"{words} micro-dollars, heimdall.max_cost_usd allows {allowed:,}"


GUARDRAILS: tuple[Guardrail, ...] = (
    Guardrail(CONTEXT_OVERFLOW, context_overflow, _why_context),
    Guardrail("images", images, _why_lacking("images")),
    Guardrail("tools", tools, _why_lacking("tools")),
    Guardrail("structured_output", structured_output, _why_lacking("a response format")),
    Guardrail(JSON_SCHEMA, json_schema, _why_schema),
    Guardrail("tenant_allow_list", tenant_allow_list, _why_tenant),
    Guardrail("exclude", excluded_by_caller, _why_excluded),
    Guardrail(MAX_COST, max_cost, _why_cost),
    Guardrail(DEADLINE, deadline, _why_deadline),
)


def _lacking(view: View, wanted: Flags, lacks: Flags) -> Flags | None:
    rows = wanted[view.rows]
    return _not_pinned(view, rows[:, None] & lacks[view.pool]) if rows.any() else None


def _not_pinned(view: View, mask: Flags) -> Flags:
    """A caller who pins a model knows it better than the catalogue: ability and size are the provider's to judge."""
    if view.asked.free[view.rows].all():
        return mask
    pinned = np.array([one.pinned is not None for _, one in _asking(view)], np.bool_)
    return mask & ~pinned[:, None]


def _asking(view: View) -> list[tuple[int, Any]]:
    return [(row, view.asked.asking[asked]) for row, asked in enumerate(view.rows.tolist())]


def _inside(view: View, row: int, patterns: tuple[str, ...]) -> list[int]:
    names = view.book.pools[int(view.pool[row])].names
    return [slot for slot, name in enumerate(names) if allows(patterns, name)]


def _outside(view: View, row: int, patterns: tuple[str, ...]) -> list[int]:
    inside = _inside(view, row, meant(patterns, view.book.catalogue.resolve))
    return [slot for slot in range(len(view.book.pools[int(view.pool[row])].names)) if slot not in inside]


def _by_name(view: View, slots: dict[int, list[int]]) -> Flags | None:
    if not slots:
        return None
    mask = np.zeros(view.valid.shape, np.bool_)
    for row, out in slots.items():
        mask[row, out] = True
    return mask


@dataclass(slots=True)
class Guarded:
    """Where each row ended: its bucket and pool, which slots may be chosen, and what the guardrails did.

    `preferred`: slots that go before all others whatever their score, None when no row prefers any. `fired` and
    `fallen`: by row, the guardrails that acted and the candidates they took out. `waived`: by row, those that then gave way.
    `refused`: rows without a candidate.
    `timed`: rows on which the deadline acted, be it on the bucket above.
    """

    bucket: Indices
    pool: Indices
    eligible: Flags
    preferred: Flags | None
    fired: dict[int, list[str]] = field(default_factory=dict)
    fallen: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    waived: dict[int, list[str]] = field(default_factory=dict)
    refused: dict[int, Failure] = field(default_factory=dict)
    timed: set[int] = field(default_factory=set)

    def note_deadline(self, view: View, taken: list[tuple[Guardrail, Flags]]) -> None:
        """Remember the rows that would be judged otherwise with more time left."""
        for guardrail, mask in taken:
            if guardrail.name == DEADLINE:
                self.timed.update(view.rows[mask.any(axis=1)].tolist())


def guard(asked: Asked, bucket: Indices, book: PoolBook) -> Guarded:
    """Apply the guardrails to a batch whose rows fell into `bucket` (n,) (0 cheap, 1 mid, 2 hard)."""
    long = (asked.tokens > LONG_CONTEXT_TOKENS) & asked.free
    moved = np.where(long, _HARD, bucket)
    pool = moved if asked.plain else _named_pools(asked, moved, book)
    view = View(asked, book, np.arange(len(asked)), pool)
    eligible, taken = passing(view)
    result = Guarded(moved.copy(), pool.copy(), eligible, None)
    result.note_deadline(view, taken)
    for name, mask in taken:
        note_fallen(result, view, name, mask)
    if not eligible.any(axis=1).all():
        for row in np.flatnonzero(~eligible.any(axis=1)).tolist():
            _relocate(result, asked, book, row)
    if not asked.plain:
        _note_left_out(result, book)
    if long.any():
        result.preferred = _prefer_gemini(result, book, long)
    return result


def _named_pools(asked: Asked, bucket: Indices, book: PoolBook) -> Indices:
    """Each row's pool: that of the models it names, else its bucket's."""
    named = book.add([one.named for one in asked.asking], [one.pinned is not None for one in asked.asking])
    return np.array([at if own is None else own for at, own in zip(bucket.tolist(), named, strict=True)], np.int64)


def passing(view: View) -> tuple[Flags, list[tuple[Guardrail, Flags]]]:
    """Which slots pass every guardrail, and what each guardrail took out that none before it had."""
    eligible = view.valid
    taken: list[tuple[Guardrail, Flags]] = []
    for guardrail in GUARDRAILS:
        mask = guardrail.takes_out(view)
        if mask is not None:
            mask = mask & eligible
            if mask.any():
                taken.append((guardrail, mask))
                eligible = eligible & ~mask
    return eligible, taken


def note_fallen(result: Guarded, view: View, guardrail: Guardrail, mask: Flags) -> None:
    """Write down what a guardrail took out, with the numbers."""
    for at in np.flatnonzero(mask.any(axis=1)).tolist():
        row = int(view.rows[at])
        fired = result.fired.setdefault(row, [])
        if guardrail.name not in fired:
            fired.append(guardrail.name)
        names = view.book.pools[int(view.pool[at])].names
        bucket = BUCKETS[view.pool[at] if view.pool[at] <= _HARD else result.bucket[row]].value
        result.fallen.setdefault(row, []).extend(
            _fallen(names[slot], bucket, f"{guardrail.name}: {guardrail.why(view, at, slot)}")
            for slot in np.flatnonzero(mask[at]).tolist()
        )


def _note_left_out(result: Guarded, book: PoolBook) -> None:
    """What a caller names and nobody can ask stands in the record; the fleet's own lists are told of once, in the log."""
    for row, at in enumerate(result.pool.tolist()):
        if at > _HARD and (left_out := book.pools[at].left_out):
            bucket = BUCKETS[result.bucket[row]].value
            result.fallen.setdefault(row, []).extend(_fallen(name, bucket, why) for name, why in left_out.items())


def _fallen(model: str, bucket: str, why: str) -> dict[str, Any]:
    """A candidate of the record that fell out."""
    return {"model": model, "bucket": bucket, "score": None, "fell_out": why}


def _relocate(result: Guarded, asked: Asked, book: PoolBook, row: int) -> None:
    """A row whose pool is empty goes to another bucket: hard if nothing fits, else one up, and down only at last.

    When nothing but a rule of `_WAIVED` stands in the way anywhere, the row stays: a late answer, or one that was only
    told of its schema, is the caller's to judge.
    """
    at = int(result.pool[row])
    if at <= _HARD:
        for other in _elsewhere(at, result.fired.get(row, [])):
            view = View(asked, book, np.array([row]), np.array([other]))
            eligible, taken = passing(view)
            result.note_deadline(view, taken)
            if eligible.any():
                result.bucket[row] = result.pool[row] = other
                result.eligible[row] = eligible[0]
            for guardrail, mask in taken:
                note_fallen(result, view, guardrail, mask)
            if eligible.any():
                return
    if any(_waive(rules, result, asked, book, row) for rules in _WAIVED):
        return
    result.refused[row] = _refusal(result, book, row)


def _elsewhere(bucket: int, fired: list[str]) -> list[int]:
    up, down = list(range(bucket + 1, _HARD + 1)), list(range(bucket - 1, -1, -1))
    return (up[::-1] if CONTEXT_OVERFLOW in fired else up) + down


_WAIVED = (frozenset({JSON_SCHEMA}), frozenset({DEADLINE}), frozenset({JSON_SCHEMA, DEADLINE}))


def _waive(rules: frozenset[str], result: Guarded, asked: Asked, book: PoolBook, row: int) -> bool:
    if not rules.issubset(result.fired.get(row, [])):
        return False
    view = View(asked, book, np.array([row]), result.pool[row : row + 1])
    eligible = view.valid
    for guardrail in GUARDRAILS:
        if guardrail.name not in rules and (mask := guardrail.takes_out(view)) is not None:
            eligible = eligible & ~mask
    if not eligible.any():
        return False
    result.eligible[row] = eligible[0]
    result.waived[row] = sorted(rules)
    kept = {book.pools[int(view.pool[0])].names[slot] for slot in np.flatnonzero(eligible[0]).tolist()}
    result.fallen[row] = [one for one in result.fallen[row] if one["model"] not in kept]
    return True


_CODES = {CONTEXT_OVERFLOW: FailureCode.CALLER_CONTEXT_TOO_LONG, MAX_COST: FailureCode.POLICY_BUDGET}
"""What a request is told that fell out of every model by one rule."""


def _refusal(result: Guarded, book: PoolBook, row: int) -> Failure:
    fallen = result.fallen.get(row, [])
    at = int(result.pool[row])
    pools = book.pools[: len(BUCKETS)] if at <= _HARD else [book.pools[at]]
    reasons = {one["model"]: one["fell_out"] for one in fallen}
    reasons |= {name: why for pool in pools for name, why in pool.left_out.items() if name not in reasons}
    code = next(
        (code for rule, code in _CODES.items() if fallen and all(one["fell_out"].startswith(rule) for one in fallen)),
        FailureCode.POLICY_NO_CANDIDATE,
    )
    listed = "; ".join(f"{name}: {why}" for name, why in reasons.items()) or "no candidate is configured"
    return Failure(code, f"no model may answer this request: {listed}", context={"fell_out": reasons})


def _prefer_gemini(result: Guarded, book: PoolBook, long: Flags) -> Flags:
    """Above 200k tokens a Gemini goes first in the hard bucket, if one passed; the row is marked either way."""
    preferred = book.stack.gemini[result.pool] & result.eligible & long[:, None]
    for row in np.flatnonzero(long).tolist():
        fired = result.fired.setdefault(row, [])
        fired.insert(0, CONTEXT_200K)
    return preferred
