"""Warm start: the classifier that a bundle began with, kept as its first trees, and own trees behind them.

A text model that was fitted to logged texts keeps the tables of the one it began with beside its own: a later training
begins there again, so that nothing of texts which are no longer in the data set stays.

A classifier learned from own traffic is the log-odds of its prior plus a multiple of the difference of two outcome models.
All three are sums of trees, so one ensemble holds them exactly, and the next training takes the prior out again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from heimdall_models.bundle import MANIFEST, ONNX, PRIOR_TEXT_TABLES, TEXT_TABLES, Bundle, BundleError, text_model_of
from heimdall_models.text_model import TextModel

PRIOR_TREES = "prior_trees"
"""Field of the manifest: how many of the first trees are the prior's. Without it, all are."""

PRIOR_TEXT = "prior_text_model"
"""Field of the manifest: `text_model` of the bundle that learning began with. Without it, the text model is its own prior."""

_PER_NODE = ("nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_values", "nodes_modes",
             "nodes_truenodeids", "nodes_falsenodeids")  # fmt: skip
_PER_LEAF = ("target_treeids", "target_nodeids", "target_ids", "target_weights")


@dataclass(frozen=True, slots=True)
class Prior:
    """What a bundle began with: the ONNX model of its first `trees` trees."""

    model: bytes
    trees: int


def read_prior(bundle: Bundle) -> Prior:
    """The prior of a bundle; a bundle that was not learned from logs is a prior itself."""
    trees = int(bundle.manifest.get(PRIOR_TREES, bundle.info.tree_count))
    return Prior(take_trees((bundle.path / ONNX).read_bytes(), trees), trees)


def read_prior_text(bundle: Bundle) -> TextModel:
    """The text model that was fitted to no logged text. Raises BundleError."""
    described = bundle.manifest.get(PRIOR_TEXT)
    if described is None:
        return bundle.text_model
    try:
        return text_model_of(bundle.path, list(_kept_tables(bundle).values()), described)
    except BundleError:
        raise
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BundleError(bundle.path / MANIFEST, f"{PRIOR_TEXT} or its tables cannot be read ({error!r})") from error


def prior_text_files(bundle: Bundle) -> dict[str, bytes]:
    """The tables of `read_prior_text`, to be kept beside those of a text model that was fitted to logged texts."""
    if PRIOR_TEXT in bundle.manifest:
        return _kept_tables(bundle)
    pairs = zip(PRIOR_TEXT_TABLES, TEXT_TABLES, strict=True)
    return {kept: (bundle.path / name).read_bytes() for kept, name in pairs}


def _kept_tables(bundle: Bundle) -> dict[str, bytes]:
    """Only files whose hash the manifest names, and loading has compared. Raises KeyError."""
    return {name: (bundle.path / name).read_bytes() for name in PRIOR_TEXT_TABLES if bundle.manifest["files"][name]}


def take_trees(model: bytes, count: int) -> bytes:
    """The model with its first `count` trees only."""
    loaded = onnx.load_from_string(model)
    fields = _fields(loaded)
    kept_nodes = [tree < count for tree in fields["nodes_treeids"]]
    kept_leaves = [tree < count for tree in fields["target_treeids"]]
    _replace(loaded, {name: _filtered(fields[name], kept_nodes) for name in _PER_NODE})
    _replace(loaded, {name: _filtered(fields[name], kept_leaves) for name in _PER_LEAF})
    return bytes(loaded.SerializeToString(deterministic=True))


def add_trees(model: bytes, added: bytes, factor: float, *, first: int) -> bytes:
    """The model with the trees of `added` behind it, their leaves times `factor`, numbered from `first` on."""
    loaded = onnx.load_from_string(model)
    fields, more = _fields(loaded), _fields(onnx.load_from_string(added))
    for name in ("nodes_treeids", "target_treeids"):
        more[name] = [tree + first for tree in more[name]]
    more["target_weights"] = [weight * factor for weight in more["target_weights"]]
    _replace(loaded, {name: [*fields[name], *more[name]] for name in (*_PER_NODE, *_PER_LEAF)})
    return bytes(loaded.SerializeToString(deterministic=True))


def _fields(model: Any) -> dict[str, list[Any]]:
    return {each.name: list(onnx.helper.get_attribute_value(each)) for each in model.graph.node[0].attribute
            if each.name in (*_PER_NODE, *_PER_LEAF)}  # fmt: skip


def _replace(model: Any, values: Mapping[str, list[Any]]) -> None:
    node = model.graph.node[0]
    kept = [each for each in node.attribute if each.name not in values]
    fresh = [onnx.helper.make_attribute(name, listed) for name, listed in values.items()]
    del node.attribute[:]
    node.attribute.extend(sorted([*kept, *fresh], key=lambda each: str(each.name)))


def _filtered(values: list[Any], keep: list[bool]) -> list[Any]:
    return [value for value, kept in zip(values, keep, strict=True) if kept]
