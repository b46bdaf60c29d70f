import pytest

from heimdall_fleet.dispatch.routes import Place, Route, RouteBook, chain_routes, routes_of, serves, spread
from heimdall_fleet.dispatch.settings import ModelSettings, ProviderSettings
from heimdall_schemas.order import Plan, Step

PLACES = {
    "openai/gpt-4o": (("openai-primary", "gpt-4o"), ("openrouter", "openai/gpt-4o")),
    "anthropic/claude": (("anthropic-backup", "claude"),),
    "qwen/coder": (("openrouter", "qwen/coder"),),
}


def book(**models: tuple[str, ...]) -> RouteBook:
    names = ("openai-primary", "anthropic-backup", "openrouter", "groq")
    providers = {name: ProviderSettings(name, "openai", "", (), models=models.get(name, ("*",))) for name in names}
    known = {model_id: ModelSettings(context_window=100) for model_id in PLACES}
    return RouteBook(providers, known, lambda model_id: [Place(*place) for place in PLACES.get(model_id, ())])


def plan(*steps: tuple[str, str]) -> Plan:
    return Plan(tuple(Step(model, bucket) for model, bucket in steps), deadline_ms=0, received_ms=0, p_chosen=1)


def places(found: object) -> list[str]:
    return ["/".join(route.place) for route in found]  # type: ignore[attr-defined]  # routes, in a list or a tuple


def test_a_model_is_asked_at_its_providers_in_their_order() -> None:
    assert [offer.target.provider for offer in book().offers("openai/gpt-4o")] == ["openai-primary", "openrouter"]
    assert book().offers("openai/gpt-4o")[0].context_window == 100


def weighted(*places: Place) -> tuple[Route, ...]:
    providers = {place.provider: ProviderSettings(place.provider, "openai", "", ()) for place in places}
    return routes_of((Step("a/b", "mid"),), RouteBook(providers, {}, lambda _: places), {})


def test_orders_begin_at_the_weighted_places_of_a_model_as_often_as_their_weights_say() -> None:
    routes = weighted(Place("eu", "b", 3), Place("us", "b", 1), Place("spare", "b"))
    begun = [places(spread(routes, lambda at=at: at / 100))[0] for at in range(100)]  # type: ignore[misc]  # a default
    assert [begun.count(each) for each in ("eu/b", "us/b", "spare/b")] == [75, 25, 0]
    assert places(spread(routes, lambda: 0.99)) == ["us/b", "eu/b", "spare/b"]


def test_places_without_weights_are_asked_in_their_order_and_nothing_is_drawn() -> None:
    routes = weighted(Place("eu", "b"), Place("us", "b"))
    assert spread(routes, lambda: pytest.fail("drawn")) is routes
    assert spread((), lambda: pytest.fail("drawn")) == ()


def test_a_model_that_nobody_serves_has_no_offer() -> None:
    assert book().offers("no/body") == ()


def test_a_provider_is_used_for_its_listed_models_only() -> None:
    assert book(openrouter=("qwen/*",)).offers("openai/gpt-4o")[0].target.provider == "openai-primary"
    assert len(book(openrouter=("qwen/*",)).offers("openai/gpt-4o")) == 1


def test_steps_follow_each_other_and_a_dearer_bucket_has_a_higher_rank() -> None:
    routes = routes_of(plan(("qwen/coder", "cheap"), ("openai/gpt-4o", "mid")).steps, book(), {})
    assert places(routes) == ["openrouter/qwen/coder", "openai-primary/gpt-4o", "openrouter/openai/gpt-4o"]
    assert routes[0].rank < routes[1].rank == routes[2].rank


def test_a_chain_whose_first_member_is_the_model_itself_replaces_its_own_providers() -> None:
    chains = {"gpt-4o": ("openai-primary/gpt-4o", "anthropic-backup/claude")}
    routes = routes_of(plan(("openai/gpt-4o", "mid"), ("qwen/coder", "mid")).steps, book(), chains)
    assert places(routes)[:2] == ["openai-primary/gpt-4o", "anthropic-backup/claude"]
    assert routes[1].target.model_id == "anthropic/claude"
    assert [route.rank for route in routes[:2]] == [0, 1]


def test_a_chain_of_other_models_comes_after_the_model_itself() -> None:
    chains = {"openai/gpt-4o": ("anthropic/claude", "groq/llama")}
    routes = routes_of(
        plan(("openai/gpt-4o", "mid")).steps,
        book(),
        chains,
    )
    assert places(routes) == [
        "openai-primary/gpt-4o",
        "openrouter/openai/gpt-4o",
        "anthropic-backup/claude",
        "groq/llama",
    ]
    assert routes[3].target.model_id == "groq/llama"


def test_a_place_is_asked_once_however_often_it_is_listed() -> None:
    routes = routes_of(plan(("qwen/coder", "cheap"), ("qwen/coder", "mid")).steps, book(), {})
    assert places(routes) == ["openrouter/qwen/coder"]


def route(model_id: str) -> Route:
    return Route(book().offers(model_id)[0], "mid", {}, 0)


def test_a_special_chain_is_found_by_id_or_by_name() -> None:
    step = Step("openai/gpt-4o", "mid")
    for name in ("gpt-4o", "openai/gpt-4o"):
        assert places(chain_routes(step, book(), {name: ("anthropic/claude",)}, route("openai/gpt-4o"))) == [
            "anthropic-backup/claude"
        ]
    assert chain_routes(step, book(), {"gpt-4o": ("anthropic/claude",)}, route("qwen/coder")) == ()


@pytest.mark.parametrize(
    ("patterns", "served"),
    [(("*",), True), ((), True), (("gpt-4o",), True), (("openai/*",), True), (("gpt-4*",), True), (("gpt-5",), False)],
)
def test_patterns_match_either_name_of_a_model(patterns: tuple[str, ...], served: bool) -> None:
    assert serves(patterns, "gpt-4o", "openai/gpt-4o") is served


def test_orders_that_share_their_steps_share_their_routes_and_a_new_book_makes_new_ones() -> None:
    steps = plan(("openai/gpt-4o", "mid"), ("qwen/coder", "mid")).steps
    here, chains = book(), {"openai/gpt-4o": ("anthropic/claude",)}
    assert here.routes(steps, {}) is not here.routes(steps, chains)
    assert here.routes(steps, chains) is here.routes(steps, chains)
    assert here.routes(steps, chains) == routes_of(steps, here, chains)
    assert book(openrouter=("groq/*",)).routes(steps, {}) != here.routes(steps, {})
