"""Who is asked for a model, and by which name."""

import datetime as dt
from pathlib import Path

import pytest

from heimdall_fleet.config import Config, ConfigError, load
from heimdall_fleet.settings import catalogue_of


def configured(folder: Path) -> Config:
    file = folder / "heimdall.yaml"
    file.write_text(PROVIDERS_THAT_LIST)
    return load(file, {}).config


PROVIDERS_THAT_LIST = """
providers:
  openai-1: {type: openai, keys: [{name: k, value: v}], models: [gpt-4o, gpt-4-turbo]}
  openai-2: {type: openai, keys: [{name: k, value: v}], models: [gpt-4-turbo]}
  claude: {type: anthropic, keys: [{name: k, value: v}]}
  claude-old: {type: anthropic, keys: [{name: k, value: v}], models: [claude-3-5-sonnet-20241022]}
  groq: {type: groq, keys: [{name: k, value: v}], models: [llama-3.1-8b-instant]}
  az: {type: azure, keys: [{name: k, value: v}], meta: {endpoint: "https://r.test", deployments: {gpt-4o: mine}}}
  local: {type: custom, base_url: "http://localhost:1/v1", models: [tiny, "big*"]}
  rest: {type: groq, keys: [{name: k, value: v}]}
"""


@pytest.mark.parametrize(
    ("model", "places"),
    [
        ("anthropic/claude-opus-5.5", [("claude", "claude-opus-5-5")]),
        (
            "anthropic/claude-3.5-sonnet",
            [("claude", "claude-3-5-sonnet"), ("claude-old", "claude-3-5-sonnet-20241022")],
        ),
        ("meta-llama/llama-3.1-8b-instruct", [("groq", "llama-3.1-8b-instant")]),
        ("openai/gpt-4o", [("openai-1", "gpt-4o"), ("az", "gpt-4o")]),
        ("openai/gpt-4-turbo", [("openai-1", "gpt-4-turbo"), ("openai-2", "gpt-4-turbo")]),
        ("local/tiny", [("local", "tiny")]),
        ("some/tiny", []),
        ("some/llama-3.1-8b-instant", []),
        ("some/big-one", []),
    ],
)
def test_a_model_is_asked_by_the_name_it_has_at_each_provider(
    tmp_path: Path, model: str, places: list[tuple[str, str]]
) -> None:
    config = configured(tmp_path)
    assert [(offer.provider, offer.model) for offer in config.offers(model)] == places


@pytest.mark.parametrize(
    "spelled", ["anthropic/claude-3.5-sonnet", "Anthropic/Claude-3.5-Sonnet", "anthropic/claude-3-5-sonnet-20241022"]
)
def test_an_entry_says_who_serves_a_model_under_each_spelling_of_its_id(spelled: str) -> None:
    mine = {"type": "custom", "base_url": "http://localhost:1/v1"}
    entry = {"providers": [{"provider": "mine", "model": "sonnet"}]}
    config = Config.model_validate({"providers": {"mine": mine}, "models": {spelled: entry}})
    assert [(offer.provider, offer.model) for offer in config.offers("anthropic/claude-3.5-sonnet")] == [
        ("mine", "sonnet")
    ]


def test_a_name_that_only_a_list_knows_may_be_asked_for(tmp_path: Path) -> None:
    catalogue = catalogue_of(configured(tmp_path), dt.date(2026, 11, 21))
    resolved = {name: catalogue.resolve(name) for name in ("gpt-4-turbo", "tiny", "claude-3-5-sonnet-20241022", "big")}
    assert resolved == {
        "gpt-4-turbo": "openai/gpt-4-turbo",
        "tiny": "local/tiny",
        "claude-3-5-sonnet-20241022": "anthropic/claude-3.5-sonnet",
        "big": None,
    }
    assert catalogue.models["openai/gpt-4-turbo"].price is None


def test_weights_are_of_keys_and_a_provider_has_none(tmp_path: Path) -> None:
    file = tmp_path / "heimdall.yaml"
    file.write_text("providers: {openai: {type: openai, weight: 2, keys: [{name: k, value: v, weight: 3}]}}")
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    assert [issue.key for issue in caught.value.issues if issue.severity == "error"] == ["providers.openai.weight"]


def test_keys_may_come_from_an_account_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "heimdall.yaml"
    file.write_text("providers: {openai: {type: openai}}\ndispatch: {account: vault}")
    assert load(file, {}).config.dispatch.account == "vault"


def test_the_weighted_places_of_a_model_come_before_its_others() -> None:
    keys = {"keys": [{"name": "k", "value": "v"}]}
    places = [{"provider": "spare", "model": "m"}, {"provider": "eu", "model": "m", "weight": 3}]
    providers = {name: {"type": "openai", **keys} for name in ("spare", "eu")}
    config = Config.model_validate({"providers": providers, "models": {"a/b": {"providers": places}}})
    assert [(offer.provider, offer.weight) for offer in config.offers("a/b")] == [("eu", 3), ("spare", None)]
