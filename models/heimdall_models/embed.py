"""384 numbers for a text, by hashing its words: needs no service, never fails, is the same everywhere.

A better embedding can be plugged in: an installed package offers a class under the entry-point group
`heimdall_fleet.embedders` whose instances are `Embedder`s.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from heimdall_models.lexicon import WORD_LISTS, word_class
from heimdall_models.scan import Scan, scan, windows

DIMENSIONS = 384
ENTRY_POINT_GROUP = "heimdall_fleet.embedders"

_FUNCTION_WORDS = 1 + list(WORD_LISTS).index("function_words")
_HASHES_PER_WORD = 2
_LIST_WEIGHT = 2
_SEED = np.uint64(0xA24BAED4963EE407)
_LEAD_MASK = np.uint32(0xFFFFFF)
QUANTA = 2047
"""Steps of a unit vector's coordinate in similarities: products of such whole numbers add up exactly in float32."""


CLUSTER_TEMPERATURE = 0.1


class Embedder(Protocol):
    """Texts → (n, 384) float32; rows need not be of unit length."""

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


class EmbedderError(ValueError):
    """A plugged-in embedder is missing or returned something other than (n, 384) finite numbers."""


def embed(scanned: Scan, on_list: NDArray[np.uint8] | None = None) -> NDArray[np.float32]:
    """(n, 384) unit rows of hashed words, word lists and non-ASCII characters; an empty text is the zero vector.

    `on_list`: (words,) the list each word is on, when the caller has looked it up already.
    """
    if on_list is None:
        on_list = word_class(scanned.word_hash)
    width = len(WORD_LISTS) + 1
    listed = np.bincount(scanned.word_row * width + on_list, minlength=scanned.rows * width)
    content = (on_list != _FUNCTION_WORDS).nonzero()[0]
    hashes, rows = scanned.word_hash.take(content), scanned.word_row.take(content)
    foreign, foreign_rows = _foreign(scanned)
    keys = np.concatenate((hashes, hashes * _SEED, foreign))
    sums = _signed_counts(keys, np.concatenate((rows, rows, foreign_rows)), scanned.rows)
    sums += listed.reshape(scanned.rows, width).astype(np.float64) @ _list_table()
    return _unit_rows(sums)


@cache
def _list_table() -> NDArray[np.float64]:
    """(word lists + 1, 384): the lists are words of their own, so "integral" and "theorem" share coordinates."""
    numbers = np.setdiff1d(np.arange(1, len(WORD_LISTS) + 1), [_FUNCTION_WORDS])
    keys = (numbers.astype(np.uint64) + np.uint64(1)) * _SEED
    return _LIST_WEIGHT * _signed_counts(keys, numbers, len(WORD_LISTS) + 1)


def embed_texts(texts: Sequence[str]) -> NDArray[np.float32]:
    """The hashed embedding of texts that were not scanned yet: the default `Embedder`."""
    return embed(scan(texts))


def load_embedder(name: str) -> CheckedEmbedder:
    """The embedder that an installed package registered as `name`, its output checked.

    Raises EmbedderError when no package registered it, or when it cannot be made.
    """
    found = entry_points(group=ENTRY_POINT_GROUP, name=name)
    if not found:
        known = sorted(point.name for point in entry_points(group=ENTRY_POINT_GROUP))
        raise EmbedderError(
            f"no embedder named {name!r} under the entry-point group {ENTRY_POINT_GROUP}; installed: {known or 'none'}. "
            "Install the package that brings it or leave the setting out to use the hashed embedding."
        )
    try:
        made = next(iter(found)).load()()
    except Exception as error:  # code from outside may raise anything
        raise EmbedderError(f"embedder {name!r} cannot be made, {type(error).__name__}: {error}") from error
    return CheckedEmbedder(name, made)


