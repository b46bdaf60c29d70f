import pytest

from heimdall_fleet.config import ConfigError, load, require_providers
from heimdall_fleet.config.detect import detect_providers
from heimdall_fleet.config.providers import AzureProvider, VertexProvider


def found(environment: str = "development", **env: str) -> dict[str, list[str]]:
    providers, _ = detect_providers(env, environment)
    return {name: [key["name"] for key in entry.get("keys", [])] for name, entry in providers.items()}


def test_each_key_in_the_environment_is_a_provider() -> None:
    env = {"OPENAI_API_KEY": "a", "ANTHROPIC_API_KEY": "b", "GROQ_API_KEY": "c", "OPENROUTER_API_KEY": "d"}
    assert set(found(**env)) == {"openai", "anthropic", "groq", "openrouter"}


def test_an_empty_variable_is_no_key() -> None:
    assert found(OPENAI_API_KEY="", GROQ_API_KEY="  ") == {}


def test_bedrock_needs_both_halves_and_says_which_is_missing() -> None:
    assert found(AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b") == {"bedrock": ["aws-access-key-id"]}
    providers, warnings = detect_providers({"AWS_ACCESS_KEY_ID": "a"}, "development")
    assert providers == {}
    assert "AWS_SECRET_ACCESS_KEY is not" in warnings[0].message


def test_azure_and_vertex_carry_their_details() -> None:
    env = {
        "AZURE_OPENAI_API_KEY": "a",
        "AZURE_OPENAI_ENDPOINT": "https://x.openai.azure.com",
        "VERTEX_PROJECT_ID": "p",
        "GOOGLE_APPLICATION_CREDENTIALS": "/sa.json",
    }
    config = load(None, env).config
    azure, vertex = config.providers["azure"], config.providers["vertex"]
    assert isinstance(azure, AzureProvider)
    assert isinstance(vertex, VertexProvider)
    assert (azure.meta.endpoint, azure.meta.api_version) == ("https://x.openai.azure.com", "2024-02-15-preview")
    assert (vertex.meta.project_id, vertex.meta.location) == ("p", "us-central1")


def test_gemini_goes_before_google_and_a_difference_is_said() -> None:
    providers, warnings = detect_providers({"GEMINI_API_KEY": "a", "GOOGLE_API_KEY": "b"}, "development")
    assert [key["value"] for key in providers["gemini"]["keys"]] == ["a"]
    assert "GEMINI_API_KEY is used" in warnings[0].message
    assert detect_providers({"GEMINI_API_KEY": "a", "GOOGLE_API_KEY": "a"}, "development")[1] == []


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ("production", ["openai-prod-key-1", "openai-prod-key-2"]),
        ("staging", ["openai-staging-key"]),
        ("development", ["openai-api-key"]),
    ],
)
def test_the_environments_own_keys_go_first(environment: str, expected: list[str]) -> None:
    env = {
        "OPENAI_PROD_KEY_1": "a",
        "OPENAI_PROD_KEY_2": "b",
        "OPENAI_STAGING_KEY": "c",
        "OPENAI_API_KEY": "d",
    }
    assert found(environment, **env) == {"openai": expected}


def test_a_production_key_elsewhere_is_used_with_a_warning() -> None:
    providers, warnings = detect_providers({"OPENAI_PROD_KEY": "a"}, "development")
    assert list(providers) == ["openai"]
    assert "although the environment is development" in warnings[0].message


def test_a_providers_section_switches_detection_off() -> None:
    assert load(None, {"OPENAI_API_KEY": "a", "HEIMDALL__PROVIDERS": "{}"}).config.providers == {}


def test_no_provider_at_all_is_an_error_that_names_the_variables() -> None:
    with pytest.raises(ConfigError, match=r"OPENAI_API_KEY.*AWS_SECRET_ACCESS_KEY.*AZURE_OPENAI_ENDPOINT") as caught:
        require_providers(load(None, {}).config)
    assert caught.value.code == "MISSING_CONFIG"
