"""The composition root: the only file that names concrete adapters. Configuration in, workers and clients out."""

import logging
import os
import random
import secrets
import socket
from dataclasses import asdict, replace
from datetime import UTC, datetime

from heimdall_fleet.addresses import ReplyRules
from heimdall_fleet.client import HeimdallClient
from heimdall_fleet.config import Config, Loaded, config_hash, require_providers
from heimdall_fleet.config.issues import dotted
from heimdall_fleet.config.rules import Finding, retired
from heimdall_fleet.dispatch.account import ConfiguredAccount
from heimdall_fleet.dispatch.cancel import Cancellations
from heimdall_fleet.dispatch.clock import SystemClock
from heimdall_fleet.dispatch.leases import Leases
from heimdall_fleet.dispatch.objects import ObjectStore, ObjectStoreError, open_store
from heimdall_fleet.dispatch.pool import Pool
from heimdall_fleet.dispatch.retry import RetryHandler
from heimdall_fleet.dispatch.room import Room
from heimdall_fleet.dispatch.routes import RouteBook
from heimdall_fleet.dispatch.service import DispatchService, Wires
from heimdall_fleet.dispatch.settings import ProviderSettings
from heimdall_fleet.dispatch.telemetry import FleetTelemetry
from heimdall_fleet.dispatch.turnstile import Turnstile
from heimdall_fleet.dispatch.worker import DispatchWorker
from heimdall_fleet.dlq import Undertaker
from heimdall_fleet.kafka.batches import open_batches
from heimdall_fleet.kafka.driver.reading import TopicReader
from heimdall_fleet.kafka.intake import open_intake
from heimdall_fleet.kafka.producer import SupervisedProducer, open_producer
from heimdall_fleet.kafka.settings import BatchSettings, IntakeSettings, KafkaSettings, ProducerSettings
from heimdall_fleet.observe.metrics import Metrics
from heimdall_fleet.providers.http import HttpClient, Network
from heimdall_fleet.providers.registry import DIALECTS
from heimdall_fleet.settings import (
    cache_directory,
    catalogue_of,
    directory_at,
    dispatch_settings,
    kafka_settings,
    limits_of,
    model_settings,
    provider_settings,
    rules_of,
)
from heimdall_fleet.state.base import SharedState
from heimdall_fleet.state.memory import MemoryState
from heimdall_fleet.state.redis import RedisState
from heimdall_fleet.triage.download import download
from heimdall_fleet.triage.service import TriageService
from heimdall_fleet.triage.sources import Archives, Directory, PointerFile, Source
from heimdall_fleet.triage.tuning import REFUSALS, MakeJudge, Tuning
from heimdall_models.bundle import Bundle
from heimdall_models.cache import Memory, decision_cache
from heimdall_models.embed import EmbeddingCache, load_embedder
from heimdall_models.judge import Judge, make_judge
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.topics import Bucket, Delay

log = logging.getLogger(__name__)

REST_LONGEST_S = 700.0
"""A record rests in a handler of the retry intake for up to 600 s."""


def worker_name(role: str) -> str:
    """Which process wrote a record: role, host, process id."""
    return f"{role}-{socket.gethostname()}-{os.getpid()}"


def client_for(config: Config) -> HeimdallClient:
    """A client of the fleet that `config` describes."""
    settings = asdict(kafka_settings(config, "heimdall-client"))
    return HeimdallClient(settings.pop("bootstrap_servers"), config.kafka.topic_prefix, kafka=settings)


def reader_for(config: Config) -> TopicReader:
    """A reader of whole topics, member of no group."""
    return TopicReader(kafka_settings(config, "heimdall-reader"))


def producer_for(config: Config, client_id: str) -> SupervisedProducer:
    """A producer for a command; to be started by it."""
    return _producer(kafka_settings(config, client_id), config)


def providers_of(config: Config) -> dict[str, ProviderSettings]:
    """Every configured provider, its keys included: names only may be shown."""
    return {name: provider_settings(name, config) for name in config.providers}


def client_of(provider: str, config: Config) -> HttpClient:
    """A client for one provider, over its proxy; to be closed by its user."""
    return HttpClient.over(_network(provider, config))


