from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from heimdall_models.embed import (
    DIMENSIONS,
    QUANTA,
    CheckedEmbedder,
    EmbedderError,
    EmbeddingCache,
    embed_texts,
    load_embedder,
    nearest_clusters,
)

GOLDEN = [(14, -0.408248), (24, -0.288675), (124, -0.288675), (157, -0.57735)]
RNG = np.random.default_rng(1)
UNIT = RNG.normal(size=(12, DIMENSIONS))
CENTRES = np.rint(UNIT / np.linalg.norm(UNIT, axis=1, keepdims=True) * QUANTA).astype(np.int16)


def of(shape: tuple[int, ...], value: float = 1.0) -> CheckedEmbedder:
    def embedder(texts: Sequence[str]) -> NDArray[np.float32]:
        return np.full(shape, value, np.float32)

    return CheckedEmbedder("made", embedder)


def test_one_text_has_the_same_numbers_in_every_process() -> None:
    vector = embed_texts(["Prove the theorem about prime numbers."])[0]
    assert [(int(i), round(float(vector[i]), 6)) for i in np.flatnonzero(vector)[:4]] == GOLDEN


def test_rows_are_of_unit_length_and_an_empty_text_is_zero() -> None:
    lengths = np.linalg.norm(embed_texts(["hello world", "", "你好世界", "x" * 5000]), axis=1)
    np.testing.assert_allclose(lengths, [1, 0, 1, 1], atol=1e-6)


def test_texts_about_the_same_are_nearer_than_others() -> None:
    vectors = embed_texts(["the integral of a polynomial", "derivative of polynomials", "bake a chocolate cake"])
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


@settings(max_examples=50)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=8))
def test_embeddings_and_clusters_of_a_row_do_not_depend_on_the_batch(texts: list[str]) -> None:
    together = embed_texts(texts)
    alone = np.concatenate([embed_texts([text]) for text in texts])
    np.testing.assert_array_equal(together, alone)
    found = nearest_clusters(together, CENTRES, 5)
    for row, vector in enumerate(alone):
        single = nearest_clusters(vector[None], CENTRES, 5)
        np.testing.assert_array_equal(found.ids[row], single.ids[0])
        np.testing.assert_array_equal(found.weights[row], single.weights[0])


def test_the_nearest_clusters_come_nearest_first_and_their_weights_sum_to_one() -> None:
    vector = (CENTRES[3] / QUANTA).astype(np.float32)
    found = nearest_clusters(vector[None], CENTRES, 3)
    assert found.ids[0, 0] == 3
    assert found.similarities.shape == (1, 3)
    assert (np.diff(found.similarities[0]) <= 0).all()
    assert found.weights.sum() == pytest.approx(1.0, abs=1e-6)


def test_an_embedder_with_another_size_is_refused() -> None:
    with pytest.raises(EmbedderError, match=r"\(1, 383\).*must return \(1, 384\)"):
        of((1, 383))(["x"])


def test_an_embedder_that_returns_nan_is_refused() -> None:
    with pytest.raises(EmbedderError, match="NaN"):
        of((1, DIMENSIONS), float("nan"))(["x"])


def test_an_embedder_that_returns_no_array_is_refused() -> None:
    def ragged(texts: Sequence[str]) -> NDArray[np.float32]:
        found: Any = [[1.0] * len(text) for text in texts]
        return cast("NDArray[np.float32]", found)

    with pytest.raises(EmbedderError, match="no array of numbers"):
        CheckedEmbedder("ragged", ragged)(["one", "three"])


@pytest.mark.parametrize("error", [KeyError("a bug of its own"), TypeError("another"), Exception("a library's own")])
def test_whatever_an_embedder_raises_comes_out_as_a_failure_that_may_pass(error: Exception) -> None:
    def failing(texts: Sequence[str]) -> NDArray[np.float32]:
        raise error

    with pytest.raises(RuntimeError, match=f"'made' raised {type(error).__name__}"):
        CheckedEmbedder("made", failing)(["one"])


def test_a_checked_embedder_returns_unit_rows() -> None:
    assert np.linalg.norm(of((1, DIMENSIONS), 5.0)(["x"])) == pytest.approx(1.0, abs=1e-5)


def test_an_embedder_that_nobody_installed_is_named_in_the_error() -> None:
    with pytest.raises(EmbedderError, match="no embedder named 'nobody'"):
        load_embedder("nobody")


def test_the_second_equal_text_comes_from_the_cache() -> None:
    cache = EmbeddingCache(embed_texts, size=8)
    first, missed = cache(["a text", "another"])
    again, hit = cache(["a text", "a third"])
    assert (missed.tolist(), hit.tolist()) == ([False, False], [True, False])
    np.testing.assert_array_equal(first[0], again[0])


def test_the_cache_forgets_the_text_that_was_not_used_longest() -> None:
    cache = EmbeddingCache(embed_texts, size=2)
    cache(["one", "two"])
    cache(["one"])
    cache(["three"])
    assert cache(["one", "two"])[1].tolist() == [True, False]
