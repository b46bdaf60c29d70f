import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_models.bundle import MANIFEST, ONNX, PERCENTILES, REQUIRED_FILES, BundleError, load_bundle
from heimdall_models.classify import Classifier, ClassifierError, Platt
from heimdall_models.features import FEATURE_NAMES
from heimdall_models.npy import NpyRefused, from_npy, to_npy
from heimdall_models.onnx_check import OnnxRefused, check_onnx
from heimdall_models.training.train import write_bundle

DEFAULT = Path(__file__).parents[4] / "models" / "bundles" / "default"
Change = Callable[[Path], None]


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "bundle"))


def rewrite_manifest(path: Path, **changes: object) -> None:
    manifest = orjson.loads((path / MANIFEST).read_bytes())
    (path / MANIFEST).write_bytes(orjson.dumps({**manifest, **changes}))


def nest_the_manifest(path: Path) -> None:
    manifest = (path / MANIFEST).read_bytes().rstrip().removesuffix(b"}")
    (path / MANIFEST).write_bytes(manifest + b', "deep": ' + b"[" * 300 + b"]" * 300 + b"}")


def reseal(path: Path, name: str, data: bytes) -> None:
    manifest = orjson.loads((path / MANIFEST).read_bytes())
    files = {file: (path / file).read_bytes() for file in manifest.pop("files")}
    write_bundle(path, {**files, name: data}, manifest)


def test_a_bundle_says_what_it_is(trained: Path) -> None:
    bundle = load_bundle(trained)
    assert (bundle.info.framework, bundle.info.tree_count) == ("lightgbm", 60)
    assert len(bundle.hash) == 64


@pytest.mark.parametrize("name", REQUIRED_FILES)
def test_a_truncated_file_is_refused_by_name(copy: Path, name: str) -> None:
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(BundleError, match=rf"{name}.*hash differs"):
        load_bundle(copy)


@pytest.mark.parametrize("name", [*REQUIRED_FILES, MANIFEST])
def test_a_missing_file_is_refused_by_name(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=f"{name}.*cannot be read"):
        load_bundle(copy)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda p: rewrite_manifest(p, feature_version="0"), "feature version"),
        (lambda p: rewrite_manifest(p, format=99), "format"),
        (lambda p: rewrite_manifest(p, platt={}), "field is missing"),
        (lambda p: rewrite_manifest(p, platt={"slope": "nan", "intercept": 0}), "within"),
        (lambda p: rewrite_manifest(p, text_model={"scales": [1, 1, 1], "bias": 0, "slopes": []}), "slopes"),
        (lambda p: rewrite_manifest(p, text_model={"scales": [1, "inf", 1], "bias": 0, "slopes": {}}), "within"),
        (lambda p: rewrite_manifest(p, text_model={"scales": [1, 1, 1], "bias": "nan", "slopes": {}}), "within"),
        (lambda p: rewrite_manifest(p, files={"../../etc/passwd": "0"}), "unknown files"),
        (lambda p: rewrite_manifest(p, metrics=[1]), "`metrics` is no object"),
        (lambda p: rewrite_manifest(p, training_data={"tables": ["mine"]}), "no list of objects with a name"),
        (nest_the_manifest, "cannot be written as it was read"),
        (lambda p: (p / MANIFEST).write_bytes(b"{"), "not JSON"),
        (lambda p: (p / MANIFEST).write_bytes(b"[]"), "not a bundle manifest"),
        (lambda p: (p / ONNX).write_bytes(b"0" * 3_000_000), "larger than"),
    ],
)
def test_a_foreign_manifest_or_file_is_refused(copy: Path, change: Change, says: str) -> None:
    change(copy)
    with pytest.raises(BundleError, match=says):
        load_bundle(copy)


@pytest.mark.parametrize("name", [PERCENTILES, MANIFEST])
def test_a_pipe_or_a_device_in_the_place_of_a_file_is_refused_and_not_waited_for(copy: Path, name: str) -> None:
    (copy / name).unlink()
    os.mkfifo(copy / name)
    with pytest.raises(BundleError, match=f"{name}.*no plain file"):
        load_bundle(copy)
    (copy / name).unlink()
    (copy / name).symlink_to("/dev/zero")
    with pytest.raises(BundleError, match=f"{name}.*no plain file"):
        load_bundle(copy)


def test_a_percentile_table_that_descends_is_refused(copy: Path) -> None:
    with pytest.raises(BundleError, match="not ascending"):
        reseal(copy, PERCENTILES, to_npy(np.linspace(1.0, 0.0, 1001)))


def test_an_array_of_another_shape_is_refused(copy: Path) -> None:
    with pytest.raises(BundleError, match=r"not a \.npy file"):
        reseal(copy, PERCENTILES, to_npy(np.linspace(0.0, 1.0, 1000)))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_read_as_an_array_never_worse(data: bytes) -> None:
    with pytest.raises(NpyRefused):
        from_npy(data, np.float32, (3, 4))


def test_an_array_comes_back_as_it_was_written() -> None:
    array = np.arange(12, dtype=np.int16).reshape(3, 4)
    np.testing.assert_array_equal(from_npy(to_npy(array), np.int16, (None, 4)), array)


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_as_onnx(data: bytes) -> None:
    with pytest.raises(OnnxRefused):
        check_onnx(data)