def judge_maker(config: Config, *, everything_served: bool = False) -> MakeJudge:
    """What turns a bundle into a judge, with the catalogue and the rules of `config`. Raises one of `REFUSALS`.

    `everything_served`: every model of the catalogue counts as served, by the provider of its author's name.
    """
    catalogue = catalogue_of(config, datetime.now(UTC).date())
    rules = rules_of(config, catalogue, config_hash(config))
    if everything_served:
        rules = replace(rules, served={model: facts.author for model, facts in catalogue.models.items()})
    urls = {arm.bundle for arm in rules.experiment.arms if arm.bundle is not None} if rules.experiment else set()
    bundles = {url: bundle_source(url, config).offer().load() for url in urls}
    plugin = config.embedding.plugin
    embedder = None if plugin is None else EmbeddingCache(load_embedder(plugin), config.embedding.cache_size)

    def make(bundle: Bundle) -> Judge:
        return make_judge(bundle, catalogue, rules, bundles=bundles, embedder=embedder)

    return make


def bundle_source(url: str, config: Config) -> Source:
    """Where the bundle of this address comes from: a directory, or a pointer to an archive."""
    directory = directory_at(url)
    return PointerFile(url, archives_for(config)) if directory is None else Directory(directory)


def archives_for(config: Config) -> Archives:
    return Archives(cache_directory(config, os.environ), download)


def tuning_for(config: Config) -> Tuning:
    """The bundle that `tuning.artifact_url` names, and its judge. Raises Failure `heimdall_bundle`."""
    source = bundle_source(config.tuning.artifact_url, config)
    try:
        make = judge_maker(config)
    except REFUSALS as error:
        raise Failure(FailureCode.HEIMDALL_BUNDLE, f"{error} (router.experiments or embedding.plugin)") from error
    return Tuning(source, archives_for(config), make)


def memory_for(config: Config) -> Memory:
    """What one triage worker remembers between batches."""
    if not config.enable_caching:
        return Memory(decisions=None)
    cache = config.cache.decision
    return Memory(decisions=decision_cache(max_size=cache.max_size, ttl_s=cache.ttl.total_seconds()))


def triage_service(loaded: Loaded, metrics: Metrics) -> TriageService:
    """A triage worker. Raises Failure when the bundle cannot be used."""
    config = loaded.config
    for finding in retirements(config):
        log.warning("%s: %s", dotted(finding.path), finding.message, extra={"action": "candidate_retired"})
    name = worker_name("triage")
    kafka = kafka_settings(config, name)
    topics = config.kafka.topics
    group = f"{config.kafka.topic_prefix}.triage"
    return TriageService(
        source=open_batches(kafka, BatchSettings(group_id=group, topics=(topics.requests,))),
        producer=_producer(kafka, config),
        control=lambda: TopicReader(kafka),
        tuning=tuning_for(config),
        memory=memory_for(config),
        undertaker=_undertaker(config, name, group),
        replies=ReplyRules.from_patterns(topics, config.kafka.reply_topics),
        limits=limits_of(config),
        default_ttl_ms=_ms(config.dispatch.deadline.total_seconds()),
        reload_s=config.tuning.reload_seconds,
        grace_s=config.dispatch.grace.total_seconds(),
        metrics=metrics,
    )


def dispatch_service(loaded: Loaded, metrics: Metrics) -> DispatchService:
    """A dispatch worker. Raises ConfigError when nobody is configured to answer."""
    config = loaded.config
    require_providers(config)
    name = worker_name("dispatch")
    kafka = kafka_settings(config, name)
    topics = config.kafka.topics
    prefix = config.kafka.topic_prefix
    clock = SystemClock()
    providers = providers_of(config)
    turnstile = Turnstile()
    producer = _producer(kafka, config)
    room = Room(
        settings=dispatch_settings(config, name),
        topics=topics,
        clock=clock,
        jitter=random.random,
        book=_book(config),
        pool=Pool(providers.values(), turnstile.promised, turnstile.waiting),
        turnstile=turnstile,
        clients={provider: client_of(provider, config) for provider in providers},
        dialects=DIALECTS,
        state=_state(config, clock),
        leases=Leases(f"{name}-{secrets.token_hex(4)}"),
        cancels=Cancellations(),
        producer=producer,
        telemetry=FleetTelemetry(metrics),
        objects=_objects(config),
    )
    worker = DispatchWorker(room, _undertaker(config, name, f"{prefix}.dispatch"), limits_of(config))
    wires = Wires(
        orders=open_intake(kafka, _orders(config), worker.handle),
        resting=open_intake(kafka, _resting(config), RetryHandler(producer, clock).handle),
        producer=producer,
        cancels=lambda: TopicReader(kafka),
    )
    return DispatchService(worker, wires, ConfiguredAccount(providers.values()), metrics)