@dataclass(frozen=True, slots=True)
class CheckedEmbedder:
    """An embedder from outside: what it returns is checked and brought to unit length."""

    name: str
    inner: Embedder

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, 384) unit rows. Raises EmbedderError for another shape or numbers that are not finite, and RuntimeError for
        whatever the embedder raises: it may be well again for the next batch."""
        try:
            returned = self.inner(texts)
        except Exception as error:  # code from outside may raise anything
            raise RuntimeError(f"embedder {self.name!r} raised {type(error).__name__}: {error}") from error
        try:
            vectors = np.asarray(returned, np.float32)
        except (TypeError, ValueError) as error:
            raise EmbedderError(f"embedder {self.name!r} returned no array of numbers ({error})") from error
        if vectors.shape != (len(texts), DIMENSIONS):
            raise EmbedderError(
                f"embedder {self.name!r} returned shape {vectors.shape} for {len(texts)} texts; "
                f"it must return ({len(texts)}, {DIMENSIONS})"
            )
        if not np.isfinite(vectors).all():
            raise EmbedderError(f"embedder {self.name!r} returned NaN or infinity")
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.where(length > 0, length, 1), np.float32)


class EmbeddingCache:
    """The last `size` embeddings by a hash of their text; one thread."""

    def __init__(self, embedder: Embedder, size: int) -> None:
        self._embedder = embedder
        self._size = size
        self._vectors: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()

    def __call__(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(n, 384) vectors and (n,) whether each came from the cache."""
        keys = [hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest() for text in texts]
        cached = np.array([key in self._vectors for key in keys], np.bool_)
        missing = [row for row, hit in enumerate(cached) if not hit]
        fresh = self._embedder([texts[row] for row in missing]) if missing else ()
        vectors = np.empty((len(texts), DIMENSIONS), np.float32)
        for row, vector in zip(missing, fresh, strict=True):
            vectors[row] = vector
        for row in cached.nonzero()[0]:
            vectors[row] = self._vectors[keys[row]]
        for row, key in enumerate(keys):
            self._vectors[key] = vectors[row].copy()
            self._vectors.move_to_end(key)
        while len(self._vectors) > self._size:
            self._vectors.popitem(last=False)
        return vectors, cached


@dataclass(frozen=True, slots=True)
class NearestClusters:
    """The `top_p` nearest cluster centres of each row, nearest first: all (n, top_p)."""

    ids: NDArray[np.int64]
    similarities: NDArray[np.float32]

    @property
    def weights(self) -> NDArray[np.float32]:
        """Softmax of the similarities; rows sum to 1."""
        raised = np.exp((self.similarities - self.similarities[:, :1]) / np.float32(CLUSTER_TEMPERATURE))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def nearest_clusters(vectors: NDArray[np.float32], centres: NDArray[np.int16], top_p: int) -> NearestClusters:
    """Cosine similarity of unit `vectors` (n, 384) to `centres` (k, 384, unit × `QUANTA`).

    Both sides are whole numbers whose products add up below 2**24, so a row's result is exact in any batch.
    """
    steps = np.rint(vectors * np.float32(QUANTA))
    similarity = (steps @ centres.astype(np.float32).T) / np.float32(QUANTA * QUANTA)
    ids = (-similarity).argsort(axis=1, kind="stable")[:, :top_p]
    places = ids + np.arange(0, similarity.size, similarity.shape[1])[:, None]
    return NearestClusters(ids, similarity.reshape(-1).take(places))


def _foreign(scanned: Scan) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """A key for each non-ASCII character (its first three bytes), since such scripts have no spaces to cut words at."""
    lead = (scanned.raw >= 0xC2).nonzero()[0]
    keys = (windows(scanned.raw, 4)[lead] & _LEAD_MASK).astype(np.uint64) * _SEED
    return keys ^ (keys >> np.uint64(31)), scanned.row.take(lead).astype(np.int64)


def _signed_counts(keys: NDArray[np.uint64], rows: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """(count, 384) sums of ±1, one coordinate and sign for each key; whole numbers, so exact in any order."""
    mixed = keys * np.uint64(0x9FB21C651E98DF25)
    slot = (mixed >> np.uint64(40)).view(np.int64) % DIMENSIONS
    sign = (mixed.view(np.int64) >> 63) | 1
    sums = np.bincount(rows * DIMENSIONS + slot, weights=sign, minlength=count * DIMENSIONS)
    return np.asarray(sums, np.float64).reshape(count, DIMENSIONS)


def _unit_rows(sums: NDArray[np.float64]) -> NDArray[np.float32]:
    """±√|sum| brought to unit length; Σ |sum| is the squared length, a whole number, so exact in any order."""
    size = np.abs(sums)
    squared_length = size.sum(axis=1, keepdims=True)
    rooted = np.copysign(np.sqrt(size, out=size), sums, out=size)
    return np.asarray(rooted / np.sqrt(np.maximum(squared_length, 1.0)), np.float32)
