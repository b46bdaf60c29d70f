"""Who serves a model: from model ids and `provider/model-there` names to routes, in the order of asking."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from heimdall_fleet.dispatch.settings import Chains, ModelSettings, ProviderSettings
from heimdall_fleet.providers.dialect import Target
from heimdall_models.catalogue import Price
from heimdall_schemas.order import Step

_NOTHING_KNOWN = ModelSettings()
_MAX_KEPT = 10_000


class Place(NamedTuple):
    """Where a model is served: a provider, and the model's name there. `weight`: its share of the orders' beginnings.
    `spellings`: other names that it has there."""

    provider: str
    model: str
    weight: float | None = None
    spellings: frozenset[str] = frozenset()


Serving: TypeAlias = Callable[[str], Iterable[Place]]
"""Model id → its places in the order of asking; nothing when nobody serves it."""
KnownAs: TypeAlias = Callable[[str, str], str | None]
"""Type of a provider and a model's name there, in any spelling → the model's id; None where it is not known."""
Allowed: TypeAlias = Callable[[str, Price | None], bool]
"""Type of a provider and a model's price → whether it may be asked there."""


def _unknown(kind: str, name: str) -> None:
    return None


def _any_price(kind: str, price: Price | None) -> bool:
    return True


class Offer(NamedTuple):
    """One model at one provider."""

    target: Target
    price: Price | None
    context_window: int | None
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """An offer in the chain of an order. A lower `rank` is asked first; within a rank the order may bend.

    Made once for all orders with the same steps. `place`, the provider and the model's name there, is what makes two
    routes the same.
    """

    offer: Offer
    bucket: str
    settings: Mapping[str, Any]
    rank: int
    target: Target = field(init=False)
    provider: str = field(init=False)
    place: tuple[str, str] = field(init=False)

    def __post_init__(self) -> None:
        target = self.offer.target
        object.__setattr__(self, "target", target)
        object.__setattr__(self, "provider", target.provider)
        object.__setattr__(self, "place", (target.provider, target.model))


class RouteBook:
    """Every offer, by model id. Offers are made once and kept; a change of models or providers is a new book."""

    def __init__(
        self,
        providers: Mapping[str, ProviderSettings],
        models: Mapping[str, ModelSettings],
        serving: Serving,
        known_as: KnownAs = _unknown,
        allowed: Allowed = _any_price,
    ) -> None:
        self._providers = providers
        self._models = models
        self._serving = serving
        self._known_as = known_as
        self._allowed = allowed
        self._offers: dict[str, tuple[Offer, ...]] = {}
        self._routes: dict[int, _Kept] = {}
        self._ids: dict[tuple[str, str], str] = {}
        for model_id in models:
            for place in serving(model_id):
                self._ids.setdefault((place.provider, place.model), model_id)

    def offers(self, model_id: str) -> tuple[Offer, ...]:
        """Who serves `model_id` (author/model), in order. Empty when no configured provider does."""
        found = self._offers.get(model_id)
        if found is None:
            found = tuple(offer for offer in self._find(model_id) if self._allowed(offer.target.type, offer.price))
            if len(self._offers) < _MAX_KEPT:
                self._offers[model_id] = found
        return found

    def named(self, name: str) -> tuple[Offer, ...]:
        """Offers behind a member of a chain: `provider/model-there` with a configured provider, else a model id."""
        provider, _, model_there = name.partition("/")
        if name in self._models or provider not in self._providers or not model_there:
            return self.offers(name)
        offer = self._offer(Place(provider, model_there), self._id_of(provider, model_there))
        return (offer,) if self._allowed(offer.target.type, offer.price) else ()

    def routes(self, steps: tuple[Step, ...], fallbacks: Chains) -> tuple[Route, ...]:
        """`routes_of` these steps, made once for all orders that share them."""
        kept = self._routes.get(id(steps))
        if kept is None or kept.steps is not steps or kept.fallbacks is not fallbacks:
            if len(self._routes) >= _MAX_KEPT:
                self._routes.clear()
            kept = self._routes[id(steps)] = _Kept(steps, fallbacks, routes_of(steps, self, fallbacks))
        return kept.routes

    def _id_of(self, provider: str, model_there: str) -> str:
        """The id of what a chain calls `provider/model-there`: price, limits and who may be answered by it hang on that."""
        known = self._ids.get((provider, model_there)) or self._known_as(self._providers[provider].type, model_there)
        if known is not None:
            return known
        return model_there if "/" in model_there else f"{provider}/{model_there}"

    def _find(self, model_id: str) -> Iterable[Offer]:
        for place in self._serving(model_id):
            settings = self._providers.get(place.provider)
            if settings is not None and serves(settings.models, place.model, model_id):
                yield self._offer(place, model_id)

    def _offer(self, place: Place, model_id: str) -> Offer:
        settings = self._providers[place.provider]
        known = self._models.get(model_id, _NOTHING_KNOWN)
        target = Target(
            provider=place.provider,
            type=settings.type,
            base_url=settings.base_url,
            model=place.model,
            model_id=model_id,
            extra_headers=settings.extra_headers,
            meta=settings.meta,
            max_output=known.max_output,
            facts=known.facts,
            usual_output=settings.usual_output,
            spellings=place.spellings,
        )
        return Offer(target, known.price, known.context_window, place.weight)


