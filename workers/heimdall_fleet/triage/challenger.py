"""A second bundle that decides everything silently: what it would have done stands in the decision record, and nowhere else."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from heimdall_models.asked import Clock, DecisionInput
from heimdall_models.cache import Memory
from heimdall_models.decide import decide
from heimdall_models.judge import Judge
from heimdall_models.record import Decided


@dataclass(frozen=True, slots=True)
class Challenger:
    """`memory` is its own: its sessions go on as if it had decided. Nothing comes from a cache, so each figure is new."""

    judge: Judge
    memory: Memory = field(default_factory=lambda: Memory(decisions=None))

    def opinions(self, asked: Sequence[DecisionInput], clock: Clock) -> list[dict[str, Any]]:
        """What it would have decided of each, as it stands in the record; `latency_ms` is a request's share."""
        started_s = clock()
        answers = decide(asked, self.judge, self.memory, clock)
        share_ms = round((clock() - started_s) * 1000.0 / max(1, len(asked)), 3)
        known = {"bundle": self.judge.bundle.hash, "latency_ms": share_ms}
        return [{**known, **(_said(each) if isinstance(each, Decided) else _NOTHING)} for each in answers]


_NOTHING: dict[str, Any] = {"bucket": None, "selected_model": None, "p_chosen": None, "decision_type": None}


def _said(decided: Decided) -> dict[str, Any]:
    return {
        "bucket": decided.bucket,
        "selected_model": decided.model,
        "p_chosen": decided.p_chosen,
        "decision_type": decided.decision_type,
    }
