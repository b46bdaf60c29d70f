"""A bundle: the classifier, its text model, clusters and tables, as a directory with a manifest that names every file's hash.

A bundle is data from outside. Nothing of it is executed but one checked tree ensemble, nothing is unpickled, and every
size, shape and operator is looked at before memory is given to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from errno import EINVAL
from pathlib import Path
from stat import S_ISREG
from typing import Any

import numpy as np
import orjson
from numpy.typing import DTypeLike, NDArray

from heimdall_models.classify import Classifier, ClassifierError, Platt
from heimdall_models.embed import DIMENSIONS, QUANTA
from heimdall_models.features import FEATURE_NAMES, FEATURE_VERSION
from heimdall_models.npy import NpyRefused, from_npy
from heimdall_models.onnx_check import OnnxRefused, check_onnx
from heimdall_models.text_model import GROUP_BITS, TextModel

FORMAT = 1
MANIFEST = "manifest.json"
ONNX = "classifier.onnx"
TEXT_TABLES = ("text_words.npy", "text_pairs.npy", "text_chars.npy")
CENTRES = "clusters.npy"
CLUSTER_DOMAINS = "cluster_domains.npy"
PERCENTILES = "percentiles.npy"
QUALITY = "quality.json"
REQUIRED_FILES = (ONNX, *TEXT_TABLES, CENTRES, CLUSTER_DOMAINS, PERCENTILES)
PRIOR_TEXT_TABLES = ("prior_text_words.npy", "prior_text_pairs.npy", "prior_text_chars.npy")
"""Of the text model that learning began with, where `TEXT_TABLES` are fitted to logged texts; serving does not need them."""

OPTIONAL_FILES = (QUALITY, *PRIOR_TEXT_TABLES)

DOMAINS = (
    "knowledge",
    "science",
    "math",
    "code",
    "reasoning",
    "chat",
    "long_context",
    "instruction_following",
    "multilingual",
)
PERCENTILE_STEPS = 1001
MAX_FILE_BYTES = 2 * 1024 * 1024
MAX_BUNDLE_BYTES = 4 * 1024 * 1024
MAX_CLUSTERS = 256
LARGEST_NUMBER = 1e9
"""Of calibration and text model; a larger one, or NaN, would overflow every score."""


class BundleError(ValueError):
    """A bundle cannot be used: says which file of which bundle, what is wrong with it and what to do."""

    def __init__(self, path: Path, what: str, fix: str = "fetch or train the bundle again") -> None:
        super().__init__(f"bundle refused: {path}: {what}; {fix}")
        self.path = path
        self.what = what


@dataclass(frozen=True, slots=True)
class Clusters:
    """`centres`: (k, 384) int16, unit vectors × 2047. `domains`: (k, 9) float32, each row a mixture over `DOMAINS`."""

    centres: NDArray[np.int16]
    domains: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What health and doctor show of the classifier; `accuracy` is the in-domain APGR of the manifest, if measured."""

    framework: str
    version: str
    feature_count: int
    tree_count: int
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Bundle:
    """A loaded bundle. `hash` identifies it: the sha-256 of its manifest, which names the hashes of all its files."""

    path: Path
    hash: str
    manifest: Mapping[str, Any]
    info: ModelInfo
    classifier: Classifier
    text_model: TextModel
    clusters: Clusters
    quality_json: bytes | None


