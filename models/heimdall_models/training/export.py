"""Trees → ONNX, exactly: thresholds are rounded down to float32 so that every branch goes where LightGBM's goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from heimdall_models.features import FEATURE_NAMES

OPSET = 17
ML_OPSET = 3
IR_VERSION = 8


@dataclass(slots=True)
class _Ensemble:
    """The flat arrays of ai.onnx.ml.TreeEnsembleRegressor."""

    tree: list[int] = field(default_factory=list)
    node: list[int] = field(default_factory=list)
    feature: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    mode: list[str] = field(default_factory=list)
    true_node: list[int] = field(default_factory=list)
    false_node: list[int] = field(default_factory=list)
    leaf_tree: list[int] = field(default_factory=list)
    leaf_node: list[int] = field(default_factory=list)
    leaf_value: list[float] = field(default_factory=list)

    def add(self, tree: int, structure: dict[str, Any]) -> None:
        """Append one tree of LightGBM's JSON, parents before children."""
        pending = [(structure, 0)]
        free = 1
        while pending:
            here, number = pending.pop()
            self.tree.append(tree)
            self.node.append(number)
            if "split_feature" not in here:
                self._add_leaf(tree, number, float(here["leaf_value"]))
                continue
            if here["decision_type"] != "<=":
                raise ValueError(f"a split of type {here['decision_type']} has no ONNX counterpart here")
            self.feature.append(int(here["split_feature"]))
            self.threshold.append(_round_down(float(here["threshold"])))
            self.mode.append("BRANCH_LEQ")
            self.true_node.append(free)
            self.false_node.append(free + 1)
            pending += [(here["right_child"], free + 1), (here["left_child"], free)]
            free += 2

    def _add_leaf(self, tree: int, number: int, value: float) -> None:
        self.feature.append(0)
        self.threshold.append(0.0)
        self.mode.append("LEAF")
        self.true_node.append(0)
        self.false_node.append(0)
        self.leaf_tree.append(tree)
        self.leaf_node.append(number)
        self.leaf_value.append(value)


def to_onnx(trees: list[dict[str, Any]]) -> bytes:
    """One TreeEnsembleRegressor from (n, features) float32 to (n, 1) log-odds; the same bytes for the same trees."""
    ensemble = _Ensemble()
    for number, tree in enumerate(trees):
        ensemble.add(number, tree["tree_structure"])
    node = onnx.helper.make_node(
        "TreeEnsembleRegressor",
        ["features"],
        ["log_odds"],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        nodes_treeids=ensemble.tree,
        nodes_nodeids=ensemble.node,
        nodes_featureids=ensemble.feature,
        nodes_values=ensemble.threshold,
        nodes_modes=ensemble.mode,
        nodes_truenodeids=ensemble.true_node,
        nodes_falsenodeids=ensemble.false_node,
        target_treeids=ensemble.leaf_tree,
        target_nodeids=ensemble.leaf_node,
        target_ids=[0] * len(ensemble.leaf_node),
        target_weights=ensemble.leaf_value,
    )
    float_type = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [node],
        "classifier",
        [onnx.helper.make_tensor_value_info("features", float_type, ["n", len(FEATURE_NAMES)])],
        [onnx.helper.make_tensor_value_info("log_odds", float_type, ["n", 1])],
    )
    opsets = [onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    model.producer_name = "heimdall-fleet"
    return bytes(model.SerializeToString(deterministic=True))


def largest_difference(native: NDArray[np.float64], exported: NDArray[np.float64]) -> float:
    """Largest difference of the two probabilities over all rows, from log-odds (n,)."""
    gap = 1 / (1 + np.exp(-native)) - 1 / (1 + np.exp(-exported))
    return float(np.abs(gap).max(initial=0.0))


def _round_down(threshold: float) -> float:
    """The largest float32 ≤ threshold: for a float32 x, x ≤ threshold exactly when x ≤ this."""
    nearest = np.float32(threshold)
    return float(nearest if float(nearest) <= threshold else np.nextafter(nearest, np.float32(-np.inf)))
