"""Reading with a plugged-in embedder: used, too slow, failing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from heimdall_models.asked import DecisionInput
from heimdall_models.cache import Memory
from heimdall_models.decide import decide
from heimdall_models.embed import DIMENSIONS, EmbeddingCache
from heimdall_models.judge import Judge
from heimdall_models.recompute import recompute
from heimdall_models.record import Decided, audit_json

One = Callable[..., Decided]
MakeInput = Callable[..., DecisionInput]
JudgeWith = Callable[..., Judge]


class Embedder:
    """A plug-in: takes its time, fails, or answers."""

    def __init__(self, outcome: NDArray[np.float32] | Exception, work: Callable[[], None] = lambda: None) -> None:
        self.outcome, self.work, self.calls = outcome, work, 0

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls += 1
        self.work()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return np.tile(self.outcome, (len(texts), 1))


def _with_embedder(judge: Judge, embedder: Embedder) -> Judge:
    return replace(judge, reader=replace(judge.reader, embedder=EmbeddingCache(embedder, 10)))


def test_a_plugged_in_embedder_is_called_and_its_vectors_are_kept(
    judge: Judge, make_input: MakeInput, decided: One
) -> None:
    centre = judge.reader.centres[7].astype(np.float32)
    embedder = Embedder(centre / np.linalg.norm(centre))
    plugged = _with_embedder(judge, embedder)
    first, second = (decided(make_input(0.9), plugged).record["features"] for _ in range(2))
    assert first["clusters"][0] == 7
    assert (first["embedding_cached"], second["embedding_cached"], embedder.calls) == (False, True, 1)


@pytest.mark.parametrize(
    ("features_ms", "embedding_ms", "reason"),
    [(1.0, 15_000.0, "FEATURE_TIMEOUT"), (60_000.0, 400.0, "EMBEDDING_TIMEOUT"), (60_000.0, 600.0, None)],
)
def test_an_embedder_that_is_too_slow_costs_the_features_and_not_the_request(
    judge_with: JudgeWith, make_input: MakeInput, features_ms: float, embedding_ms: float, reason: str | None
) -> None:
    now_s = [0.0]

    def work() -> None:
        now_s[0] += 0.5

    judge = judge_with(feature_timeout_ms=features_ms, embedding_timeout_ms=embedding_ms, timeout_ms=60_000.0)
    plugged = _with_embedder(judge, Embedder(np.ones(DIMENSIONS, np.float32), work))
    (answer,) = decide([make_input(0.9)], plugged, Memory(), lambda: now_s[0])
    assert isinstance(answer, Decided)
    assert (answer.bucket, answer.fallback_reason) == ("hard" if reason is None else "mid", reason)
    assert recompute(orjson.loads(audit_json(answer, {})), judge).proved


def test_an_embedder_that_fails_leaves_the_request_without_a_cluster(
    judge: Judge, make_input: MakeInput, decided: One
) -> None:
    answer = decided(make_input(0.9), _with_embedder(judge, Embedder(RuntimeError("no GPU"))))
    assert (answer.bucket, answer.fallback_reason) == ("hard", None)
    assert set(answer.record["features"]["clusters"]) == {len(judge.reader.centres)}
    assert recompute(orjson.loads(audit_json(answer, {})), judge).proved
