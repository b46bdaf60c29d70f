"""From the configuration to the plain frozen values that the rooms of the house take. Pure."""

import datetime as dt
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from heimdall_fleet.config import Config, routing
from heimdall_fleet.config.provider_types import OWN_SERVERS
from heimdall_fleet.config.providers import AzureProvider, Key, Provider, listed
from heimdall_fleet.config.routing import Model, Offer
from heimdall_fleet.dispatch.settings import (
    BreakerSettings,
    DispatchSettings,
    FailoverSettings,
    JudgeSettings,
    KeySettings,
    KeyStrategy,
    ModelSettings,
    NetworkSettings,
    ProviderSettings,
    ShadowSettings,
)
from heimdall_fleet.kafka.settings import KafkaSettings
from heimdall_fleet.providers.compat import PROFILES
from heimdall_fleet.shown import shown_address
from heimdall_fleet.triage.question import Questions
from heimdall_models.catalogue import Catalogue, Latency, ModelFacts, Override, Rate, load_catalogue
from heimdall_models.experiment import Arm, Experiment
from heimdall_models.provider_names import id_of
from heimdall_models.rules import BUDGET, EFFORT, Penalties, Rules
from heimdall_models.shipped import shipped
from heimdall_schemas.codec import Limits
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.topics import Bucket

RECORD_ROOM_BYTES = 64 * 1024
"""What a record needs beside its value, and what the fleet keeps free for it."""


def kafka_settings(config: Config, client_id: str) -> KafkaSettings:
    """The connection. `client_id` names the process in the broker's logs and quotas."""
    kafka = config.kafka
    return KafkaSettings(
        bootstrap_servers=kafka.bootstrap_servers,
        client_id=client_id,
        security_protocol=kafka.security_protocol,
        ssl_cafile=kafka.ssl_cafile,
        ssl_certfile=kafka.ssl_certfile,
        ssl_keyfile=kafka.ssl_keyfile,
        ssl_password=kafka.ssl_password.get_secret_value() if kafka.ssl_password else None,
        ssl_check_hostname=kafka.ssl_check_hostname,
        sasl_mechanism=kafka.sasl_mechanism,
        sasl_plain_username=kafka.sasl_plain_username,
        sasl_plain_password=kafka.sasl_plain_password.get_secret_value() if kafka.sasl_plain_password else None,
        session_timeout_ms=kafka.session_timeout_ms,
        heartbeat_interval_ms=kafka.heartbeat_interval_ms,
        metadata_max_age_ms=kafka.metadata_max_age_ms,
        request_timeout_ms=kafka.request_timeout_ms,
        max_poll_interval_ms=kafka.max_poll_interval_ms,
        fetch_max_wait_ms=kafka.fetch_max_wait_ms,
        fetch_max_bytes=kafka.fetch_max_bytes,
        max_partition_fetch_bytes=kafka.max_partition_fetch_bytes,
        group_instance_id=kafka.group_instance_id,
    )


def limits_of(config: Config) -> Limits:
    limits = config.limits
    return Limits(
        max_body_bytes=limits.max_body_bytes,
        max_depth=limits.max_json_depth,
        max_messages=limits.max_messages,
        max_headers=limits.max_headers,
        max_header_bytes=limits.max_header_bytes,
    )


def directory_at(url: str) -> Path | None:
    """The directory that `url` names; a relative one starts at the shipped models. None: a pointer's address."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        path = Path(url2pathname(parts.path))
        return None if path.is_file() or path.suffix == ".json" else path
    if parts.scheme:
        return None
    path = Path(url)
    return path if path.is_absolute() or path.exists() else shipped(url)


def bundle_directory(config: Config) -> Path:
    """The directory that `tuning.artifact_url` names. Raises Failure when it is the address of a pointer."""
    url = config.tuning.artifact_url
    path = directory_at(url)
    if path is None:
        raise Failure(
            FailureCode.HEIMDALL_CONFIG,
            f"tuning.artifact_url is {shown_address(url)!r}, the address of a pointer; name a directory here",
        )
    return path


def cache_directory(config: Config, env: Mapping[str, str]) -> Path | None:
    """Where fetched archives are kept; None where no home is known."""
    if config.tuning.cache_dir is not None:
        return Path(config.tuning.cache_dir) / "bundles"
    base = env.get("XDG_CACHE_HOME") or (f"{env['HOME']}/.cache" if env.get("HOME") else None)
    return None if base is None else Path(base) / "heimdall" / "bundles"


def catalogue_of(config: Config, today: dt.date) -> Catalogue:
    """The shipped catalogue with what `models:` adds or corrects, and the names that only a provider's list knows."""
    catalogue = load_catalogue(today).with_overrides({name: _override(model) for name, model in config.models.items()})
    unknown = {
        _id_of(provider, entry.type, name): Override()
        for provider, entry in config.providers.items()
        for name in sorted(listed(entry))
        if catalogue.resolve(name) is None
    }
    return catalogue.with_overrides(unknown) if unknown else catalogue


