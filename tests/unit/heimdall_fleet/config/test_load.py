from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from heimdall_fleet.config import Config, ConfigError, Issue, Loaded, find_file, load

KEY = "sk-test-0123456789abcdef"


def write(folder: Path, text: str, name: str = "heimdall.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def loaded(folder: Path, text: str, **env: str) -> Loaded:
    return load(write(folder, text), env)


def issues(folder: Path, text: str, **env: str) -> dict[str, Issue]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text, **env)
    assert KEY not in str(caught.value)
    return {issue.key: issue for issue in caught.value.issues if issue.severity == "error"}


def test_a_file_with_one_key_gets_every_default(tmp_path: Path) -> None:
    config = loaded(tmp_path, "router: {top_p: 3}\n").config
    assert config == Config().model_copy(update={"router": Config().router.model_copy(update={"top_p": 3})})


def test_the_defaults_are_those_that_are_documented() -> None:
    config = load(None, {}).config
    router = config.router
    assert (router.alpha, router.thresholds.cheap, router.thresholds.hard, router.top_p) == (0.7, 0.3, 0.7, 5)
    assert (router.penalties.latency_sd, router.penalties.ctx_over_80pct) == (0.1, 0.15)
    assert (router.bucket_defaults.mid.gpt5_reasoning_effort, router.bucket_defaults.mid.gemini_thinking_budget) == (
        "medium",
        15000,
    )
    assert (router.bucket_defaults.hard.gpt5_reasoning_effort, router.bucket_defaults.hard.gemini_thinking_budget) == (
        "high",
        30000,
    )
    preferences = router.openrouter.provider
    assert (preferences.sort, preferences.max_price_usd_micros, preferences.allow_fallbacks) == (
        "quality",
        30_000_000,
        True,
    )
    assert (config.catalog.refresh_seconds, config.tuning.reload_seconds) == (300, 600)
    assert (config.timeout, config.feature_timeout) == (timedelta(milliseconds=25),) * 2
    assert config.embedding_timeout == timedelta(seconds=15)
    assert (config.cache.decision.ttl, config.cache.decision.max_size) == (timedelta(minutes=5), 10_000)
    assert (config.enable_caching, config.enable_auth, config.enable_fallbacks, config.enable_observability) == (
        True,
    ) * 4
    assert not config.enable_exploration


def test_every_key_of_the_source_design_is_read(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        """
router:
  alpha: 0.6
  thresholds: {cheap: 0.25, hard: 0.8}
  top_p: 3
  penalties: {latency_sd: 0.2, ctx_over_80pct: 0.1}
  bucket_defaults:
    mid: {gpt5_reasoning_effort: low, gemini_thinking_budget: 1}
    hard: {gpt5_reasoning_effort: medium, gemini_thinking_budget: 2}
  cheap_candidates: [qwen/qwen3-coder]
  mid_candidates: [openai/gpt-4o]
  hard_candidates: [openai/gpt-5]
  openrouter: {exclude_authors: [x-ai], provider: {sort: price, max_price: 12.5, allow_fallbacks: false}}
auth_adapters: {enabled: [openai-key, anthropic-oauth]}
catalog: {base_url: "https://catalog.example.com", refresh_seconds: 3600}
tuning: {artifact_url: "https://artifacts.example.com/latest.json", reload_seconds: 300}
timeout: 30ms
cache_ttl: 10m
max_cache_size: 50000
embedding_timeout: 10s
feature_timeout: 20ms
enable_caching: false
enable_auth: false
enable_fallbacks: false
enable_observability: false
enable_exploration: false
""",
    ).config
    assert config.cache.decision.max_size == 50_000
    assert config.cache.decision.ttl == timedelta(minutes=10)
    assert config.router.openrouter.provider.max_price_usd_micros == 12_500_000


def test_flag_goes_before_environment_before_overlay_before_file(tmp_path: Path) -> None:
    path = write(tmp_path, "router: {alpha: 0.1, top_p: 1}\ntimeout: 10ms\nkafka: {topic_prefix: a, client_id: a}\n")
    write(tmp_path, "router: {alpha: 0.2}\nkafka: {topic_prefix: b, client_id: b}\n", "heimdall.staging.yaml")
    env = {
        "ENVIRONMENT": "staging",
        "HEIMDALL_ALPHA": "0.3",
        "HEIMDALL__KAFKA__CLIENT_ID": "c",
        "HEIMDALL_TIMEOUT": "12",
    }
    result = load(path, env, {"kafka.client_id": "d", "kafka.group_instance_id": None})
    config = result.config
    assert (config.router.alpha, config.router.top_p, config.timeout) == (0.3, 1, timedelta(milliseconds=12))
    assert (config.kafka.topic_prefix, config.kafka.client_id) == ("b", "d")
    assert result.origin["router.alpha"] == "environment HEIMDALL_ALPHA"
    assert result.origin["router.top_p"] == f"{path}:1:29"
    assert result.origin["kafka.topic_prefix"].startswith(str(tmp_path / "heimdall.staging.yaml"))
    assert result.origin["kafka.client_id"] == "command line"


