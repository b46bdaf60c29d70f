"""What a failure may say: one short line, never a credential, never the prompt."""

import orjson
import pytest

from heimdall_fleet.providers.failures import failure_inside, failure_of_answer, malformed, scrub

NOW_S = 1_795_266_000.0

SECRETS = [
    "sk-ant-api03-AbCd_efgh-1234",
    "sk-proj-abcdefgh12345678",
    "sk-or-v1-0123456789abcdef",
    "sk-abc***********wxyz",
    "gsk_abcdefghijkl",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "AQ.Ab8RN6abcdefghijkl",
    "ya29.a0AfH6SMBx-yz",
    "ABSKQmVkcm9ja0FQSUtleQ==",
    "bedrock-api-key-YmVkcm9jaw",
    "AKIAIOSFODNN7EXAMPLE",
    "xai-abcdefghij",
    "pplx-abcdefghij",
    "hf_abcdefghijkl",
    "nvapi-abcdefghij",
    "fw_abcdefghijkl",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_known_kind_of_key_is_masked_in_a_message(secret: str) -> None:
    body = orjson.dumps({"error": {"message": f"Incorrect API key provided: {secret}. See docs."}})
    message = failure_of_answer("openai", 401, {}, body, NOW_S).message
    assert secret not in message
    assert "[secret]" in message
    assert message.startswith("Incorrect API key provided")


def test_ordinary_words_are_not_masked() -> None:
    text = "task-oriented desk-top model hf_x risk-averse sk- is fine"
    assert scrub(text) == text


def test_the_secret_of_the_call_is_masked_whatever_it_looks_like() -> None:
    error = malformed("the key 0123456789abcdef0123456789abcdef is wrong", secret="0123456789abcdef0123456789abcdef")
    assert error.failure.message == "the key [secret] is wrong"
    inside = failure_inside("azure", {"error": "plainsecretvalue is wrong"}, secret="plainsecretvalue")
    assert inside.message == "[secret] is wrong"


def test_a_message_is_one_line_of_at_most_500_characters() -> None:
    message = failure_of_answer("openai", 400, {}, b"a\r\nb\x1b[31m\x00" + b"x" * 100_000, NOW_S).message
    assert len(message) == 500
    assert message.isprintable()


def test_the_input_that_was_flagged_is_not_repeated() -> None:
    body = orjson.dumps(
        {"error": {"code": 403, "message": "No.", "metadata": {"reasons": ["x"], "flagged_input": "the prompt"}}}
    )
    assert "the prompt" not in failure_of_answer("openrouter", 403, {}, body, NOW_S).message
