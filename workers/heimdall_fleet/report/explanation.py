"""A decision and its outcome, told so that a person can follow it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]


def explanation(records: Iterable[Record], alpha: float | None = None, scored: Record | None = None) -> dict[str, Any]:
    """The decision and the outcome of one request. `alpha` ranks the candidates again with another weight.

    `scored` is the decision whose terms are recorded, where `records` holds a copy from the decision cache; without it
    nothing of a copy can be ranked. The terms are enough to rank again: score = alpha * quality - (1 - alpha) * cost -
    penalties.
    """
    decision: Record | None = None
    outcome: Record | None = None
    superseded: list[Record] = []
    shadow: Record | None = None
    for record in records:
        if record["kind"] == "decision":
            decision = record
        elif record["kind"] == "shadow":
            shadow = shadow if record.get("superseded") else record
        elif record.get("superseded"):
            superseded.append(record)
        else:
            outcome = record
    terms = decision if scored is None and decision is not None and not decision.get("cached_from") else scored
    told: dict[str, Any] = {
        "request_id": (decision or outcome or {}).get("request_id"),
        "decision": decision,
        "outcome": outcome,
        "scored": terms,
        "ranking": ranking(terms, None) if terms else [],
    }
    if superseded:
        told["superseded"] = superseded
    if shadow is not None:
        told["shadow"] = shadow
    if terms and alpha is not None:
        told["alpha"] = alpha
        told["ranking_with_alpha"] = ranking(terms, alpha)
    return told


def ranking(decision: Record, alpha: float | None) -> list[dict[str, Any]]:
    """Candidates that stayed in, best first, each with its score and terms."""
    weight = decision["alpha"] if alpha is None else alpha
    scored = [
        {
            "model": candidate["model"],
            "score": weight * candidate["quality"] - (1 - weight) * candidate["cost"] - _penalty(candidate),
            "quality": candidate["quality"],
            "cost": candidate["cost"],
            "penalties": candidate.get("penalties", {}),
        }
        for candidate in decision["candidates"]
        if candidate.get("fell_out") is None
        and candidate.get("quality") is not None
        and candidate["bucket"] == decision["bucket"]
    ]
    return sorted(scored, key=lambda each: (-each["score"], each["cost"], each["model"]))


def _penalty(candidate: Record) -> float:
    penalties: Mapping[str, float] = candidate.get("penalties", {})
    return sum(penalties.values())


NOTABLE = ("token_count", "has_code", "has_math", "entropy", "context_ratio", "context_overflow", "feature_version")


def story(told: Mapping[str, Any]) -> str:
    """The explanation as text: what was asked, how hard it looked, who stood, who was called, what it cost."""
    lines = [f"request {told['request_id']}"]
    if told["decision"]:
        lines += _decision_lines(told["decision"], told["scored"], told["ranking"])
    if "ranking_with_alpha" in told:
        lines += [f"with alpha {told['alpha']:g}", *_table(told["ranking_with_alpha"])]
    if told["outcome"]:
        lines += _outcome_lines(told["outcome"])
    for record in told.get("superseded", ()):
        lines += _superseded_lines(record)
    if "shadow" in told:
        lines += _shadow_lines(told["shadow"])
    if "recomputed" in told:
        proof = told["recomputed"]
        verdict = "the same decision" if not proof["differences"] else "; ".join(proof["differences"])
        lines.append(f"recomputed with bundle {proof['bundle'][:12]}: {verdict}")
    return "\n".join(lines)


def _decision_lines(decision: Record, terms: Record | None, ranked: Sequence[Record]) -> list[str]:
    features = decision["features"]
    shown = ", ".join(f"{name} {_short(features[name])}" for name in NOTABLE if name in features)
    fallen = [c for c in terms["candidates"] if c.get("fell_out")] if terms else []
    lines = [
        f"features   {shown}",
        f"difficulty {_short(decision['difficulty'])}, percentile {_short(decision.get('difficulty_percentile'))} "
        f"→ bucket {decision['bucket']} ({decision['decision_type']})",
    ]
    took = f"decided    in {_short(decision['decision_latency_ms'])} ms"
    if decision.get("cached_from"):
        lines.append(f"{took}; cache hit, from the decision of {decision['cached_from']}")
    else:
        lines.append(f"{took}, of which {_short(features['extraction_latency_ms'])} ms reading the batch; cache miss")
    if decision["guardrails"]:
        given_way = decision.get("waived", ())
        names = (
            f"{name} (waived: nothing else was left)" if name in given_way else name for name in decision["guardrails"]
        )
        lines.append(f"guardrails {', '.join(names)}")
    lines += (
        [f"candidates with alpha {_short(decision['alpha'])}", *_table(ranked)] if terms else [_elsewhere(decision)]
    )
    lines += [f"  out: {c['model']} ({c['bucket']}): {c['fell_out']}" for c in fallen]
    others = (each["model"] for each in ranked if each["model"] != decision["selected_model"])
    runner_up = next(others, "none" if terms else "unknown")
    lines.append(
        f"selected   {decision['selected_model']} at {decision['selected_provider']}, runner-up {runner_up}, "
        f"p_chosen {decision['p_chosen']:g}{', explored' if decision['explored'] else ''}"
    )
    if decision["fallback_used"]:
        lines.append(f"fallback   {decision['fallback_reason']}")
    return lines


def _elsewhere(decision: Record) -> str:
    """Of a copy from the cache whose original is not among the records."""
    return f"candidates unknown: their scores are in the decision of {decision['cached_from']}, which is not here"


def _attempt_lines(outcome: Record) -> list[str]:
    return [
        f"attempt {number}  {attempt['provider']} {attempt['model']} key {attempt['key']}: {_ended(attempt)} "
        f"in {attempt['latency_ms']:,.0f} ms, {attempt['cost_usd_micros'] / 1e6:.6f} USD"
        + (" (a guess)" if attempt.get("cost_estimated") else "")
        for number, attempt in enumerate(outcome["attempts"], 1)
    ]


def _ended(attempt: Record) -> str:
    """How a call ended: the failure with the HTTP status, if it got one."""
    if attempt.get("hedged"):
        return "given up, another call was faster,"
    if not attempt["failure"]:
        return "ok"
    return f"{attempt['failure']} ({status})" if (status := attempt.get("status")) else str(attempt["failure"])


def _superseded_lines(outcome: Record) -> list[str]:
    """Calls of a worker that another one had overtaken; its answer was not published."""
    added = f"{outcome['cost_usd_micros'] / 1e6:+.6f} USD"
    return [f"overtaken  calls of {outcome['worker']} that led to nothing, {added}", *_attempt_lines(outcome)]


def _shadow_lines(shadow: Record) -> list[str]:
    """What another model made of the request when it had been answered."""
    ended = f"{shadow['state']}" + (f" ({shadow['failure']})" if shadow["failure"] else "")
    return [
        f"shadow     {shadow['model']}: {ended}, {shadow['cost_usd_micros'] / 1e6:.6f} USD",
        *_attempt_lines(shadow),
    ]


def _outcome_lines(outcome: Record) -> list[str]:
    lines = _attempt_lines(outcome)
    ended = f"{outcome['state']}" + (f" ({outcome['failure']})" if outcome["failure"] else "")
    if outcome.get("answered_for"):
        ended += f" with the answer of {outcome['answered_for']}"
    lines.append(f"outcome    {ended}, {outcome['cost_usd_micros'] / 1e6:.6f} USD in all")
    return [*lines, f"error      {outcome['error']}"] if outcome.get("error") else lines


def _table(ranked: Sequence[Record]) -> list[str]:
    return [
        f"  {each['score']:+.4f}  {each['model']:<36} quality {each['quality']:.3f}  cost {each['cost']:.3f}"
        + "".join(f"  −{value:.3f} {name}" for name, value in each["penalties"].items() if value)
        for each in ranked
    ]


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
