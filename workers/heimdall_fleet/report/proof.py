"""Proving a decision from its audit record: the same bundle, catalogue and configuration must decide it again."""

from collections.abc import Mapping
from typing import Any

from heimdall_models.judge import Judge
from heimdall_models.recompute import RecomputeError, recompute


def prove(decision: Mapping[str, Any], judge: Judge) -> dict[str, Any]:
    """Which bundle decided again, and every field that came out otherwise; a refusal to try is a difference too."""
    try:
        again = recompute(decision, judge)
    except RecomputeError as error:
        return {"bundle": judge.bundle.hash, "differences": [str(error)]}
    differences = [f"{each.field}: recorded {each.recorded}, now {each.recomputed}" for each in again.differences]
    return {"bundle": judge.bundle.hash, "differences": differences}
