"""The shipped bundle on prompts of our own writing.

None of them is among the everyday prompts it was trained with, but settings were chosen with these in view: they guard what
was reached and measure nothing.
"""

from pathlib import Path

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from heimdall_models.bundle import load_bundle
from heimdall_models.classify import Thresholds, bucket_of
from heimdall_models.conversation import read_conversation
from heimdall_models.features import extract
from heimdall_models.training.everyday import read_everyday

DEFAULT = Path(__file__).parents[4] / "models" / "bundles" / "default"

PROMPTS = orjson.loads((Path(__file__).parent / "prompts.json").read_bytes())
EASY, HARD = tuple(PROMPTS["easy"]), tuple(PROMPTS["hard"])


def percentiles(*prompts: str) -> NDArray[np.float64]:
    bundle = load_bundle(DEFAULT)
    asks = [read_conversation({"messages": [{"role": "user", "content": prompt}]}) for prompt in prompts]
    return bundle.classifier.predict(extract(asks, bundle.text_model).numeric).percentile


def share(prompts: tuple[str, ...], bucket: str) -> float:
    return float(np.mean([bucket_of(p, Thresholds()) == bucket for p in percentiles(*prompts)]))


def test_small_talk_and_small_tasks_are_mostly_cheap_and_never_hard() -> None:
    assert share(EASY, "cheap") >= 0.8
    assert share(EASY, "hard") == 0


def test_proofs_and_large_programs_are_mostly_hard() -> None:
    assert share(HARD, "hard") >= 0.6
    assert share(HARD, "cheap") <= 0.15


def test_none_of_these_prompts_was_trained_with() -> None:
    known = {conversation.text for conversation in read_everyday().conversations}
    assert not known & {*EASY, *HARD}


@pytest.mark.parametrize("prompt", ["", "?", "zzzz", "你好", "😀", "ok", "asdf qwer"])
def test_a_prompt_is_not_hard_for_being_short_or_unusual(prompt: str) -> None:
    assert percentiles(prompt)[0] < Thresholds().hard


def test_the_manifest_says_where_the_data_comes_from_and_under_which_licence() -> None:
    sources = load_bundle(DEFAULT).manifest["training_data"]["sources"]
    assert {"lm-sys/RouteLLM", "TIGER-AI-Lab/MMLU-Pro"} <= {source["repository"] for source in sources}
    assert all(source["licence"] for source in sources)
