"""The token estimate beside a real tokenizer, on texts that were not among those it was fitted on."""

from pathlib import Path
from typing import Any

import mistral_common
import orjson
import pytest
from mistral_common.tokens.tokenizers.tekken import Tekkenizer

from heimdall_models.conversation import read_conversation
from heimdall_models.features import extract

TEXTS: dict[str, str] = orjson.loads((Path(__file__).parent / "token_texts.json").read_bytes())


@pytest.fixture(scope="module")
def tokenizer() -> Tekkenizer:
    data = Path(mistral_common.__file__).parent / "data" / "tekken_240911.json"
    return Tekkenizer.from_file(str(data))


def estimated(text: str) -> int:
    return int(extract([read_conversation({"messages": [{"role": "user", "content": text}]})]).token_count[0])


@pytest.mark.parametrize("kind", TEXTS)
def test_the_estimate_is_within_fifteen_percent_of_a_real_tokenizer(kind: str, tokenizer: Tekkenizer) -> None:
    assert abs(estimated(TEXTS[kind]) / len(tokenizer.encode(TEXTS[kind], bos=False, eos=False)) - 1) <= 0.15


def test_the_estimate_is_right_on_the_average_of_all_kinds(tokenizer: Tekkenizer) -> None:
    real = [len(tokenizer.encode(text, bos=False, eos=False)) for text in TEXTS.values()]
    found = [estimated(text) for text in TEXTS.values()]
    assert abs(sum(f / r for f, r in zip(found, real, strict=True)) / len(real) - 1) <= 0.05


def test_text_that_was_not_scanned_counts_like_the_text_that_was() -> None:
    text = TEXTS["english prose"]
    assert abs(estimated(text * 1000) / (1000 * estimated(text)) - 1) < 0.03


def test_a_row_costs_the_same_whatever_stands_beside_it() -> None:
    asks = [read_conversation({"messages": [{"role": "user", "content": text}]}) for text in ["", *TEXTS.values(), ""]]
    together = extract(asks[:64]).token_count.tolist()
    assert together == [extract([ask]).token_count[0] for ask in asks[:64]]


@pytest.mark.parametrize(
    "text",
    [
        "é",
        "é" * 200,
        "ñandú",
        "école",
        "ô" * 500,
        "ø å " * 50,
        "ậ ề " * 30,
        "ა" * 100,
        " " * 1000,
        "\t" * 500,
        "\x01" * 9,
    ],
)
def test_no_text_is_free_and_no_odd_one_costs_more_than_a_real_tokenizer_says(text: str, tokenizer: Tekkenizer) -> None:
    assert 1 <= estimated(text) <= len(tokenizer.encode(text, bos=False, eos=False))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
    ],
)
def test_each_audio_and_file_counts_like_an_image(part: dict[str, Any], count: int) -> None:
    text = {"type": "text", "text": "What is said here?"}
    asks = [read_conversation({"messages": [{"role": "user", "content": [text, *[part] * n]}]}) for n in (0, count)]
    features = extract(asks)
    assert features.token_count[1] - features.token_count[0] == 1000 * count
    assert features.numeric[0].tolist() == features.numeric[1].tolist()


def test_tools_images_and_further_messages_add_tokens() -> None:
    plain = {"messages": [{"role": "user", "content": "What is in the picture?"}]}
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    richer = {
        "messages": [
            {"role": "system", "content": "You are kind."},
            {"role": "user", "content": [{"type": "text", "text": "What is in the picture?"}, image]},
        ],
        "tools": [{"type": "function", "function": {"name": "lookup", "description": "d" * 400}}],
    }
    counts = extract([read_conversation(plain), read_conversation(richer)]).token_count
    assert counts[1] > counts[0] + 1000 + 100