def _id_of(provider: str, kind: str, name: str) -> str:
    """An id for a model that only a provider's list names. Servers of one's own may call different models alike."""
    if kind == "openrouter" and "/" in name:
        return name
    return f"{provider if kind in OWN_SERVERS else kind}/{name}"


def _override(model: Model) -> Override:
    price, latency = model.price, model.latency
    return Override(
        context_window=model.context_window,
        max_output=model.max_output,
        price=None
        if price is None
        else Rate(
            price.input_usd_micros,
            price.output_usd_micros,
            price.cache_read_usd_micros,
            price.cache_write_usd_micros,
        ),
        latency=None if latency is None else Latency(_ms(latency.mean), _ms(latency.sd), measured=True),
        tools=model.tools,
        images=model.images,
        structured_output=model.structured_output,
        aliases=tuple(model.aliases),
    )


def questions_of(config: Config) -> Questions:
    """What decision records say of questions: the `learning` section."""
    secret = config.learning.question_secret
    return Questions(
        None if secret is None else secret.get_secret_value().encode(), frozenset(config.learning.keep_text_of)
    )


def rules_of(config: Config, catalogue: Catalogue, config_hash: str) -> Rules:
    """The `router` section, and who serves which model."""
    router = config.router
    offers = {model: config.offers(model) for model in catalogue.models}
    return Rules(
        served={model: found[0].provider for model, found in offers.items() if found},
        alpha=router.alpha,
        cheap_below=router.thresholds.cheap,
        hard_above=router.thresholds.hard,
        top_p=router.top_p,
        penalties=Penalties(router.penalties.latency_sd, router.penalties.ctx_over_80pct),
        candidates={
            Bucket.CHEAP: tuple(router.cheap_candidates),
            Bucket.MID: tuple(router.mid_candidates),
            Bucket.HARD: tuple(router.hard_candidates),
        },
        bucket_defaults={
            bucket: {EFFORT: chosen.gpt5_reasoning_effort, BUDGET: chosen.gemini_thinking_budget}
            for bucket, chosen in ((Bucket.MID, router.bucket_defaults.mid), (Bucket.HARD, router.bucket_defaults.hard))
        },
        exclude_authors=tuple(router.openrouter.exclude_authors),
        max_price_usd=router.openrouter.provider.max_price_usd_micros / 1_000_000,
        schemaless=frozenset(
            model for model, found in offers.items() if found and not _takes_schemas(found[0], config)
        ),
        by_openrouter=frozenset(name for name, provider in config.providers.items() if provider.type == "openrouter"),
        tenants=dict(router.tenants),
        exploration=router.exploration.share if config.enable_exploration else 0.0,
        across=router.exploration.across,
        experiment=_experiment(router.experiments[0]) if router.experiments else None,
        switch_margin=router.switch_margin,
        feature_timeout_ms=config.feature_timeout / timedelta(milliseconds=1),
        embedding_timeout_ms=config.embedding_timeout / timedelta(milliseconds=1),
        timeout_ms=config.timeout / timedelta(milliseconds=1),
        config_hash=config_hash,
    )


def _takes_schemas(offer: Offer, config: Config) -> bool:
    profile = PROFILES.get(config.providers[offer.provider].type)
    return profile is None or profile.json_schema


def _experiment(experiment: routing.Experiment) -> Experiment:
    return Experiment(experiment.name, tuple(_arm(arm) for arm in experiment.arms))


def _arm(arm: routing.Arm) -> Arm:
    lists = {Bucket.CHEAP: arm.cheap_candidates, Bucket.MID: arm.mid_candidates, Bucket.HARD: arm.hard_candidates}
    candidates = {bucket: tuple(models) for bucket, models in lists.items() if models is not None}
    return Arm(arm.name, arm.share, arm.alpha, candidates or None, arm.bundle)


def dispatch_settings(config: Config, worker: str) -> DispatchSettings:
    dispatch = config.dispatch
    return DispatchSettings(
        worker=worker,
        failover=FailoverSettings(
            enabled=config.enable_fallbacks,
            max_attempts=dispatch.max_attempts,
            fallbacks=_by_id(dispatch.fallbacks),
            context_window_fallbacks=_by_id(dispatch.context_window_fallbacks),
            content_policy_fallbacks=_by_id(dispatch.content_policy_fallbacks),
        ),
        hedge_after_ms=None if dispatch.hedge_after is None else _ms(dispatch.hedge_after),
        max_reply_bytes=config.kafka.max_message_bytes - RECORD_ROOM_BYTES,
        shadow=shadow_settings(config),
        shared_state=not config.state.url.get_secret_value().startswith("memory:"),
    )


