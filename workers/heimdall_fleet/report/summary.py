"""The closing block of a run, computed from audit records and nothing else, so that anyone can compute it again."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from heimdall_schemas.audit import State, calls_of
from heimdall_schemas.topics import Bucket

Price = Mapping[str, float]
"""`input` and `output` of a model, in USD per million tokens."""


@dataclass(slots=True)
class Ledger:
    """Decisions and outcomes by request id. A record that is there twice counts once; a contradiction is kept apart.

    `superseded`: records of calls that led to no ending of their own; they cost, and are no ending. Shadows are none of a
    request's calls and are left out.
    """

    decisions: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    outcomes: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    superseded: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    contradictions: set[str] = field(default_factory=set)
    copies: int = 0

    def add(self, record: Mapping[str, Any]) -> None:
        request_id = record["request_id"]
        if record["kind"] == "decision":
            self.decisions[request_id] = record
            return
        if record["kind"] == "shadow":
            return
        if record.get("superseded"):
            wasted = self.superseded.setdefault(request_id, [])
            if record not in wasted:
                wasted.append(record)
            return
        before = self.outcomes.setdefault(request_id, record)
        if before is not record:
            self.copies += 1
            if before["state"] != record["state"]:
                self.contradictions.add(request_id)

    def calls(self, request_id: str) -> list[Mapping[str, Any]]:
        """Every provider call for a request, once."""
        ended = self.outcomes.get(request_id)
        return calls_of([*([ended] if ended else []), *self.superseded.get(request_id, [])])

    def paid(self) -> list[Mapping[str, Any]]:
        """The records whose costs add up to what was paid."""
        return [*self.outcomes.values(), *chain.from_iterable(self.superseded.values())]

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]]) -> "Ledger":
        ledger = cls()
        for record in records:
            ledger.add(record)
        return ledger


def percentile(values: list[float], share: float) -> float | None:
    """The smallest value with at least `share` of all at or below it (nearest rank); None without values."""
    if not values:
        return None
    return sorted(values)[max(1, math.ceil(len(values) * share)) - 1]


def summarise(ledger: Ledger, premium: Price | None, asked: int | None = None) -> dict[str, Any]:
    """The figures of `heimdall demo`.

    `asked` is how many requests were sent; without it, those that the audit knows. `premium` prices the tokens of every
    answer as if one premium model had given it. Latency is from the moment triage read the request to the reply.
    """
    outcomes = list(ledger.outcomes.values())
    paid = ledger.paid()
    known = ledger.decisions.keys() | ledger.outcomes.keys()
    requests = len(known) if asked is None else asked
    states = Counter(outcome["state"] for outcome in outcomes)
    answered = [outcome for outcome in outcomes if outcome["state"] == State.ANSWERED]
    buckets = Counter(decision["bucket"] for decision in ledger.decisions.values())
    spent = sum(record["cost_usd_micros"] for record in paid) / 1e6
    always_premium = sum(_priced(outcome["tokens"], premium) for outcome in answered) if premium else None
    latencies = [_latency_ms(outcome["timings_ms"]) for outcome in answered]
    return {
        "requests": requests,
        "answered": states[State.ANSWERED],
        "failed": len(outcomes) - states[State.ANSWERED],
        "lost": requests - len(outcomes),
        "duplicates": len(ledger.contradictions),
        "copies": ledger.copies,
        "buckets": {bucket.value: buckets[bucket] for bucket in Bucket},
        "latency_ms": {
            name: _rounded(percentile(latencies, share), 1)
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        },
        "cost_usd": round(spent, 6),
        "cost_always_premium_usd": _rounded(always_premium, 6),
        "saved_share": round(1 - spent / always_premium, 4) if always_premium else None,
        "failovers": sum(_failed_over(outcome) for outcome in outcomes),
        "provider_calls": sum(len(ledger.calls(request_id)) for request_id in known | ledger.superseded.keys()),
        "cost_by_bucket_usd": _cost_by_bucket(paid),
        "failures": dict(Counter(outcome["failure"] for outcome in outcomes if outcome["failure"])),
    }


def _latency_ms(timings: Mapping[str, float]) -> float:
    return timings.get("queued", 0.0) + timings.get("dispatch", 0.0)


def _priced(tokens: Mapping[str, int], premium: Price) -> float:
    return (tokens["prompt"] * premium["input"] + tokens["completion"] * premium["output"]) / 1e6


def _failed_over(outcome: Mapping[str, Any]) -> bool:
    """Answered, though an attempt before had failed."""
    attempts = outcome["attempts"]
    return outcome["state"] == State.ANSWERED and any(attempt["failure"] for attempt in attempts[:-1])


def _cost_by_bucket(outcomes: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    costs: Counter[str] = Counter()
    for outcome in outcomes:
        costs[outcome["bucket"] or "none"] += outcome["cost_usd_micros"]
    return {bucket: round(micros / 1e6, 6) for bucket, micros in costs.items()}


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def block(figures: Mapping[str, Any], command: str) -> str:
    """The closing block for people."""
    buckets, latency = figures["buckets"], figures["latency_ms"]
    premium = figures["cost_always_premium_usd"]
    saved = "" if premium is None else f" against {premium:.4f} always-premium: {figures['saved_share']:.0%} saved"
    rows = [
        ("requests", f"{figures['requests']}: {figures['answered']} answered, {figures['failed']} failed"),
        ("buckets", " · ".join(f"{name} {count}" for name, count in buckets.items())),
        ("latency", " · ".join(f"{name} {_ms(value)}" for name, value in latency.items())),
        ("cost", f"{figures['cost_usd']:.4f} USD{saved}"),
        ("failovers", f"{figures['failovers']} requests answered by another key, provider or model"),
        ("lost", f"{figures['lost']} · contradicting replies {figures['duplicates']}"),
        ("recompute", command),
    ]
    return "\n".join(f"  {name:<10} {text}" for name, text in rows)


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} ms"
