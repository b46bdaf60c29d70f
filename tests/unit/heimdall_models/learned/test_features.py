from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdall_models.conversation import Conversation, read_conversation
from heimdall_models.features import FEATURE_NAMES, FEATURE_VERSION, MAX_BATCH, extract
from heimdall_models.text_model import GROUP_BITS, TextModel

RNG = np.random.default_rng(0)
TEXT_MODEL = TextModel(
    tuple(RNG.integers(-127, 128, 1 << bits).astype(np.int8) for bits in GROUP_BITS),
    (0.01, 0.01, 0.01),
    0.1,
    ((FEATURE_NAMES.index("stem_words_log"), -0.5),),
)
HERE = Path(__file__).parent
TEXTS: dict[str, str] = orjson.loads((HERE / "token_texts.json").read_bytes())
PINNED: dict[str, Any] = orjson.loads((HERE / "features.json").read_bytes())
"""What `extract` makes of `TEXTS` with `TEXT_MODEL`. A change of it is a new FEATURE_VERSION: bundles are trained on it."""

ARTICLE = "The committee met on Tuesday to discuss how the new library might serve both students and visitors. " * 5


def asks(*texts: str) -> list[Conversation]:
    return [read_conversation({"messages": [{"role": "user", "content": text}]}) for text in texts]


def column(text: str, name: str) -> float:
    return float(extract(asks(text)).numeric[0, FEATURE_NAMES.index(name)])


@settings(max_examples=60)
@given(st.lists(st.text(max_size=80), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_a_batch_changes_no_row(texts: list[str], random: Any) -> None:
    order = list(range(len(texts)))
    random.shuffle(order)
    plain = extract(asks(*texts), TEXT_MODEL)
    shuffled = extract(asks(*(texts[i] for i in order)), TEXT_MODEL)
    np.testing.assert_array_equal(plain.numeric[order], shuffled.numeric)
    np.testing.assert_array_equal(plain.token_count[order], shuffled.token_count)


def test_a_word_pair_across_two_texts_is_no_repetition_of_one_within_them() -> None:
    alone = extract(asks("go go"), TEXT_MODEL).numeric[0]
    np.testing.assert_array_equal(extract(asks("go go", "go"), TEXT_MODEL).numeric[0], alone)


@settings(max_examples=60)
@given(st.lists(st.text(max_size=80), min_size=1, max_size=8))
def test_a_row_is_the_same_alone_and_in_a_batch(texts: list[str]) -> None:
    together = extract(asks(*texts), TEXT_MODEL).numeric
    alone = np.concatenate([extract(asks(text), TEXT_MODEL).numeric for text in texts])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\0\1\2",
        "\ud800 lone",
        "مرحبا بالعالم",
        "👩‍👩‍👧 🎉" * 50,
        "a" * 9000,
        "\n" * 9000,
        "日本語" * 3000,
        " " * 100,
    ],
)
def test_odd_texts_give_finite_numbers(text: str) -> None:
    found = extract(asks(text, "hello", text), TEXT_MODEL)
    assert np.isfinite(found.numeric).all()
    np.testing.assert_array_equal(found.numeric[0], found.numeric[2])


def test_names_are_unique_and_as_many_as_columns() -> None:
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES) == extract(asks("x")).numeric.shape[1]


def test_an_empty_batch_has_no_rows() -> None:
    assert extract([]).numeric.shape == (0, len(FEATURE_NAMES))


def test_a_batch_that_is_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match=f"at most {MAX_BATCH}"):
        extract(asks(*["x"] * (MAX_BATCH + 1)))


@pytest.mark.parametrize(
    "text",
    [
        "```python\nprint('hi')\n```",
        "def area(r):\n    return 3.14 * r ** 2\n",
        "for (int i = 0; i < n; i++) {\n  sum += a[i];\n}",
        "SELECT * FROM t;\n\n#include <stdio.h>\nint main() { return 0; }\n",
    ],
)
def test_programs_are_code(text: str) -> None:
    assert extract(asks(text)).has_code[0]


@pytest.mark.parametrize(
    "text",
    [
        r"Evaluate $\int_0^1 x^2\,dx$.",
        r"\[ \sum_{n=1}^\infty \frac{1}{n^2} \]",
        "Solve x^2 + 3x - 4 = 0",
        "Is √2 ≤ π?",
    ],
)
def test_formulas_are_mathematics(text: str) -> None:
    assert extract(asks(text)).has_math[0]


@pytest.mark.parametrize("text", [ARTICLE, "Dear Ann (and Tom), see you at 9:30; bring cake!", "¿Cómo estás? 你好"])
def test_prose_is_neither(text: str) -> None:
    found = extract(asks(text))
    assert not found.has_code[0]
    assert not found.has_math[0]


def test_entropy_of_one_letter_is_lower_than_that_of_an_article() -> None:
    found = extract(asks("a" * 500, ARTICLE)).entropy
    assert found[0] < 0.1
    assert found[1] > 4


def test_answer_options_are_counted() -> None:
    assert column("Which?\nA. one\nB. two\nC. three", "options") == 3


def test_the_text_score_is_the_last_column_and_zero_without_a_text_model() -> None:
    assert FEATURE_NAMES[-1] == "text_score"
    assert extract(asks("hello")).numeric[0, -1] == 0
    assert extract(asks("hello"), TEXT_MODEL).numeric[0, -1] != 0


def test_fifty_varied_texts_have_the_numbers_that_this_version_of_the_features_stands_for() -> None:
    found = extract(asks(*TEXTS.values()), TEXT_MODEL)
    assert PINNED["feature_version"] == FEATURE_VERSION
    np.testing.assert_array_equal(found.token_count, PINNED["token_count"])
    np.testing.assert_allclose(found.entropy, PINNED["entropy"], atol=2e-6)
    np.testing.assert_allclose(found.numeric, PINNED["numeric"], rtol=2e-6, atol=2e-6)
