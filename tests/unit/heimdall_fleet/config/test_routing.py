"""What the judge can do and the configuration says: tenants, experiments, embedding, bundles, retired names."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from heimdall_fleet.config import Config, ConfigError, config_hash, load
from heimdall_fleet.config.rules import answer_caches, incomplete, retired, unknown
from heimdall_fleet.settings import cache_directory, catalogue_of, directory_at, model_settings, rules_of
from heimdall_models.catalogue import Latency, Price, Rate, load_catalogue
from heimdall_models.experiment import Arm, Experiment
from heimdall_models.rules import Rules
from heimdall_models.shipped import shipped
from heimdall_schemas.topics import Bucket

TODAY = dt.date(2026, 11, 21)
HALF = {
    "name": "thrift",
    "arms": [{"name": "cheaper", "share": 0.5, "alpha": 0.3, "mid_candidates": ["a/b"], "bundle": "bundles/other"}],
}


def rules(**router: Any) -> Rules:
    config = Config.model_validate({"router": router})
    return rules_of(config, catalogue_of(config, TODAY), config_hash(config))


def test_tenants_and_experiments_reach_the_judge() -> None:
    found = rules(tenants={"acme": ["openai/", "google/gemini-3.8-flash"]}, experiments=[HALF])
    assert found.tenants == {"acme": ("openai/", "google/gemini-3.8-flash")}
    arm = Arm("cheaper", 0.5, alpha=0.3, candidates={Bucket.MID: ("a/b",)}, bundle="bundles/other")
    assert found.experiment == Experiment("thrift", (arm,))
    assert rules().experiment is None


def test_models_whose_first_provider_takes_no_schema_are_known_to_the_judge() -> None:
    keys = {"keys": [{"name": "main", "value": "k"}]}
    both = {"deepseek": {"type": "deepseek", **keys}, "openrouter": {"type": "openrouter", **keys}}
    model = "deepseek/deepseek-v4-pro"
    places = {name: {"provider": name, "model": "x"} for name in both}
    for order, schemaless in ((["deepseek", "openrouter"], True), (["openrouter", "deepseek"], False)):
        facts = {model: {"providers": [places[name] for name in order]}}
        config = Config.model_validate({"providers": both, "models": facts})
        found = rules_of(config, catalogue_of(config, TODAY), "h")
        assert (model in found.schemaless) is schemaless
        assert "openai/gpt-5.5" not in found.schemaless


@pytest.mark.parametrize(
    "router",
    [
        {"experiments": [HALF, {**HALF, "name": "second"}]},
        {"experiments": [{"name": "x", "arms": []}]},
        {"experiments": [{"name": "x", "arms": [{"name": "control", "share": 0.1}]}]},
        {"experiments": [{"name": "x", "arms": [{"name": "a", "share": 0.6}, {"name": "b", "share": 0.6}]}]},
        {"experiments": [{"name": "x", "arms": [{"name": "a", "share": 0.1}, {"name": "a", "share": 0.1}]}]},
        {"tenants": {"acme": []}},
        {"tenants": {"acme": ["openai"]}},
    ],
)
def test_what_makes_no_sense_is_refused(router: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Config.model_validate({"router": router})


def test_budgets_reach_the_judge() -> None:
    config = Config.model_validate({"timeout": "40ms", "feature_timeout": "7ms", "embedding_timeout": "2ms"})
    found = rules_of(config, catalogue_of(config, TODAY), "h")
    assert (found.timeout_ms, found.feature_timeout_ms, found.embedding_timeout_ms) == (40.0, 7.0, 2.0)


@pytest.mark.parametrize("cache", ["exact", "semantic"])
def test_a_cache_of_answers_is_said_to_have_no_effect_yet(cache: str) -> None:
    (said,) = answer_caches(Config.model_validate({"cache": {cache: {"enabled": True}}}), "development")
    assert (said.path, said.severity) == (("cache", cache), "warning")
    assert "no effect" in said.message
    assert not list(answer_caches(Config.model_validate({"cache": {"decision": {"ttl": "1m"}}}), "development"))


def test_a_measured_latency_takes_the_place_of_the_guess_by_price() -> None:
    told = {"openai/gpt-6-luna": {"latency": {"mean": "2s", "sd": "1500ms"}, "price": {"input": 1, "output": 2}}}
    catalogue = catalogue_of(Config.model_validate({"models": told}), TODAY)
    assert catalogue.models["openai/gpt-6-luna"].latency == Latency(2000, 1500, measured=True)
    assert catalogue.hash != catalogue_of(Config(), TODAY).hash


def test_every_price_of_a_model_reaches_dispatch() -> None:
    price = {"input": 1, "output": 2, "cache_read": 0.1, "cache_write": 1.25}
    config = Config.model_validate({"models": {"openai/gpt-5.5": {"price": price}}})
    catalogue = catalogue_of(config, dt.date(2026, 11, 21))
    assert model_settings(catalogue)["openai/gpt-5.5"].price == Price(Rate(1_000_000, 2_000_000, 100_000, 1_250_000))
    long = [name for name, facts in catalogue.models.items() if facts.price and facts.price.long]
    assert long
    assert all(model_settings(catalogue)[name].price == catalogue.models[name].price for name in long)


def test_what_decides_is_part_of_the_fingerprint() -> None:
    changes: list[dict[str, Any]] = [
        {"embedding": {"plugin": "minilm"}},
        {"router": {"tenants": {"acme": ["openai/"]}}},
        {"router": {"experiments": [HALF]}},
        {"timeout": "26ms"},
    ]
    hashes = {config_hash(Config.model_validate(each)) for each in changes}
    assert len(hashes | {config_hash(Config())}) == len(changes) + 1


@pytest.mark.parametrize("url", ["http://artifacts.example.com/latest.json", "ftp://x/y", "s3://bucket/latest.json"])
def test_bundles_come_over_https_only(tmp_path: Path, url: str) -> None:
    (tmp_path / "heimdall.yaml").write_text(f"tuning: {{artifact_url: '{url}'}}\n")
    with pytest.raises(ConfigError, match="is not safe to load from"):
        load(tmp_path / "heimdall.yaml", {})


def test_the_address_of_a_bundle_holds_no_credentials(tmp_path: Path) -> None:
    (tmp_path / "heimdall.yaml").write_text("tuning: {artifact_url: 'https://robot:s3cret@x.example/latest.json'}\n")
    with pytest.raises(ConfigError, match="credentials do not belong in the address"):
        load(tmp_path / "heimdall.yaml", {})


def test_an_address_is_a_directory_or_a_pointer(tmp_path: Path) -> None:
    (tmp_path / "latest").write_text("{}")
    assert directory_at("bundles/default") == shipped("bundles/default")
    assert directory_at(str(tmp_path)) == tmp_path
    assert directory_at(tmp_path.as_uri()) == tmp_path
    pointers = ["https://x.example/latest.json", "file:///srv/latest.json", (tmp_path / "latest").as_uri()]
    assert [directory_at(url) for url in pointers] == [None, None, None]


def test_archives_are_kept_where_the_user_keeps_such_things() -> None:
    chosen = Config.model_validate({"tuning": {"cache_dir": "/tmp/heimdall-cache"}})
    assert cache_directory(chosen, {"HOME": "/home/a"}) == Path("/tmp/heimdall-cache/bundles")
    assert cache_directory(Config(), {"HOME": "/home/a"}) == Path("/home/a/.cache/heimdall/bundles")
    assert cache_directory(Config(), {"XDG_CACHE_HOME": "/c", "HOME": "/home/a"}) == Path("/c/heimdall/bundles")
    assert cache_directory(Config(), {}) is None


def test_a_name_that_no_model_or_author_has_is_told_with_the_nearest() -> None:
    router = {
        "openrouter": {"exclude_authors": ["OpenAI", "opanai", "deepseek/"]},
        "tenants": {"acme": ["Google/", "gogle/", "openai/gpt-5", "openai/gtp-5"]},
    }
    found = list(unknown(Config.model_validate({"router": router}), load_catalogue(TODAY)))
    assert [(one.path[1:], one.hint) for one in found] == [
        (("openrouter", "exclude_authors", 1), "did you mean openai?"),
        (("openrouter", "exclude_authors", 2), "did you mean deepseek?"),
        (("tenants", "acme", 1), "did you mean google?"),
        (("tenants", "acme", 3), "did you mean openai/gpt-5?"),
    ]
    assert {one.severity for one in found} == {"warning"}
    assert all("has no effect" in one.message for one in found)


def test_a_candidate_of_unknown_price_or_window_is_told_with_what_to_set() -> None:
    models = {"acme/unpriced": {"context_window": 100_000}, "acme/endless": {"price": {"input": 1, "output": 2}}}
    candidates = ["acme/unpriced", "acme/endless", "acme/unheard-of", "openai/gpt-6-luna"]
    config = Config.model_validate({"models": models, "router": {"cheap_candidates": candidates}})
    found = list(incomplete(config, catalogue_of(config, TODAY)))
    assert [(one.path[-1], one.message) for one in found] == [
        (0, "acme/unpriced is left out: its price is unknown"),
        (1, "acme/endless is left out: its context_window is unknown"),
        (2, "acme/unheard-of is left out: its price and context_window are unknown"),
    ]
    assert found[0].hint == 'set it under models."acme/unpriced"'


def test_a_retired_candidate_is_named_with_its_replacement_and_date() -> None:
    catalogue = load_catalogue(TODAY)
    name = next(name for name in sorted(catalogue.models) if catalogue.warning(name, TODAY) is not None)
    config = Config.model_validate({"router": {"mid_candidates": ["openai/gpt-6-sol", name]}})
    (finding,) = retired(config, catalogue, TODAY)
    assert finding.path == ("router", "mid_candidates", 1)
    assert finding.severity == "warning"
    assert finding.message == catalogue.warning(name, TODAY)
    assert list(retired(Config(), catalogue, TODAY)) == []
