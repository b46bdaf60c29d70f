"""Proving a decision from its audit record: the same bundle, catalogue and configuration must decide it again."""

from collections.abc import Iterator, Mapping
from typing import Any

from heimdall_models.judge import Judge
from heimdall_models.recompute import RecomputeError, recompute

COPYS_OWN = frozenset(
    {"request_id", "correlation_id", "time", "worker", "tags", "session", "decision_type", "cached_from", "cache_hit"}
    | {"features", "candidates", "question", "text", "challenger", "decision_latency_ms"}
)
"""What a decision from the cache has for itself; all the rest is its original's."""


def prove(scored: Mapping[str, Any], judge: Judge, copy: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Which bundle decided again, and every field that came out otherwise; a refusal to try is a difference too.

    `copy`: the decision from the cache that says it repeats `scored`; it is compared too.
    """
    differences = list(_copied_otherwise(scored, copy)) if copy is not None else []
    try:
        again = recompute(scored, judge)
    except RecomputeError as error:
        return {"bundle": judge.bundle.hash, "differences": [*differences, str(error)]}
    differences += [f"{each.field}: recorded {each.recorded}, now {each.recomputed}" for each in again.differences]
    return {"bundle": again.decided.record["bundle"], "differences": differences}


def _copied_otherwise(scored: Mapping[str, Any], copy: Mapping[str, Any]) -> Iterator[str]:
    for name in (scored.keys() | copy.keys()) - COPYS_OWN:
        if scored.get(name) != copy.get(name):
            yield f"{name}: the copy has {copy.get(name)}, its original {scored.get(name)}"