def _by_id(chains: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Chains by the id of the model that each begins with, in whichever spelling it is written; the id itself goes first."""
    return {id_of(name): chain for name, chain in chains.items()} | dict(chains)


def shadow_settings(config: Config) -> ShadowSettings:
    """What dispatch must know of shadow pairs."""
    shadow, judge = config.learning.shadow, config.learning.judge
    scored = None if judge is None else JudgeSettings(judge.model, judge.prompt, judge.max_tokens, judge.share)
    return ShadowSettings(shadow.share, shadow.tenants, shadow.budget_usd_micros_per_day, scored)


def provider_settings(name: str, config: Config) -> ProviderSettings:
    """One provider with its keys. The secrets go no further than the calls."""
    provider = config.providers[name]
    network, circuit, health = provider.network, provider.circuit, provider.health_check
    headers = {header: value.get_secret_value() for header, value in network.extra_headers.items()}
    if provider.organization:
        headers["OpenAI-Organization"] = provider.organization
    return ProviderSettings(
        name=name,
        type=provider.type,
        base_url=provider.base_url or _own_address(provider),
        keys=tuple(_key(key) for key in provider.keys) or (KeySettings(name="none", secret=""),),
        models=tuple(provider.models),
        strategy=KeyStrategy(provider.key_strategy),
        network=NetworkSettings(
            timeout_ms=_ms(network.timeout),
            connect_timeout_ms=_ms(network.connect_timeout),
            max_retries=network.max_retries,
            backoff_initial_ms=_ms(network.backoff_initial),
            backoff_max_ms=_ms(network.backoff_max),
            proxy=network.proxy.get_secret_value() if network.proxy else None,
            ca_file=network.ca_file,
        ),
        circuit=BreakerSettings(
            failure_ratio=circuit.failure_ratio,
            min_calls=circuit.min_calls,
            window_ms=_ms(circuit.window),
            open_for_ms=_ms(circuit.open_for),
            failures_in_a_row=health.unhealthy_threshold,
            successes_to_close=health.healthy_threshold,
        ),
        concurrency=provider.concurrency,
        buffer=provider.buffer,
        extra_headers=headers,
        meta=_meta(name, config),
        usual_output=provider.max_tokens,
        probe_every_ms=_ms(health.interval) if health.enabled else None,
        probe_timeout_ms=_ms(health.timeout),
    )


def _own_address(provider: Provider) -> str:
    """Azure's address is its resource's; Bedrock and Vertex make theirs from region and location."""
    return f"{provider.meta.endpoint}/openai" if isinstance(provider, AzureProvider) else ""


def _key(key: Key) -> KeySettings:
    return KeySettings(
        name=key.name,
        secret=key.value.get_secret_value(),
        weight=key.weight,
        models=tuple(key.models),
        rpm=key.rpm,
        tpm=key.tpm,
        quota_group=key.quota_group,
    )


def _meta(name: str, config: Config) -> Mapping[str, Any]:
    provider = config.providers[name]
    if provider.type == "openrouter":
        return {"provider": _openrouter_preferences(config)}
    meta = getattr(provider, "meta", None)
    fields = {} if meta is None else meta.model_dump()
    return {name: value for name, value in fields.items() if value is not None}


def _openrouter_preferences(config: Config) -> dict[str, Any]:
    """`sort: quality` is the fleet's own ranking and no value of OpenRouter's, so nothing is sent for it."""
    preferences = config.router.openrouter.provider
    dearest = preferences.max_price_usd_micros / 1_000_000
    sent: dict[str, Any] = {
        "max_price": {"prompt": dearest, "completion": dearest},
        "allow_fallbacks": preferences.allow_fallbacks,
    }
    return sent if preferences.sort == "quality" else {**sent, "sort": preferences.sort}


def model_settings(catalogue: Catalogue) -> dict[str, ModelSettings]:
    """What dispatch knows of every model of the catalogue: price, window, longest output, abilities."""
    return {model: _model(facts) for model, facts in catalogue.models.items()}


def _model(facts: ModelFacts) -> ModelSettings:
    abilities = {"reasoning": facts.abilities.reasoning, "structured_output": facts.abilities.structured_output}
    return ModelSettings(
        price=facts.price,
        context_window=facts.context_window,
        max_output=facts.max_output,
        facts={name: known for name, known in abilities.items() if known is not None},
    )


def _ms(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)
