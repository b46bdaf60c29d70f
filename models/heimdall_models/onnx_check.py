"""Look into an ONNX file before anything runs it: which operators, which shapes, nothing outside the file.

A bundle is data from outside, and the serving install has no `onnx` package; the few fields that matter are read
straight from the protobuf wire format (https://protobuf.dev/programming-guides/encoding, field numbers of onnx.proto).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MODEL_GRAPH, _MODEL_OPSETS, _MODEL_FUNCTIONS = 7, 8, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_SPARSE_INITIALIZER = 1, 5, 11, 12, 15
_NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_INTS, _ATTRIBUTE_STRINGS = 1, 3, 8, 9
_ATTRIBUTE_GRAPHS_AND_TENSORS = (5, 6, 10, 11, 22, 23)
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_VALUE_TYPE, _TYPE_TENSOR, _TENSOR_ELEMENT, _TENSOR_SHAPE, _SHAPE_DIM, _DIM_VALUE = 2, 1, 1, 2, 1, 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_INTS_KEY = _ATTRIBUTE_INTS << 3 | _VARINT
_LONGEST_VARINT = 9
_NODE_ARRAYS = ("nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids")
FLOAT = 1
"""TensorProto.FLOAT."""

ALLOWED_OPERATORS = frozenset({"ai.onnx.ml:TreeEnsembleRegressor"})
ALLOWED_OPSETS = {"": range(1, 24), "ai.onnx.ml": range(1, 6)}
MAX_TREES = 300


class OnnxRefused(ValueError):
    """The ONNX file is malformed or holds something a classifier does not need."""


@dataclass(frozen=True, slots=True)
class OnnxFacts:
    """What was found: `features` is the width of the one float input, `trees` how many there are."""

    features: int
    trees: int


def check_onnx(data: bytes) -> OnnxFacts:
    """Refuse (OnnxRefused) everything but one tree ensemble from one float matrix to one float column."""
    graph = _only(data, _MODEL_GRAPH, "graph")
    if any(True for _ in _fields(data, _MODEL_FUNCTIONS)):
        raise OnnxRefused("it defines functions of its own")
    for opset in _fields(data, _MODEL_OPSETS):
        _check_opset(_bytes(opset))
    if any(True for _ in _fields(graph, _GRAPH_INITIALIZER, _GRAPH_SPARSE_INITIALIZER)):
        raise OnnxRefused("it has initializers; a tree ensemble has none")
    node = _only(graph, _GRAPH_NODE, "node")
    _check_operator(node)
    features = _width(_only(graph, _GRAPH_INPUT, "input"), "input")
    if _width(_only(graph, _GRAPH_OUTPUT, "output"), "output") != 1:
        raise OnnxRefused("its output is not one column")
    return OnnxFacts(features, _check_trees(node, features))


def _check_opset(opset: bytes) -> None:
    domain = b"".join(_bytes(value) for value in _fields(opset, _OPSET_DOMAIN)).decode("utf-8", "replace")
    version = next((value for value in _fields(opset, _OPSET_VERSION) if isinstance(value, int)), 0)
    if version not in ALLOWED_OPSETS.get(domain, range(0)):
        raise OnnxRefused(f"operator set {domain or 'ai.onnx'!r} version {version} is not allowed")


def _check_operator(node: bytes) -> None:
    domain = b"".join(_bytes(value) for value in _fields(node, _NODE_DOMAIN)).decode("utf-8", "replace")
    operator = b"".join(_bytes(value) for value in _fields(node, _NODE_OPERATOR)).decode("utf-8", "replace")
    if f"{domain}:{operator}" not in ALLOWED_OPERATORS:
        raise OnnxRefused(f"operator {domain}:{operator} is not allowed, only {sorted(ALLOWED_OPERATORS)}")


def _check_trees(node: bytes, features: int) -> int:
    """How many trees; refused unless every branch reads a known feature and leads on, within its tree, to a later node."""
    attributes = {_name(body): body for body in map(_bytes, _fields(node, _NODE_ATTRIBUTE))}
    if any(True for body in attributes.values() for _ in _fields(body, *_ATTRIBUTE_GRAPHS_AND_TENSORS)):
        raise OnnxRefused("its node carries a graph or a tensor of its own")
    if list(_fields(attributes.get("n_targets", b""), _ATTRIBUTE_INT)) != [1]:
        raise OnnxRefused("its trees do not add up to one number for each row")  # so much memory is given to every row
    tree, number, feature, true, false = (_integers(attributes.get(name, b"")) for name in _NODE_ARRAYS)
    leaf = np.array([_bytes(m) == b"LEAF" for m in _fields(attributes.get("nodes_modes", b""), _ATTRIBUTE_STRINGS)])
    if not len(tree) or len({len(a) for a in (tree, number, feature, true, false, leaf)}) != 1:
        raise OnnxRefused("its node arrays are missing or of different lengths")
    sizes = np.bincount(np.clip(tree, 0, MAX_TREES))
    if tree.min() < 0 or tree.max() >= MAX_TREES or (sizes == 0).any():
        raise OnnxRefused(f"its trees are not numbered from 0 to at most {MAX_TREES - 1}")
    places = np.lexsort((number, tree))
    counted = np.arange(len(tree)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    if (number[places] != counted).any():
        raise OnnxRefused("the nodes of a tree are not numbered from 0 without gaps")
    inner = ~leaf
    if ((feature[inner] < 0) | (feature[inner] >= features)).any():
        raise OnnxRefused(f"a branch reads a feature outside of its {features}")
    for child in (true[inner], false[inner]):
        if ((child <= number[inner]) | (child >= sizes[tree[inner]])).any():
            raise OnnxRefused("a branch does not lead to a later node of its tree")
    return len(sizes)


def _name(attribute: bytes) -> str:
    return b"".join(_bytes(name) for name in _fields(attribute, _ATTRIBUTE_NAME)).decode("utf-8", "replace")


def _integers(attribute: bytes) -> NDArray[np.int64]:
    """The attribute's list of integers. A tree has thousands: from the first on, all numbers are decoded at once."""
    at = 0
    while at < len(attribute) and attribute[at] != _INTS_KEY:
        at = _skip(attribute, at)
    data = np.frombuffer(attribute, np.uint8)[at:]
    ends = np.flatnonzero(data < 0x80)
    if not len(ends):
        return np.zeros(0, np.int64)
    starts = np.concatenate((np.zeros(1, np.int64), ends[:-1] + 1))
    if (ends - starts).max() >= _LONGEST_VARINT:
        raise OnnxRefused("it holds a number that is too long")
    digit = np.arange(ends[-1] + 1) - np.repeat(starts, ends - starts + 1)
    parts = (data[: ends[-1] + 1] & 0x7F).astype(np.int64) << (7 * digit)
    numbers = np.add.reduceat(parts, starts)
    # Keys and values take turns until the list ends.
    keys, values = numbers[::2], numbers[1::2]
    listed = len(keys) if (keys == _INTS_KEY).all() else int(np.argmin(keys == _INTS_KEY))
    return values[:listed]


