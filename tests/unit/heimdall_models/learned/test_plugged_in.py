"""The plug-in of the page of decisions, run on a small model; and clusters made with a plug-in."""

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import orjson
import pytest
from onnx import TensorProto, helper, numpy_helper

from heimdall_models.bundle import CENTRES, MANIFEST, load_bundle
from heimdall_models.embed import DIMENSIONS, CheckedEmbedder, Embedder
from heimdall_models.training.train import train_bundle

PAGE = Path(__file__).parents[4] / "docs" / "decisions.md"
WORDS = ("[UNK]", "[PAD]", "why", "is", "the", "sky", "blue")


def lookup_table() -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(1).normal(size=(len(WORDS), DIMENSIONS)).astype(np.float32)


def write_model(folder: Path) -> None:
    """A model with the inputs and the output of a sentence transformer, whose hidden states are a word's row of a table."""
    tokens = ["n", "tokens"]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, tokens) for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*tokens, DIMENSIONS])
    table = numpy_helper.from_array(lookup_table(), "table")
    node = helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])
    graph = helper.make_graph([node], "made", inputs, [output], [table])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )


def write_tokenizer(folder: Path) -> None:
    tokenizers: Any = import_module("tokenizers")
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(folder / "tokenizer.json"))


@pytest.fixture
def minilm(tmp_path: Path) -> Embedder:
    """The class in the page's code, over a folder that the page's user would have downloaded."""
    write_model(tmp_path)
    write_tokenizer(tmp_path)
    (code,) = re.findall(r"```python\n(.*?class MiniLM:.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(code.replace('os.environ["MINILM_FOLDER"]', repr(str(tmp_path))), namespace)
    embedder: Embedder = namespace["MiniLM"]()
    return embedder


def test_the_pages_plug_in_gives_the_mean_of_the_tokens_that_are_no_padding(minilm: Embedder) -> None:
    table = lookup_table()
    vectors = minilm(["why is the sky blue", "sky"])
    np.testing.assert_allclose(vectors[0], table[[2, 3, 4, 5, 6]].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(vectors[1], table[5], rtol=1e-5)
    assert CheckedEmbedder("minilm", minilm)(["why", "is the sky"]).shape == (2, DIMENSIONS)


def test_clusters_are_made_with_the_plug_in_and_the_manifest_names_it(
    trained: Path, tmp_path: Path, made_table: Callable[..., Any], made_recipe: Callable[..., Any]
) -> None:
    random = np.random.default_rng(2)
    asked: list[int] = []

    def embed(texts: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
        asked.append(len(texts))
        return random.normal(size=(len(texts), DIMENSIONS)).astype(np.float32)

    out = tmp_path / "plugged"
    train_bundle([made_table()], out, made_recipe(embedder=CheckedEmbedder("minilm", embed)))
    assert sum(asked) > 240
    assert load_bundle(out).manifest["embedding"] == "minilm"
    assert "embedding" not in orjson.loads((trained / MANIFEST).read_bytes())
    differ = {file.name for file in out.iterdir() if file.read_bytes() != (trained / file.name).read_bytes()}
    assert differ == {CENTRES, "cluster_domains.npy", MANIFEST}


def test_a_plug_in_that_fails_while_training_is_said(
    tmp_path: Path, made_table: Callable[..., Any], made_recipe: Callable[..., Any]
) -> None:
    def embed(texts: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
        raise ConnectionError("the service is away")

    with pytest.raises(RuntimeError, match="embedder 'minilm' raised ConnectionError: the service is away"):
        train_bundle([made_table()], tmp_path, made_recipe(embedder=CheckedEmbedder("minilm", embed)))
