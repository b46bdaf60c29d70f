"""Warm start: the classifier that a bundle began with, kept as its first trees, and own trees behind them.

A classifier learned from own traffic is the log-odds of its prior plus a multiple of the difference of two outcome models.
All three are sums of trees, so one ensemble holds them exactly, and the next training takes the prior out again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from heimdall_models.bundle import ONNX, Bundle

PRIOR_TREES = "prior_trees"
"""Field of the manifest: how many of the first trees are the prior's. Without it, all are."""

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
