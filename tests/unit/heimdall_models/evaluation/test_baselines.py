from collections.abc import Sequence

import numpy as np
import pytest

from heimdall_models.conversation import Conversation, read_conversation
from heimdall_models.training.baselines import BASELINES


def conversations(texts: Sequence[str]) -> list[Conversation]:
    return [read_conversation({"messages": [{"role": "user", "content": text}]}) for text in texts]


EASY, HARD = conversations(
    [
        "hello, what is the capital of France?",
        "Prove the theorem step by step, then analyze the complexity of this algorithm and implement it in full.",
    ]
)


@pytest.mark.parametrize("name", ["length", "keywords", "nearest_phrase"])
def test_what_reads_the_prompt_ranks_a_proof_above_a_greeting(name: str) -> None:
    easy, hard = BASELINES[name]([EASY, HARD])
    assert hard > easy


@pytest.mark.parametrize("name", ["always_cheap", "always_strong"])
def test_a_single_model_ranks_nothing(name: str) -> None:
    assert len(set(BASELINES[name]([EASY, HARD]).tolist())) == 1


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_a_score_is_one_finite_number_a_prompt_and_the_same_each_time(name: str) -> None:
    odd = conversations(["", "\x00", "日本語", "a" * 20_000])
    first, second = BASELINES[name](odd), BASELINES[name](odd)
    assert first.shape == (4,)
    assert np.isfinite(first).all()
    assert (first == second).all()
