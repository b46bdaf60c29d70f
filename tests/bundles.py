"""Bundles without training: copies of the shipped one that differ from it."""

import hashlib
from pathlib import Path

import onnx
import orjson

from heimdall_models.bundle import MANIFEST, ONNX
from heimdall_models.shipped import shipped


def dated(folder: Path, day: int) -> Path:
    """The shipped bundle with another creation date in `folder`, so that its hash differs."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in shipped("bundles/default").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    manifest = {**orjson.loads((folder / MANIFEST).read_bytes()), "created": f"2026-11-{day:02}T00:00:00+00:00"}
    (folder / MANIFEST).write_bytes(orjson.dumps(manifest))
    return folder


def give_nan(bundle: Path) -> None:
    """Let the trees of this bundle add up to NaN for every request; it is whole otherwise."""
    model = onnx.load_from_string((bundle / ONNX).read_bytes())
    weights = next(each for each in model.graph.node[0].attribute if each.name == "target_weights")
    weights.floats[:] = [float("nan")] * len(weights.floats)
    (bundle / ONNX).write_bytes(model.SerializeToString())
    manifest = orjson.loads((bundle / MANIFEST).read_bytes())
    manifest["files"][ONNX] = hashlib.sha256((bundle / ONNX).read_bytes()).hexdigest()
    (bundle / MANIFEST).write_bytes(orjson.dumps(manifest))
