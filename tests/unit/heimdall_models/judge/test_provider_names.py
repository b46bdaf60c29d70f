"""The names of models at providers."""

import pytest

from heimdall_models.provider_names import is_known_there, names_at

OPUS = "anthropic/claude-opus-5.5"


@pytest.mark.parametrize(
    ("model", "provider_type", "names"),
    [
        (OPUS, "anthropic", ("claude-opus-5-5", "claude-opus-5.5")),
        (OPUS, "openrouter", (OPUS,)),
        (OPUS, "groq", ("claude-opus-5.5",)),
        ("google/gemini-2.5-pro", "gemini", ("gemini-2.5-pro",)),
        ("acme/one", "openai", ("one",)),
        ("acme/one", "openrouter", ("acme/one",)),
    ],
)
def test_a_name_at_a_provider_is_the_providers_own_then_the_models(
    model: str, provider_type: str, names: tuple[str, ...]
) -> None:
    assert names_at(model, provider_type) == names


def test_types_of_one_house_share_its_names() -> None:
    assert names_at("openai/gpt-4o", "openai_responses") == names_at("openai/gpt-4o", "openai")
    assert names_at(OPUS, "bedrock")[0] == "anthropic.claude-opus-5-5"
    assert is_known_there(OPUS, "bedrock", "anthropic.claude-opus-5-5")
    assert not is_known_there(OPUS, "bedrock", "claude-opus-5.5")