@given(st.data(), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_leaves_a_model_that_runs(data: st.DataObject, value: int) -> None:
    changed = bytearray((DEFAULT / ONNX).read_bytes())
    changed[data.draw(st.integers(0, len(changed) - 1))] = value
    with suppress(OnnxRefused, ClassifierError):
        assert check_onnx(bytes(changed)).features == len(FEATURE_NAMES)
        classifier = Classifier(bytes(changed), Platt(1.0, 0.0), np.linspace(0.0, 1.0, 11))
        assert classifier.predict(np.zeros((3, len(FEATURE_NAMES)), np.float32)).ok.shape == (3,)


def test_a_name_that_is_no_text_is_refused_as_a_model_is() -> None:
    model = (DEFAULT / ONNX).read_bytes().replace(b"aggregate_function", b"\xffggregate_function")
    with pytest.raises(ClassifierError, match="utf-8"):
        Classifier(model, Platt(1.0, 0.0), np.linspace(0.0, 1.0, 11))


def changed_node(trained: Path, attribute: str, value: int) -> bytes:
    model = onnx.load_from_string((trained / ONNX).read_bytes())
    found = next(a for a in model.graph.node[0].attribute if a.name == attribute)
    found.ints[0] = value
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("attribute", "value", "says"),
    [
        ("nodes_featureids", 10_000, "feature outside"),
        ("nodes_featureids", -1, "too long|feature outside"),
        ("nodes_truenodeids", 0, "later node"),
        ("nodes_falsenodeids", 9_999, "later node"),
        ("nodes_treeids", 5_000, "not numbered"),
    ],
)
def test_a_tree_that_would_read_or_loop_outside_of_itself_is_refused(
    trained: Path, attribute: str, value: int, says: str
) -> None:
    with pytest.raises(OnnxRefused, match=says):
        check_onnx(changed_node(trained, attribute, value))


@pytest.mark.parametrize("targets", [0, 2, 1_000_000_000])
def test_trees_with_another_number_of_targets_are_refused_before_memory_is_given_to_them(
    trained: Path, targets: int
) -> None:
    model = onnx.load_from_string((trained / ONNX).read_bytes())
    next(a for a in model.graph.node[0].attribute if a.name == "n_targets").i = targets
    with pytest.raises(OnnxRefused, match="one number for each row"):
        check_onnx(bytes(model.SerializeToString()))


def test_a_sparse_initializer_that_would_be_filled_up_is_refused(trained: Path) -> None:
    model = onnx.load_from_string((trained / ONNX).read_bytes())
    model.graph.sparse_initializer.add().dims.append(400_000_000)
    with pytest.raises(OnnxRefused, match="it has initializers"):
        check_onnx(bytes(model.SerializeToString()))


def test_a_tensor_which_may_lie_in_another_file_is_refused(trained: Path) -> None:
    model = onnx.load_from_string((trained / ONNX).read_bytes())
    outside = onnx.TensorProto(name="outside", data_type=onnx.TensorProto.FLOAT, dims=[1479])
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("nodes_values_as_tensor", outside))
    with pytest.raises(OnnxRefused, match="a tensor of its own"):
        check_onnx(bytes(model.SerializeToString()))


@pytest.mark.parametrize("which", ["input", "output"])
def test_a_model_for_so_many_rows_only_is_refused(trained: Path, which: str) -> None:
    model = onnx.load_from_string((trained / ONNX).read_bytes())
    getattr(model.graph, which)[0].type.tensor_type.shape.dim[0].dim_value = 3
    with pytest.raises(OnnxRefused, match=f"its {which} has a fixed number of rows"):
        check_onnx(bytes(model.SerializeToString()))


def test_a_model_that_only_the_runtime_refuses_is_refused_as_a_bundle(copy: Path) -> None:
    model = onnx.load_from_string((copy / ONNX).read_bytes())
    modes = next(a for a in model.graph.node[0].attribute if a.name == "nodes_modes")
    modes.strings[0] = b"BRANCH_NEVER"
    changed = bytes(model.SerializeToString())
    check_onnx(changed)
    with pytest.raises(BundleError, match=r"classifier\.onnx: ONNX Runtime refuses it"):
        reseal(copy, ONNX, changed)


def test_another_operator_is_refused(trained: Path) -> None:
    model = onnx.load_from_string((trained / ONNX).read_bytes())
    model.graph.node[0].op_type = "Loop"
    with pytest.raises(OnnxRefused, match="Loop is not allowed"):
        check_onnx(bytes(model.SerializeToString()))


@pytest.mark.parametrize("version", [0, 99])
def test_another_operator_set_is_refused(trained: Path, version: int) -> None:
    model = onnx.load_from_string((trained / ONNX).read_bytes())
    model.opset_import[0].version = version
    with pytest.raises(OnnxRefused, match=f"version {version} is not allowed"):
        check_onnx(bytes(model.SerializeToString()))


def test_a_classifier_of_other_features_is_refused(copy: Path) -> None:
    model = onnx.load_from_string((copy / ONNX).read_bytes())
    width = model.graph.input[0].type.tensor_type.shape.dim[1]
    width.dim_value += 1
    with pytest.raises(BundleError, match=rf"it takes {width.dim_value} features, there are {width.dim_value - 1}"):
        reseal(copy, ONNX, bytes(model.SerializeToString()))


def test_a_second_node_is_refused(trained: Path) -> None:
    model = onnx.load_from_string((trained / ONNX).read_bytes())
    model.graph.node.append(model.graph.node[0])
    with pytest.raises(OnnxRefused, match="2 of node"):
        check_onnx(bytes(model.SerializeToString()))


def test_the_shipped_bundle_is_small_and_loads_fast() -> None:
    started = time.process_time()
    bundle = load_bundle(DEFAULT)
    assert time.process_time() - started < 0.3
    assert sum(file.stat().st_size for file in DEFAULT.iterdir()) < 2 * 1024 * 1024
    assert bundle.quality_json is not None