def test_the_overlay_of_another_environment_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, "router: {alpha: 7}\n", "heimdall.production.yaml")
    assert loaded(tmp_path, "version: 1\n").environment == "development"
    assert loaded(tmp_path, "version: 1\n", ENV="staging").environment == "staging"


def test_all_mistakes_are_reported_at_once_each_at_its_place(tmp_path: Path) -> None:
    found = issues(
        tmp_path,
        f"""\
providers:
  openai:
    type: openai
    keys: [{{name: main, value: {KEY}, wieght: 1, weight: -2}}]
router:
  alhpa: 0.7
  alpha: 1.7
  thresholds: {{cheap: 0.8, hard: 0.3}}
  top_p: true
  cheap_candidates: []
timeout: 2m
cache: {{decision: {{ttl: abc}}}}
topic_prefix: x
models: {{gpt-5: {{}}}}
observe: {{metrics: {{port: 99999, labels: {{"a-b": c}}}}}}
enable_exploration: true
""",
        ENVIRONMENT="production",
        HEIMDALL_CACHE_SIZE="many",
    )
    assert {key: issue.place and issue.place.line for key, issue in found.items()} == {
        "providers.openai.keys[0].wieght": 4,
        "providers.openai.keys[0].weight": 4,
        "router.alhpa": 6,
        "router.alpha": 7,
        "router.thresholds": 8,
        "router.top_p": 9,
        "router.cheap_candidates": 10,
        "timeout": 11,
        "cache.decision.ttl": 12,
        "topic_prefix": 13,
        "models.gpt-5": 14,
        "observe.metrics.port": 15,
        "observe.metrics.labels.a-b": 15,
        "enable_exploration": 16,
        "cache.decision.max_size": 0,
    }
    assert found["router.alhpa"].hint == "did you mean alpha?"
    assert found["topic_prefix"].hint == "topic_prefix belongs under kafka"
    assert "0 … 1 is allowed" in found["router.alpha"].message
    assert str(found["cache.decision.max_size"].place) == "environment HEIMDALL_CACHE_SIZE"


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("version: 2", "version", "not one of 1"),
        ("router: 5", "router", "a section"),
        ("router: [1]", "router", "a section"),
        ("providers: {a: {}}", "providers.a.type", "missing"),
        ("providers: {a: {type: opnai}}", "providers.a.type", "not one of openai"),
        ("providers: {a: {type: openai}}", "providers.a.keys", "keys are missing"),
        ("providers: {a: {type: custom}}", "providers.a.base_url", "missing"),
        ("providers: {a: {type: vllm}}", "providers.a.base_url", "a vllm provider has no address"),
        ("providers: {a: {type: ollama, base_url: 'http://x/v1?y=1'}}", "providers.a.base_url", "after its path"),
        ("providers: {a: {type: ollama, network: {proxy: 'x:3128'}}}", "providers.a.network.proxy", "http://host:port"),
        (
            'providers: {a: {type: ollama, network: {extra_headers: {"X-A": "b\\r\\nc"}}}}',
            "providers.a.network.extra_headers",
            "line break",
        ),
        (
            "providers: {a: {type: ollama, network: {extra_headers: {X A: b}}}}",
            "providers.a.network.extra_headers",
            "has the name 'X A'",
        ),
        ("providers: {a: {type: azure, keys: [{name: k, value: v}]}}", "providers.a.meta", "missing"),
        ("providers: {a: {type: ollama, meta: {}}}", "providers.a.meta", "no such key"),
        ("providers: {a: {type: ollama, base_url: 'ftp://x'}}", "providers.a.base_url", "http://"),
        ("providers: {a: {type: ollama, base_url: 'http://u:p@x'}}", "providers.a.base_url", "password"),
        ("providers: {a: {type: ollama, network: {timeout: 0}}}", "providers.a.network.timeout", "out of range"),
        ("providers: {a: {type: ollama, key_strategy: random}}", "providers.a.key_strategy", "least_latency"),
        ("providers: {a: {type: openai, keys: [{name: k, value: ''}]}}", "providers.a.keys[0].value", "empty"),
        ("providers: {a: {type: openai, keys: [{name: k, value: v, weight: 0}]}}", "providers.a.keys", "weight 0"),
        (
            "providers: {a: {type: openai, keys: [{name: k, value: v}, {name: k, value: w}]}}",
            "providers.a.keys[1].name",
            "names two keys",
        ),
        ("kafka: {security_protocol: SASL_SSL}", "kafka", "sasl_plain_username"),
        ("kafka: {ssl_certfile: x}", "kafka", "come together"),
        ("kafka: {bootstrap_servers: nowhere}", "kafka.bootstrap_servers", "host:port"),
        ("kafka: {heartbeat_interval_ms: 20000}", "kafka", "third"),
        ("kafka: {reply_topics: ['a b']}", "kafka.reply_topics[0]", "neither a topic name"),
        ("kafka: {reply_topics: ['*']}", "kafka.reply_topics[0]", "neither a topic name"),
        ("kafka: {reply_topics: [heimdall.audit.v1]}", "kafka.reply_topics[0]", "fleet itself"),
        ("kafka: {request_timeout_ms: 15000}", "kafka.request_timeout_ms", "out of range"),
        ("limits: {max_body_bytes: 5MB}", "limits.max_body_bytes", "below kafka.max_message_bytes"),
        ("state: {url: 'postgres://x'}", "state.url", "PostgreSQL"),
        ("state: {url: 'http://x'}", "state.url", "memory://"),
        ("observe: {metrics: {path: /healthz}}", "observe.metrics", "taken"),
        ("auth_adapters: {enabled: [openai_key]}", "auth_adapters.enabled[0]", "openai-key"),
        ("router: {alpha: .nan}", "router.alpha", "out of range"),
        ("enable_caching: perhaps", "enable_caching", "true or false"),
        ("kafka: {client_id: 5}", "kafka.client_id", "text; put it in quotes"),
        ("models: {a/b: {price: {input: 1}}}", 'models."a/b".price.output', "missing"),
        ("models: {a/b: {price: {input: -1, output: 1}}}", 'models."a/b".price.input', "out of range"),
    ],
)
def test_a_broken_rule_names_its_key(tmp_path: Path, text: str, key: str, message: str) -> None:
    found = issues(tmp_path, text)
    assert list(found) == [key]
    assert message in f"{found[key].message} {found[key].hint}"