def load_bundle(path: Path) -> Bundle:
    """Read and check the bundle in directory `path`. Raises BundleError; nothing else for whatever the files hold."""
    manifest_bytes = _read(path / MANIFEST)
    manifest = _manifest(path / MANIFEST, manifest_bytes)
    files = _verified_files(path, manifest)
    trees = _checked_onnx(path / ONNX, files[ONNX])
    percentiles = _array(path / PERCENTILES, files[PERCENTILES], np.float64, (PERCENTILE_STEPS,))
    if not np.isfinite(percentiles).all() or (np.diff(percentiles) < 0).any():
        raise BundleError(path / PERCENTILES, "the percentile table is not ascending and finite")
    try:
        platt = Platt(*_numbers(path, (manifest["platt"]["slope"], manifest["platt"]["intercept"])))
        text_model = text_model_of(path, [files[name] for name in TEXT_TABLES], manifest["text_model"])
        info = _info(manifest, trees)
        classifier = Classifier(files[ONNX], platt, percentiles)
    except BundleError:
        raise
    except ClassifierError as error:
        raise BundleError(path / ONNX, str(error)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(path / MANIFEST, f"a field is missing or of the wrong type ({error!r})") from error
    return Bundle(
        path=path,
        hash=hashlib.sha256(manifest_bytes).hexdigest(),
        manifest=manifest,
        info=info,
        classifier=classifier,
        text_model=text_model,
        clusters=_clusters(path, files),
        quality_json=files.get(QUALITY),
    )


def _manifest(path: Path, data: bytes) -> Mapping[str, Any]:
    try:
        manifest = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BundleError(path, f"it is not JSON ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(path, f"it is not a bundle manifest of format {FORMAT}")
    if manifest.get("feature_version") != FEATURE_VERSION:
        raise BundleError(
            path,
            f"it was trained on feature version {manifest.get('feature_version')!r}, "
            f"this program extracts version {FEATURE_VERSION!r}",
            "train it again with this version of heimdall-fleet",
        )
    for name in ("metrics", "training_data"):
        if not isinstance(manifest.get(name, {}), dict):
            raise BundleError(path, f"`{name}` is no object")
    tables = manifest.get("training_data", {}).get("tables", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) and "name" in table for table in tables):
        raise BundleError(path, "`training_data.tables` is no list of objects with a name")
    try:
        orjson.dumps(manifest)
    except orjson.JSONEncodeError as error:  # it is nested deeper than anything that shows it can go
        raise BundleError(path, f"it cannot be written as it was read ({error})") from error
    return manifest


def _verified_files(path: Path, manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """The bytes of every file the manifest names, hashes checked; no other name is ever opened."""
    hashes = manifest.get("files")
    if not isinstance(hashes, dict):
        raise BundleError(path / MANIFEST, "it names no files")
    missing = [name for name in REQUIRED_FILES if name not in hashes]
    foreign = [name for name in hashes if name not in (*REQUIRED_FILES, *OPTIONAL_FILES)]
    if missing or foreign:
        raise BundleError(path / MANIFEST, f"files missing from it: {missing}, unknown files in it: {foreign}")
    files = {name: _read(path / name) for name in hashes}
    for name, data in files.items():
        if hashlib.sha256(data).hexdigest() != hashes[name]:
            raise BundleError(path / name, "its hash differs from the manifest's")
    if sum(map(len, files.values())) > MAX_BUNDLE_BYTES:
        raise BundleError(path, f"its files are larger than {MAX_BUNDLE_BYTES} bytes together")
    return files


def read_head(path: Path, limit_bytes: int) -> bytes:
    """The first bytes of a plain file; reading a pipe or a device might wait for ever. Raises OSError."""
    if not S_ISREG(path.stat().st_mode):
        raise OSError(EINVAL, "it is no plain file", str(path))
    with path.open("rb") as file:
        return file.read(limit_bytes)


def _read(path: Path) -> bytes:
    try:
        data = read_head(path, MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BundleError(path, f"it cannot be read ({error.strerror})") from error
    if len(data) > MAX_FILE_BYTES:
        raise BundleError(path, f"it is larger than {MAX_FILE_BYTES} bytes")
    return data


def _checked_onnx(path: Path, data: bytes) -> int:
    try:
        facts = check_onnx(data)
    except OnnxRefused as error:
        raise BundleError(path, str(error)) from error
    if facts.features != len(FEATURE_NAMES):
        raise BundleError(path, f"it takes {facts.features} features, there are {len(FEATURE_NAMES)}")
    return facts.trees


def _array(path: Path, data: bytes, dtype: DTypeLike, shape: tuple[int | None, ...]) -> NDArray[Any]:
    try:
        return from_npy(data, dtype, shape)
    except NpyRefused as error:
        raise BundleError(path, str(error)) from error


def text_model_of(path: Path, tables: Sequence[bytes], described: Mapping[str, Any]) -> TextModel:
    """The text model of three tables of weights and what the manifest says of them. Raises BundleError, KeyError, TypeError
    or ValueError."""
    scales = _numbers(path, described["scales"])
    if len(scales) != len(GROUP_BITS):
        raise BundleError(path / MANIFEST, f"text_model.scales has {len(scales)} numbers, not {len(GROUP_BITS)}")
    weights = tuple(
        _array(path / name, data, np.int8, (1 << bits,))
        for name, data, bits in zip(TEXT_TABLES, tables, GROUP_BITS, strict=True)
    )
    named = described["slopes"]
    if not isinstance(named, dict):
        raise BundleError(path / MANIFEST, "text_model.slopes is no object: feature → slope")
    features = sorted(named)
    bias, *slopes = _numbers(path, (described["bias"], *map(named.get, features)))
    return TextModel(weights, scales, bias, tuple(zip(map(FEATURE_NAMES.index, features), slopes, strict=True)))


def _numbers(path: Path, values: Iterable[Any]) -> tuple[float, ...]:
    found = tuple(map(float, values))
    if not (np.abs(found) <= LARGEST_NUMBER).all():
        raise BundleError(path / MANIFEST, f"not all of {found} are numbers within ±{LARGEST_NUMBER:g}")
    return found


def _clusters(path: Path, files: Mapping[str, bytes]) -> Clusters:
    centres = _array(path / CENTRES, files[CENTRES], np.int16, (None, DIMENSIONS))
    if not 1 <= len(centres) <= MAX_CLUSTERS or np.abs(centres.astype(np.int32)).max() > QUANTA:
        raise BundleError(path / CENTRES, f"it must hold 1 to {MAX_CLUSTERS} centres of at most ±{QUANTA}")
    domains = _array(path / CLUSTER_DOMAINS, files[CLUSTER_DOMAINS], np.float32, (len(centres), len(DOMAINS)))
    if not np.isfinite(domains).all() or (domains < 0).any() or (np.abs(domains.sum(axis=1) - 1) > 1e-3).any():
        raise BundleError(path / CLUSTER_DOMAINS, "its rows are not mixtures: numbers ≥ 0 that sum to 1")
    return Clusters(centres, domains)


def _info(manifest: Mapping[str, Any], trees: int) -> ModelInfo:
    accuracy = manifest.get("accuracy")
    return ModelInfo(
        framework=str(manifest["framework"]),
        version=str(manifest["version"]),
        feature_count=len(FEATURE_NAMES),
        tree_count=trees,
        accuracy=None if accuracy is None else float(accuracy),
    )
