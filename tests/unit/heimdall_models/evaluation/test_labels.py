from typing import Any

import numpy as np
import pytest

from heimdall_models.features import FEATURE_NAMES, extract
from heimdall_models.text_model import GROUP_BITS, TextModel, amounts
from heimdall_models.training.everyday import read_everyday
from heimdall_models.training.fit import levelled
from heimdall_models.training.labels import Labelled, labelled, training_rows
from heimdall_models.training.metrics import apgr
from heimdall_models.training.tables import table_of

WORDS = ("river", "garden", "window", "letter", "engine", "market", "winter", "bridge", "candle", "forest")


@pytest.fixture(scope="module")
def rows() -> Labelled:
    """Long prompts are hard for the small model."""
    rng = np.random.default_rng(5)
    count = rng.integers(4, 60, 300)
    prompts = [f"{number} " + " ".join(WORDS[i] for i in rng.integers(10, size=n)) for number, n in enumerate(count)]
    columns = {
        "prompt": prompts,
        "s::small": (rng.random(300) < 1 - count / 70).astype(float).tolist(),
        "s::large": [1.0] * 300,
    }
    return labelled([table_of("made", columns)], {}, "cheap_ok")


def test_for_unseen_traffic_the_tables_teach_work_and_the_everyday_prompts_the_rest(rows: Labelled) -> None:
    examples = training_rows(rows, transfer=True)
    work = amounts(examples.numeric, examples.slopes)[:300]
    assert all(slope < 0 for _, slope in examples.slopes)
    assert len(examples) == 300 + int(read_everyday().copies.sum())
    assert (np.argsort(examples.label[:300]) == np.argsort(work)).all()
    assert examples.label[:300].mean() == pytest.approx(rows.examples.label.mean(), abs=0.05)


def test_for_own_traffic_the_labels_are_what_was_measured(rows: Labelled) -> None:
    examples = training_rows(rows, transfer=False)
    assert examples.slopes == ()
    assert (examples.label == rows.examples.label).all()


def test_labels_of_two_models_move_halfway_to_the_mean_of_their_domain_and_labels_of_many_less() -> None:
    columns: dict[str, list[Any]] = {"prompt": ["a", "b", "c", "d"] * 60, "domain": ["x", "x", "y", "y"] * 60}
    scores: dict[str, list[Any]] = {"s::small": [1.0, 0.0, 0.0, 0.0] * 60, "s::large": [1.0] * 240}
    more: dict[str, list[Any]] = {f"s::{name}": [1.0] * 240 for name in ("third", "fourth")}
    two = labelled([table_of("two", columns | scores)], {}, "gain").examples
    four = labelled([table_of("four", columns | scores | more)], {}, "gain").examples
    assert set(two.noise.tolist()) == {1 / 2}
    assert set(four.noise.tolist()) == {1 / 4}
    assert levelled(two)[:4] == pytest.approx([0.375, 0.125, 0.0, 0.0], abs=0.02)
    assert levelled(two).mean() == pytest.approx(two.label.mean(), abs=0.01)


def test_labels_of_a_single_domain_stay_as_they_are(rows: Labelled) -> None:
    assert (levelled(rows.examples) == rows.examples.label).all()


def test_the_work_in_a_prompt_alone_orders_prompts_that_are_hard_for_their_length(rows: Labelled) -> None:
    slopes = training_rows(rows, transfer=True).slopes
    assert apgr(-amounts(rows.examples.numeric, slopes), rows.cheap, rows.strong) > 0.6


def test_serving_adds_the_same_amounts_to_the_score_as_training() -> None:
    slopes = ((FEATURE_NAMES.index("stem_words_log"), -0.5), (FEATURE_NAMES.index("commas_log"), -0.1))
    empty = tuple(np.zeros(1 << bits, np.int8) for bits in GROUP_BITS)
    conversations = read_everyday().conversations[:20]
    served = extract(conversations, TextModel(empty, (1.0, 1.0, 1.0), 0.25, slopes)).numeric
    trained = extract(conversations).numeric
    assert served[:, -1] == pytest.approx(0.25 + amounts(trained, slopes), abs=1e-6)
    assert (served[:, :-1] == trained[:, :-1]).all()