def test_a_fault_of_the_provider_defaults_is_told_once_and_not_for_each_provider(tmp_path: Path) -> None:
    text = "provider_defaults:\n  network: {timeout: 1ms}\nproviders:\n  a: {type: ollama}\n  b: {type: ollama}\n"
    assert list(issues(tmp_path, text)) == ["provider_defaults.network.timeout"]
    own = text.replace("b: {type: ollama}", "b: {type: ollama, network: {timeout: 1ms}}")
    assert list(issues(tmp_path, own)) == ["provider_defaults.network.timeout", "providers.b.network.timeout"]


def test_production_refuses_what_it_may_not_do_and_warns_of_what_it_should_not(tmp_path: Path) -> None:
    text = "enable_observability: false\nenable_exploration: true\nrouter: {alpha: 0.5, exploration: {share: 0.1}}\n"
    assert set(issues(tmp_path, text, ENVIRONMENT="production")) == {"enable_observability", "enable_exploration"}
    assert loaded(tmp_path, text).config.enable_exploration
    yes = "enable_exploration: true\nrouter: {alpha: 0.5, exploration: {share: 0.1, allow_in_production: true}}\n"
    assert [issue.key for issue in loaded(tmp_path, yes, ENVIRONMENT="production").warnings] == ["router.alpha"]


def test_an_unknown_environment_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"unknown environment 'prod'.*development, staging, production"):
        load(None, {"ENVIRONMENT": "prod"})


def test_a_missing_file_is_another_code_than_a_bad_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="config init") as caught:
        load(tmp_path / "none.yaml", {})
    assert caught.value.code == "MISSING_CONFIG"
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, "a: [\n"), {})
    assert caught.value.code == "INVALID_CONFIG"


def test_a_missing_variable_is_named_once(tmp_path: Path) -> None:
    found = issues(tmp_path, "providers: {a: {type: openai, keys: [{name: k, value: '${NO_KEY}'}]}}")
    assert list(found) == ["providers.a.keys[0].value"]
    assert "NO_KEY is not set" in found["providers.a.keys[0].value"].message


def test_an_empty_section_is_the_default_section(tmp_path: Path) -> None:
    assert loaded(tmp_path, "router:\ndispatch:\nobserve:\n  log:\n").config == Config()