def _skip(data: bytes, at: int) -> int:
    """Where the field after the one at `at` begins."""
    key, at = _varint(data, at)
    if key & 7 == _BYTES:
        size, at = _varint(data, at)
        return at + size
    if key & 7 == _VARINT:
        return _varint(data, at)[1]
    return at + (4 if key & 7 == _FIXED32 else 8)


def _width(value_info: bytes, which: str) -> int:
    tensor = _only(_only(value_info, _VALUE_TYPE, "type"), _TYPE_TENSOR, "tensor type")
    if list(_fields(tensor, _TENSOR_ELEMENT)) != [FLOAT]:
        raise OnnxRefused(f"its {which} is not float32")
    dimensions = [_bytes(dim) for dim in _fields(_only(tensor, _TENSOR_SHAPE, "shape"), _SHAPE_DIM)]
    if len(dimensions) != 2:
        raise OnnxRefused(f"its {which} has {len(dimensions)} dimensions, not 2")
    if any(True for _ in _fields(dimensions[0], _DIM_VALUE)):
        raise OnnxRefused(f"its {which} has a fixed number of rows")
    widths = [value for value in _fields(dimensions[1], _DIM_VALUE) if isinstance(value, int)]
    if len(widths) != 1:
        raise OnnxRefused(f"its {which} has no fixed width")
    return widths[0]


def _only(data: bytes, field: int, name: str) -> bytes:
    found = [_bytes(value) for value in _fields(data, field)]
    if len(found) != 1:
        raise OnnxRefused(f"it has {len(found)} of {name}, not one")
    return found[0]


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise OnnxRefused("a number stands where a message is due")
    return value


def _fields(data: bytes, *wanted: int) -> Iterator[int | bytes]:
    """The values of the fields `wanted` in a protobuf message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        value: int | bytes
        if kind == _VARINT:
            value, at = _varint(data, at)
        elif kind == _BYTES:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
            value, at = data[at : at + size], at + size
        else:
            raise OnnxRefused(f"it is not protobuf: wire type {kind}")
        if at > len(data):
            raise OnnxRefused("it is truncated")
        if number in wanted:
            yield value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise OnnxRefused("it is truncated")
