"""What is generated from the models: the reference page, the JSON Schema, the files to start from."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from heimdall_fleet.config import Config, load
from heimdall_fleet.config.describe import at, keys_at
from heimdall_fleet.config.load import ENVIRONMENTS
from heimdall_fleet.config.model import Environment
from heimdall_fleet.config.reference import reference
from heimdall_fleet.config.schema import json_schema
from heimdall_fleet.config.show import as_data, as_yaml, with_origin
from heimdall_fleet.config.starter import starter_file

ROOT = Path(__file__).parents[4]
KEY = "sk-test-0123456789abcdef"
FULL: dict[str, Any] = {
    "providers": {
        "openai": {"type": "openai", "keys": [{"name": "main", "value": KEY}], "network": {"proxy": "http://u:pw@p:1"}},
        "azure": {"type": "azure", "keys": [{"name": "k", "value": KEY}], "meta": {"endpoint": "https://a.example"}},
    },
    "models": {"openai/gpt-5": {"context_window": 400000, "price": {"input": 1.25, "output": 10, "cache_read": 0.125}}},
    "state": {"url": "redis://:state-password@h:6379/0"},
}


def test_the_reference_page_is_fresh() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page == reference(), "run: python -m heimdall_fleet.config.reference > docs/configuration.md"


def test_every_key_says_what_it_means() -> None:
    rows = [line for line in reference().partition("## Types of providers")[0].splitlines() if line.startswith("| `")]
    assert len(rows) > 150
    assert [row for row in rows if row.endswith("|  |")] == []


def test_the_schema_is_valid_and_agrees_with_the_loader() -> None:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    good: list[dict[str, Any]] = [
        FULL,
        {"timeout": "${T:-25ms}", "router": {"alpha": "${A}", "top_p": 3}, "max_cache_size": 5},
        {"providers": {"a": {"type": "claude", "key_strategy": "round-robin"}}},
    ]
    assert [list(validator.iter_errors(data)) for data in good] == [[], [], []]
    bad: list[dict[str, Any]] = [
        {"router": {"alhpa": 1}},
        {"router": {"alpha": 2}},
        {"providers": {"a": {"type": "x"}}},
        {"timeout": "soon"},
    ]
    assert all(list(validator.iter_errors(data)) for data in bad)


def test_the_file_to_start_from_loads_and_matches_the_schema(tmp_path: Path) -> None:
    name, text = starter_file()
    (tmp_path / name).write_text(text)
    assert load(tmp_path / name, {}).config == Config()
    assert list(Draft202012Validator(json_schema()).iter_errors(yaml.safe_load(text))) == []


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ("development", ("30s", 1, 5, 50, "debug")),
        ("staging", ("45s", 2, 15, 150, "info")),
        ("production", ("1m", 3, 50, 500, "warn")),
    ],
)
def test_the_profiles_have_their_numbers(
    tmp_path: Path, environment: Environment, expected: tuple[str, int, int, int, str]
) -> None:
    for wanted in (None, *ENVIRONMENTS):
        name, text = starter_file(wanted)
        (tmp_path / name).write_text(text)
    result = load(tmp_path / "heimdall.yaml", {"ENVIRONMENT": environment, "OPENROUTER_API_KEY": KEY})
    data = as_data(result.config)
    provider = data["providers"]["openrouter"]
    network = provider["network"]
    assert result.warnings == ()
    assert (
        network["timeout"],
        network["max_retries"],
        provider["concurrency"],
        provider["buffer"],
        data["observe"]["log"]["level"],
    ) == expected


def test_what_is_shown_is_a_configuration_without_its_credentials() -> None:
    shown = as_yaml(Config.model_validate(FULL))
    assert not [secret for secret in (KEY, "pw@", "state-password") if secret in shown]
    assert "redis://***@h:6379/0" in shown
    again = Config.model_validate(yaml.safe_load(shown))
    assert as_yaml(again) == shown


def test_the_origin_of_a_default_is_said(tmp_path: Path) -> None:
    (tmp_path / "heimdall.yaml").write_text(
        "router: {alpha: 0.6}\nproviders: {g: {type: groq, keys: [{name: k, value: v}]}}\n"
    )
    origin = {key: source for key, _, source in with_origin(load(tmp_path / "heimdall.yaml", {}))}
    assert origin["router.alpha"] == f"{tmp_path}/heimdall.yaml:1:17"
    assert origin["router.top_p"] == "default"
    assert origin["providers.g.network.timeout"] == "default of type groq"


def test_keys_are_found_by_their_place() -> None:
    alpha = at(("router", "alpha"))
    price = at(("models", "a/b", "price", "input"))
    meta = at(("providers", "x", "meta", "deployments", "gpt-4"))
    assert alpha is not None
    assert alpha.allowed == "0 … 1"
    assert price is not None
    assert meta is not None
    assert at(("router", "nope")) is None
    assert "alpha" in keys_at(("router",))
    assert {"endpoint", "region", "project_id"} <= set(keys_at(("providers", "x", "meta")))