def test_a_provider_takes_what_it_lacks_from_the_defaults_then_from_its_type(tmp_path: Path) -> None:
    text = """
provider_defaults: {network: {max_retries: 7}, circuit: {min_calls: 3}, key_strategy: least-latency}
providers:
  groq: {type: groq, keys: [{name: k, value: v}]}
  claude: {type: claude, keys: [{name: k, value: v}], network: {timeout: 9s, max_retries: 1}}
  router: {type: openrouter, keys: [{name: k, value: v}]}
"""
    config = loaded(tmp_path, text, OPENROUTER_BASE_URL="https://proxy.example/v1/").config
    groq, claude = config.providers["groq"], config.providers["claude"]
    assert (groq.network.timeout, groq.network.max_retries) == (timedelta(seconds=15), 7)
    assert (claude.type, claude.network.timeout, claude.network.max_retries) == ("anthropic", timedelta(seconds=9), 1)
    assert (claude.max_tokens, groq.max_tokens, claude.circuit.min_calls) == (None, None, 3)
    assert claude.key_strategy == "least_latency"
    assert config.providers["router"].base_url == "https://proxy.example/v1"
    assert groq.base_url == "https://api.groq.com/openai/v1"


def test_chains_must_lead_somewhere(tmp_path: Path) -> None:
    text = """
providers:
  openai-primary: {type: openai, keys: [{name: k, value: v}]}
  groq-primary: {type: groq, keys: [{name: k, value: v}]}
dispatch:
  fallbacks: {gpt-4o-mini: [openai-primary/gpt-4o-mini, groq-primry/llama-3.1-8b-instant, openai/gpt-4o]}
"""
    found = issues(tmp_path, text)
    assert list(found) == ["dispatch.fallbacks.gpt-4o-mini[1]"]
    assert found["dispatch.fallbacks.gpt-4o-mini[1]"].hint == "did you mean groq-primary?"


def test_an_offer_of_an_unknown_provider_is_an_error(tmp_path: Path) -> None:
    text = "providers: {local: {type: ollama}}\nmodels: {a/b: {providers: [{provider: locl, model: b}]}}"
    assert issues(tmp_path, text)['models."a/b".providers[0].provider'].hint == "did you mean local?"


def test_candidates_that_nobody_serves_are_a_warning(tmp_path: Path) -> None:
    warnings = loaded(tmp_path, "router: {cheap_candidates: [openai/a, x/y]}\n", OPENAI_API_KEY=KEY).warnings
    cheap = next(issue for issue in warnings if issue.key == "router.cheap_candidates")
    assert "serves x/y; skipped" in cheap.message
    assert loaded(tmp_path, "version: 1\n", OPENROUTER_API_KEY=KEY).warnings == ()


def test_who_serves_a_model_is_asked_in_order(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        """
providers:
  openrouter: {type: openrouter, keys: [{name: k, value: v}]}
  gemini: {type: google, keys: [{name: k, value: v}]}
  openai-eu: {type: openai, keys: [{name: k, value: v}], models: ["gpt-5*"]}
  openai: {type: openai, keys: [{name: k, value: v}]}
models:
  meta/llama: {providers: [{provider: openai-eu, model: llama-3}]}
""",
    ).config
    offers = {
        model: [(offer.provider, offer.model) for offer in config.offers(model)]
        for model in ("openai/gpt-5", "openai/gpt-4o", "google/gemini-2.5-pro", "meta/llama", "qwen/qwen3")
    }
    assert offers == {
        "openai/gpt-5": [("openai", "gpt-5"), ("openai-eu", "gpt-5"), ("openrouter", "openai/gpt-5")],
        "openai/gpt-4o": [("openai", "gpt-4o"), ("openrouter", "openai/gpt-4o")],
        "google/gemini-2.5-pro": [("gemini", "gemini-2.5-pro"), ("openrouter", "google/gemini-2.5-pro")],
        "meta/llama": [("openai-eu", "llama-3")],
        "qwen/qwen3": [("openrouter", "qwen/qwen3")],
    }


def test_a_secret_comes_from_a_file_and_shows_masked(tmp_path: Path) -> None:
    write(tmp_path, KEY + "\n", "key")
    result = loaded(tmp_path, "providers: {a: {type: openai, keys: [{name: k, value: '${file:key}'}]}}")
    assert result.config.providers["a"].keys[0].value == SecretStr(KEY)
    assert KEY not in repr(result)
    assert tmp_path / "key" in result.files


def test_the_file_is_the_one_given_else_the_variables_else_the_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_file(None, {}) is None
    assert find_file(None, {"HEIMDALL_CONFIG": "x.yaml"}) == Path("x.yaml")
    assert find_file(Path("y.yaml"), {"HEIMDALL_CONFIG": "x.yaml"}) == Path("y.yaml")
    write(tmp_path, "")
    assert find_file(None, {}) == Path("heimdall.yaml")
