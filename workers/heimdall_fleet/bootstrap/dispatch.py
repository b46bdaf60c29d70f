"""A dispatch worker: everything that answers orders, put together."""

import random
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from heimdall_fleet.bootstrap.edges import open_patient_producer_for, open_store, undertaker_for, worker_name
from heimdall_fleet.config import Config, Loaded, require_providers
from heimdall_fleet.config.provider_types import OWN_SERVERS
from heimdall_fleet.config.providers import AzureProvider, serves
from heimdall_fleet.config.routing import Offer
from heimdall_fleet.dispatch.bounds import Bounds
from heimdall_fleet.dispatch.cancel import Cancellations
from heimdall_fleet.dispatch.capacity.account import Account, ConfiguredAccount, load_account
from heimdall_fleet.dispatch.capacity.pool import Pool
from heimdall_fleet.dispatch.capacity.turnstile import Turnstile
from heimdall_fleet.dispatch.clock import SystemClock
from heimdall_fleet.dispatch.leases import Leases
from heimdall_fleet.dispatch.retry import RetryHandler
from heimdall_fleet.dispatch.room import Room
from heimdall_fleet.dispatch.routes import Place, RouteBook
from heimdall_fleet.dispatch.service import DispatchService, Wires
from heimdall_fleet.dispatch.settings import DispatchSettings, NetworkSettings, ProviderSettings
from heimdall_fleet.dispatch.telemetry import FleetTelemetry
from heimdall_fleet.dispatch.worker import DispatchWorker
from heimdall_fleet.kafka.driver.reading import TopicReader
from heimdall_fleet.kafka.intake import open_intake
from heimdall_fleet.kafka.settings import IntakeSettings
from heimdall_fleet.objects.base import ObjectStore, ObjectStoreError
from heimdall_fleet.observe.metrics import Metrics
from heimdall_fleet.providers.http import HttpClient
from heimdall_fleet.providers.registry import DIALECTS
from heimdall_fleet.providers.transport import Network
from heimdall_fleet.providers.vertex_tokens import GoogleTokens
from heimdall_fleet.settings import (
    catalogue_of,
    dispatch_settings,
    kafka_settings,
    limits_of,
    model_settings,
    provider_settings,
)
from heimdall_fleet.state.base import SharedState
from heimdall_fleet.state.memory import MemoryState
from heimdall_models.catalogue import Price
from heimdall_models.provider_names import names_at
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.topics import Bucket, Delay

REST_LONGEST_S = 700.0
"""A record rests in a handler of the retry intake for up to 600 s."""


def providers_of(config: Config) -> dict[str, ProviderSettings]:
    """Every configured provider, its keys included: names only may be shown."""
    return {name: provider_settings(name, config) for name in config.providers}


def client_of(provider: ProviderSettings) -> HttpClient:
    """A client for one provider, over its proxy; to be closed by its user."""
    return HttpClient.over(_network(provider.network))


def _network(settings: NetworkSettings) -> Network:
    return Network(proxy=settings.proxy, ca_file=settings.ca_file)


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
    book, bounds = _routing(config, providers)
    turnstile = Turnstile()
    producer = open_patient_producer_for(kafka, config)
    settings = dispatch_settings(config, name)
    room = Room(
        settings=settings,
        topics=topics,
        clock=clock,
        jitter=random.random,
        book=book,
        pool=Pool(providers.values(), turnstile.promised, turnstile.waiting),
        turnstile=turnstile,
        clients={name: client_of(provider) for name, provider in providers.items()},
        dialects=DIALECTS,
        tokens=GoogleTokens(),
        state=_state(config, settings, clock),
        leases=Leases(f"{name}-{secrets.token_hex(4)}"),
        cancels=Cancellations(),
        producer=producer,
        telemetry=FleetTelemetry(metrics),
        objects=_objects(config),
        bounds=bounds,
    )
    worker = DispatchWorker(room, undertaker_for(config, name, f"{prefix}.dispatch"), limits_of(config))
    orders = open_intake(kafka, _orders(config), worker.handle)
    worker.room = replace(room, holds=orders.holds)
    wires = Wires(
        orders=orders,
        resting=open_intake(kafka, _resting(config), RetryHandler(producer, clock, worker.refuse).handle),
        producer=producer,
        cancels=lambda: TopicReader(kafka),
    )
    return DispatchService(worker, wires, _account(config), metrics)


