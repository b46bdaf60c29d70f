"""`heimdall.yaml` as a whole. Each section's file says what its keys mean; docs/configuration.md is made from them."""

from datetime import timedelta
from operator import itemgetter
from typing import Literal

from pydantic import Field

from heimdall_fleet.config.base import Section
from heimdall_fleet.config.kafka import Kafka
from heimdall_fleet.config.learning import Learning
from heimdall_fleet.config.provider_types import canonical_type
from heimdall_fleet.config.providers import AnyProvider, Name, Provider, ProviderDefaults, listed, serves
from heimdall_fleet.config.routing import Cache, Catalog, Embedding, Model, ModelId, Offer, Router, Tuning
from heimdall_fleet.config.running import AuthAdapters, Dispatch, LimitsSection, Observe, State
from heimdall_fleet.config.units import Millis
from heimdall_models.provider_names import id_of, is_known_there, names_at

Environment = Literal["development", "staging", "production"]


class Config(Section):
    """The configuration of one fleet. Made by `load`; never changed, only replaced."""

    version: Literal[1] = 1
    """Version of this file's format."""
    kafka: Kafka = Field(default_factory=Kafka)
    """The broker."""
    provider_defaults: ProviderDefaults = Field(default_factory=ProviderDefaults)
    """Settings of every provider that does not set them itself."""
    providers: dict[Name, AnyProvider] = Field(default_factory=dict)
    """Who answers. When the section is absent, providers are found by the keys in the environment."""
    models: dict[ModelId, Model] = Field(default_factory=dict)
    """What the catalogue lacks or gets wrong, by model id."""
    router: Router = Field(default_factory=Router)
    """How a request gets its bucket and its model."""
    dispatch: Dispatch = Field(default_factory=Dispatch)
    """How orders are answered."""
    limits: LimitsSection = Field(default_factory=LimitsSection)
    """What a request may weigh."""
    auth_adapters: AuthAdapters = Field(default_factory=AuthAdapters)
    """Callers' own credentials."""
    catalog: Catalog = Field(default_factory=Catalog)
    """Prices and abilities of models."""
    tuning: Tuning = Field(default_factory=Tuning)
    """The classifier bundle."""
    embedding: Embedding = Field(default_factory=Embedding)
    """The embedding of texts in a decision."""
    cache: Cache = Field(default_factory=Cache)
    """Decisions and answers that are used again."""
    state: State = Field(default_factory=State)
    """What workers share."""
    learning: Learning = Field(default_factory=Learning)
    """What answers were worth, for training."""
    observe: Observe = Field(default_factory=Observe)
    """Logs, metrics, health."""

    timeout: Millis = Field(timedelta(milliseconds=25), ge=timedelta(milliseconds=1), le=timedelta(minutes=1))
    """Budget of triage for one decision; a batch of n has n times as much. Then nothing more is classified."""
    feature_timeout: Millis = Field(timedelta(milliseconds=25), ge=timedelta(milliseconds=1), le=timedelta(minutes=1))
    """Budget for the features of a request, in the same way; above it safe defaults are used."""
    embedding_timeout: Millis = Field(timedelta(seconds=15), ge=timedelta(milliseconds=1), le=timedelta(minutes=10))
    """Budget for the vectors of a request from `embedding.plugin`, in the same way; it ends with `feature_timeout` at the
    latest. Looked at when the plug-in returns: one that asks a service must give up by itself."""

    enable_caching: bool = True
    """Use any cache at all."""
    enable_auth: bool = True
    """Look at callers' credentials at the gateway."""
    enable_fallbacks: bool = True
    """Try another provider or model after a failure; off: only the same key is tried again."""
    enable_observability: bool = True
    """Serve metrics; logs and health stay. Must be on in production."""
    enable_exploration: bool = False
    """Explore with `router.exploration.share`. Needs `router.exploration.allow_in_production` in production."""

    def entry(self, model_id: str) -> Model | None:
        """What `models` says of a model, be it under another spelling of its id."""
        own = self.models.get(model_id)
        return own or next((entry for name, entry in self.models.items() if id_of(name) == model_id), None)

    def offers(self, model_id: str) -> tuple[Offer, ...]:
        """Where a model can be called, in order: as its entry says, the weighted places first; else at the providers named
        like its author, then at those of the author's type, then at those that list it by the name the catalogue has for
        it there (two models of different authors may be called alike), then at OpenRouter. Each is asked by the name that
        the model has there: that of the provider's list, else that of the catalogue.

        Empty when nobody serves it.
        """
        entry = self.entry(model_id)
        if entry and entry.providers:
            known = (offer for offer in entry.providers if offer.provider in self.providers)
            return tuple(sorted(known, key=lambda offer: offer.weight is None))
        found = []
        for name, provider in self.providers.items():
            names = names_at(model_id, provider.type)
            there = next((each for each in names if each and serves(provider.models, each)), None)
            if there is None:
                continue
            chosen = there in listed(provider) and is_known_there(model_id, provider.type, there)
            place = _place(name, provider, model_id.partition("/")[0], listed=chosen)
            if place is not None:
                found.append((place, Offer(provider=name, model=there)))
        return tuple(offer for _, offer in sorted(found, key=itemgetter(0)))


def _place(name: str, provider: Provider, author: str, *, listed: bool) -> int | None:
    """How soon a provider is asked for a model of `author`; None: not at all."""
    if provider.type == "openrouter":
        return 3
    if name == author:
        return 0
    if provider.type == canonical_type(author):
        return 1
    return 2 if listed else None