@lru_cache(maxsize=8192)
def serves(patterns: tuple[str, ...], model_there: str, model_id: str) -> bool:
    """Whether a list of models (`*` at the end of a name stands for anything; empty: all) holds a model."""
    if not patterns:
        return True
    return any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
        for pattern in patterns
        for name in (model_there, model_id)
    )


class _Kept(NamedTuple):
    """Holds its steps, so that no others can have their identity."""

    steps: tuple[Step, ...]
    fallbacks: Chains
    routes: tuple[Route, ...]


def routes_of(steps: tuple[Step, ...], book: RouteBook, fallbacks: Chains) -> tuple[Route, ...]:
    """Everything that may be asked for an order: the explicit chain of its first model, then the plan's steps.

    A chain that begins with the model itself replaces that model's own providers (its first member is the primary);
    otherwise the model's own providers come first.
    """
    first = steps[0]
    members = chain_of(first.model, fallbacks)
    own = book.offers(first.model)
    routes: list[Route] = []
    if members:
        listed = [offer for member in members for offer in book.named(member)]
        if listed and listed[0].target.model_id != first.model:
            listed = [*own, *listed]
        routes = [Route(offer, first.bucket, first.settings, rank) for rank, offer in enumerate(listed)]
    rank = len(routes)
    bucket = first.bucket
    for step in steps:
        if step.bucket != bucket:
            bucket, rank = step.bucket, rank + 1
        routes += [Route(offer, bucket, step.settings, rank) for offer in book.offers(step.model)]
    return _once(routes)


def spread(routes: tuple[Route, ...], draw: Callable[[], float]) -> tuple[Route, ...]:
    """The routes, beginning at one of the weighted places of their first model: each as often as its weight says.

    `draw`: 0 to 1, asked only where there is a choice. The others follow in their order.
    """
    if not routes or routes[0].offer.weight is None:
        return routes
    model_id = routes[0].target.model_id
    twins = [route for route in routes if route.offer.weight and route.target.model_id == model_id]
    left = draw() * sum(route.offer.weight or 0.0 for route in twins)
    for chosen in twins:
        left -= chosen.offer.weight or 0.0
        if left < 0:
            break
    return (chosen, *(route for route in routes if route is not chosen))


def chain_routes(step: Step, book: RouteBook, chains: Chains, origin: Route) -> tuple[Route, ...]:
    """The routes of the special chain (overflow, content policy) of the model at `origin`; empty when there is none."""
    listed = [offer for member in chain_of(origin.target.model_id, chains) for offer in book.named(member)]
    return _once([Route(offer, step.bucket, step.settings, rank) for rank, offer in enumerate(listed)])


def chain_of(model_id: str, chains: Chains) -> tuple[str, ...]:
    """Chains may be keyed by the model id or by the name after the slash."""
    if not chains:
        return ()
    return chains.get(model_id) or chains.get(model_id.partition("/")[2]) or ()


def _once(routes: list[Route]) -> tuple[Route, ...]:
    if len(routes) < 2:
        return tuple(routes)
    seen: dict[tuple[str, str], Route] = {}
    for route in routes:
        seen.setdefault(route.place, route)
    return tuple(seen.values())
