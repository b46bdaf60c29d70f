import subprocess
import sys
from typing import Any

from heimdall_fleet.config import Config, config_hash, diff
from heimdall_fleet.config.change import secrets_of
from heimdall_fleet.config.show import as_yaml

KEY = "sk-test-0123456789abcdef"


def config(**data: Any) -> Config:
    return Config.model_validate(data)


def keyed(value: str) -> Config:
    return config(providers={"a": {"type": "openai", "keys": [{"name": "k", "value": value}]}})


def test_equal_configurations_do_not_differ() -> None:
    assert diff(keyed(KEY), keyed(KEY)) == ()


def test_a_change_names_its_key_and_both_values() -> None:
    (change,) = diff(config(), config(router={"alpha": 0.5}))
    assert (change.key, change.old, change.new, change.restart) == ("router.alpha", 0.7, 0.5, False)
    assert str(change) == "router.alpha: 0.7 → 0.5"


def test_a_changed_credential_is_a_change_that_shows_nothing() -> None:
    (change,) = diff(keyed(KEY), keyed(KEY + "x"))
    assert change.key == "providers.a.keys[0].value"
    assert "sk-" not in f"{change} {change!r}"


def test_the_query_of_an_address_is_a_change_that_shows_nothing() -> None:
    urls = [f"https://host/latest.json?token={token}" for token in ("SECRET-1", "SECRET-2")]
    (change,) = diff(*(config(tuning={"artifact_url": url}) for url in urls))
    assert str(change) == "tuning.artifact_url: https://host/latest.json?*** → https://host/latest.json?***"
    assert "SECRET" not in f"{change!r}{as_yaml(config(tuning={'artifact_url': urls[0]}))}"


def test_what_needs_a_restart_says_so() -> None:
    assert [change.restart for change in diff(config(), config(kafka={"client_id": "x"}))] == [True]
    assert [change.restart for change in diff(config(), config(observe={"metrics": {"port": 1}}))] == [True]


def test_an_added_provider_is_a_change_of_each_of_its_values() -> None:
    assert "providers.a.type" in {change.key for change in diff(config(), keyed(KEY))}


def test_the_hash_follows_what_decides_and_nothing_else() -> None:
    base = config_hash(keyed(KEY))
    assert config_hash(keyed("another-key")) == base
    assert config_hash(keyed(KEY).model_copy(update={"kafka": config(kafka={"client_id": "x"}).kafka})) == base
    assert config_hash(config(router={"alpha": 0.5})) != config_hash(config())
    assert config_hash(config()) != base


def test_the_hash_is_the_same_in_another_process() -> None:
    code = "from heimdall_fleet.config import Config, config_hash; print(config_hash(Config()))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == config_hash(Config())


def test_every_credential_is_known_to_whoever_must_hide_it() -> None:
    secret = config(
        kafka={"sasl_plain_password": "broker-password"},
        state={"url": "redis://:redis-password@h/0"},
        providers={"a": {"type": "ollama", "network": {"extra_headers": {"X-A": "header-secret"}}}},
    )
    assert {"broker-password", "header-secret", "redis-password"} == set(secrets_of(secret))