def _orders(config: Config) -> IntakeSettings:
    """The intake of the three dispatch topics."""
    return IntakeSettings(
        group_id=f"{config.kafka.topic_prefix}.dispatch",
        topics=tuple(config.kafka.topics.dispatch(bucket) for bucket in Bucket),
        max_in_flight=config.dispatch.max_in_flight,
        max_in_flight_bytes=config.dispatch.max_in_flight_bytes,
        handler_deadline_s=max(900.0, 2 * config.dispatch.deadline.total_seconds()),
        grace_s=config.dispatch.grace.total_seconds(),
    )


def _resting(config: Config) -> IntakeSettings:
    """The intake of the retry topics. What rests is read again by the next owner, so stopping waits for none."""
    return IntakeSettings(
        group_id=f"{config.kafka.topic_prefix}.retry",
        topics=tuple(config.kafka.topics.retry(delay) for delay in Delay),
        max_in_flight=2 * config.dispatch.max_in_flight,
        handler_deadline_s=REST_LONGEST_S,
        grace_s=0.0,
    )


def reconfigure_triage(service: TriageService, loaded: Loaded) -> None:
    """Judge by the new rules and catalogue from the next batch on. Raises one of `REFUSALS` and keeps the old ones."""
    config = loaded.config
    service.tuning.remake(judge_maker(config), bundle_source(config.tuning.artifact_url, config))
    service.memory.decisions = memory_for(config).decisions
    service.reload_s = config.tuning.reload_seconds
    service.look_now()


def retirements(config: Config) -> list[Finding]:
    """Configured candidates that are retired or will be, with what replaces them and when."""
    today = datetime.now(UTC).date()
    return list(retired(config, catalogue_of(config, today), today))


def reconfigure_dispatch(service: DispatchService, loaded: Loaded) -> None:
    """Take up new keys, prices and chains of asking. A new provider needs a restart, as docs/configuration.md says."""
    config = loaded.config
    service.configure(_book(config), ConfiguredAccount(providers_of(config).values()))


def closed_labels(config: Config) -> dict[str, list[str]]:
    """The values that the metric labels `model` and `provider` may have."""
    models = catalogue_of(config, datetime.now(UTC).date()).models
    return {"models": list(models), "providers": list(config.providers)}


def _book(config: Config) -> RouteBook:
    models = model_settings(catalogue_of(config, datetime.now(UTC).date()))
    return RouteBook(
        providers_of(config), models, lambda model: [(offer.provider, offer.model) for offer in config.offers(model)]
    )


def _producer(kafka: KafkaSettings, config: Config) -> SupervisedProducer:
    return open_producer(kafka, ProducerSettings(linger_ms=2, max_record_bytes=config.kafka.max_message_bytes))


def _undertaker(config: Config, worker: str, group: str) -> Undertaker:
    return Undertaker(
        config.kafka.topics.dlq, worker, group, max_value_bytes=config.kafka.max_message_bytes - 64 * 1024
    )


def _state(config: Config, clock: SystemClock) -> SharedState:
    """`memory://` serves one process; anything else is a Redis that the fleet shares."""
    url = config.state.url.get_secret_value()
    if url.startswith("memory:"):
        return MemoryState(clock.mono_ms)
    return RedisState.connect(url, prefix=f"{config.kafka.topic_prefix}:")


def _objects(config: Config) -> ObjectStore | None:
    """Where large replies go. Raises Failure `heimdall_config` when its library is missing."""
    url = config.dispatch.object_store
    if config.dispatch.large_replies == "error" or url is None:
        return None
    try:
        return open_store(url)
    except ObjectStoreError as error:
        raise Failure(FailureCode.HEIMDALL_CONFIG, f"dispatch.object_store: {error}") from error


def _network(provider: str, config: Config) -> Network:
    proxy = config.providers[provider].network.proxy
    return Network(proxy=proxy.get_secret_value() if proxy else None)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
