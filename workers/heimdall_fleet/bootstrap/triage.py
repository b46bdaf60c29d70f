"""A triage worker, and the judge that it and the offline commands decide with."""

import logging
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from heimdall_fleet.addresses import ReplyRules
from heimdall_fleet.bootstrap.edges import doubtful_names, open_prompt_producer_for, undertaker_for, worker_name
from heimdall_fleet.config import Config, Loaded, config_hash
from heimdall_fleet.config.issues import dotted
from heimdall_fleet.kafka.batches import open_batches
from heimdall_fleet.kafka.driver.reading import TopicReader
from heimdall_fleet.kafka.settings import BatchSettings
from heimdall_fleet.observe.metrics import Metrics
from heimdall_fleet.settings import (
    cache_directory,
    catalogue_of,
    directory_at,
    kafka_settings,
    limits_of,
    questions_of,
    rules_of,
)
from heimdall_fleet.triage.arms import ArmBundles
from heimdall_fleet.triage.download import download
from heimdall_fleet.triage.service import TriageService
from heimdall_fleet.triage.sources import Archives, Directory, PointerFile, Source
from heimdall_fleet.triage.tuning import REFUSALS, MakeJudge, Tuning
from heimdall_models.bundle import Bundle
from heimdall_models.cache import Memory, decision_cache
from heimdall_models.embed import EmbeddingCache, load_embedder
from heimdall_models.judge import Judge, make_judge
from heimdall_schemas.failure import Failure, FailureCode

log = logging.getLogger(__name__)


def judge_maker(config: Config, arms: ArmBundles | None = None, *, everything_served: bool = False) -> MakeJudge:
    """What turns a bundle into a judge, with the catalogue and the rules of `config`. Raises one of `REFUSALS`.

    `arms`: the bundles of an experiment's arms, read each time a judge is made; loaded here once when not given.
    `everything_served`: every model of the catalogue counts as served, by the provider of its author's name.
    """
    catalogue = catalogue_of(config, datetime.now(UTC).date())
    rules = rules_of(config, catalogue, config_hash(config))
    if everything_served:
        rules = replace(rules, served={model: facts.author for model, facts in catalogue.models.items()})
    treated = arms_for(config) if arms is None else arms
    plugin = config.embedding.plugin
    embedder = None if plugin is None else EmbeddingCache(load_embedder(plugin), config.embedding.cache_size)

    def make(bundle: Bundle) -> Judge:
        if (made_with := bundle.manifest.get("embedding")) != plugin:
            log.warning(
                "the clusters of bundle %s were made with %s, embedding.plugin is %s: what is near to what means nothing; "
                "train a bundle with this configuration",
                bundle.hash[:12], made_with or "the hashed embedding", plugin or "unset",
                extra={"action": "embedding_differs"},
            )  # fmt: skip
        return make_judge(bundle, catalogue, rules, bundles=treated.bundles, embedder=embedder)

    return make


def arms_for(config: Config) -> ArmBundles:
    """The bundles that experiments name. Raises one of `REFUSALS`."""
    named = (arm.bundle for experiment in config.router.experiments for arm in experiment.arms)
    return ArmBundles({url: bundle_source(url, config) for url in named if url is not None})


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
        arms = arms_for(config)
        make = judge_maker(config, arms)
    except REFUSALS as error:
        raise Failure(FailureCode.HEIMDALL_BUNDLE, f"{error} (router.experiments or embedding.plugin)") from error
    return Tuning(source, archives_for(config), make, arms)


def memory_for(config: Config) -> Memory:
    """What one triage worker remembers between batches."""
    if not config.enable_caching:
        return Memory(decisions=None)
    cache = config.cache.decision
    return Memory(decisions=decision_cache(max_size=cache.max_size, ttl_s=cache.ttl.total_seconds()))


def triage_service(loaded: Loaded, metrics: Metrics) -> TriageService:
    """A triage worker. Raises Failure when the bundle cannot be used."""
    config = loaded.config
    for finding in doubtful_names(config):
        log.warning("%s: %s", dotted(finding.path), finding.message, extra={"action": "name_doubtful"})
    name = worker_name("triage")
    kafka = kafka_settings(config, name)
    topics = config.kafka.topics
    group = f"{config.kafka.topic_prefix}.triage"
    return TriageService(
        source=open_batches(kafka, BatchSettings(group_id=group, topics=(topics.requests,))),
        producer=open_prompt_producer_for(kafka, config),
        control=lambda: TopicReader(kafka),
        tuning=tuning_for(config),
        memory=memory_for(config),
        undertaker=undertaker_for(config, name, group),
        replies=ReplyRules.from_patterns(topics, config.kafka.reply_topics),
        limits=limits_of(config),
        default_ttl_ms=config.dispatch.deadline // timedelta(milliseconds=1),
        reload_s=config.tuning.reload_seconds,
        grace_s=config.dispatch.grace.total_seconds(),
        metrics=metrics,
        questions=questions_of(config),
    )


def reconfigure_triage(service: TriageService, loaded: Loaded) -> None:
    """Judge by the new rules and catalogue from the next batch on. Raises one of `REFUSALS` and keeps the old ones."""
    config = loaded.config
    arms = arms_for(config)
    service.tuning.remake(judge_maker(config, arms), bundle_source(config.tuning.artifact_url, config), arms)
    service.memory.decisions = memory_for(config).decisions
    service.reload_s = config.tuning.reload_seconds
    service.questions = questions_of(config)
    service.look_now()