def reconfigure_dispatch(service: DispatchService, loaded: Loaded) -> None:
    """Take up new providers, keys, prices and chains of asking; `config.change.NEEDS_RESTART` says what is not."""
    config, room = loaded.config, service.worker.room
    providers = providers_of(config)
    account = service.account if config.dispatch.account else ConfiguredAccount(providers.values())
    fresh = dispatch_settings(config, room.settings.worker)
    settings = replace(room.settings, failover=fresh.failover, hedge_after_ms=fresh.hedge_after_ms, shadow=fresh.shadow)
    clients = {
        name: room.clients[name] if _reached_alike(provider, room) else client_of(provider)
        for name, provider in providers.items()
    }
    book, bounds = _routing(config, providers)
    fresh_room = replace(room, book=book, clients=clients, settings=settings, bounds=bounds)
    service.configure(account, providers.values(), fresh_room)


def _reached_alike(provider: ProviderSettings, room: Room) -> bool:
    """Whether the client that is there will do."""
    name = provider.name
    return name in room.clients and _network(room.pool.network(name)) == _network(provider.network)


def _account(config: Config) -> Account:
    """Where keys come from. Raises Failure `heimdall_config` for a class of one's own that is not there."""
    name = config.dispatch.account
    return ConfiguredAccount(providers_of(config).values()) if name is None else load_account(name)


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


def _routing(config: Config, providers: Mapping[str, ProviderSettings]) -> tuple[RouteBook, Bounds]:
    """Who serves a model, and whom the chains under `dispatch` may lead to: what triage keeps to in choosing holds there."""
    catalogue = catalogue_of(config, datetime.now(UTC).date())
    bounds = Bounds(catalogue.resolve, config.router.tenants, config.router.openrouter.exclude_authors)
    book = RouteBook(
        providers,
        model_settings(catalogue),
        lambda model: [_place(offer, model, config) for offer in config.offers(model)],
        lambda kind, name: None if kind in OWN_SERVERS else catalogue.resolve(name),
        partial(_within_max_price, config.router.openrouter.provider.max_price_usd_micros),
    )
    return book, bounds


def _within_max_price(limit_usd_micros: int, kind: str, price: Price | None) -> bool:
    """OpenRouter is told the dearest price and would refuse what is above it."""
    return kind != "openrouter" or price is None or price.dearest_usd_micros <= limit_usd_micros


def _place(offer: Offer, model_id: str, config: Config) -> Place:
    """Where a model's entry, a deployment or a server of one's own names it, it has no other name there."""
    provider, entry = config.providers[offer.provider], config.entry(model_id)
    named = (entry and entry.providers) or isinstance(provider, AzureProvider) or provider.type in OWN_SERVERS
    spellings = () if named else names_at(model_id, provider.type)
    others = frozenset(name for name in spellings if name != offer.model and serves(provider.models, name))
    return Place(offer.provider, offer.model, offer.weight, others)


def _state(config: Config, settings: DispatchSettings, clock: SystemClock) -> SharedState:
    """`memory://` serves one process; anything else is a Redis that the fleet shares."""
    if not settings.shared_state:
        return MemoryState(clock.mono_ms)
    from heimdall_fleet.state.redis import RedisState  # noqa: PLC0415 - 5 MiB that a fleet without Redis need not hold

    return RedisState.connect(config.state.url.get_secret_value(), prefix=f"{config.kafka.topic_prefix}:")


def _objects(config: Config) -> ObjectStore | None:
    """Where large replies go. Raises Failure `heimdall_config` when its library is missing."""
    url = config.dispatch.object_store
    if config.dispatch.large_replies == "error" or url is None:
        return None
    try:
        return open_store(url)
    except ObjectStoreError as error:
        raise Failure(FailureCode.HEIMDALL_CONFIG, f"dispatch.object_store: {error}") from error
