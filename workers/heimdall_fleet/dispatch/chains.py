"""The chain of an order: its routes, and the rules that hold from its first attempt to its last."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from heimdall_fleet.dispatch.cost import output_within
from heimdall_fleet.dispatch.failover import Chain, Rules
from heimdall_fleet.dispatch.room import Room
from heimdall_fleet.dispatch.routes import Route, chain_routes, spread
from heimdall_fleet.dispatch.run import Run
from heimdall_fleet.dispatch.settings import Chains
from heimdall_models.catalogue import Rate
from heimdall_models.ceiling import needed_usd_micros


def chain_for(run: Run, room: Room) -> Chain:
    """Everything that may be asked for this order, and within which limits. `routes` is empty when nobody serves it."""
    plan, limits = run.order.plan, room.settings.failover
    rules = Rules(
        run.deadline_ms,
        limits.max_attempts,
        limits.enabled,
        room.pool.network,
        None if plan.max_cost_usd_micros is None else partial(_affordable, run, room),
        _special(run, room, limits.context_window_fallbacks),
        _special(run, room, limits.content_policy_fallbacks),
        room.jitter,
        room.settings.spill_after_ms,
    )
    routes = room.book.routes(plan.steps, limits.fallbacks)
    if limits.fallbacks:
        routes = room.bounds.within(run, routes)
    routes = spread(routes, room.jitter)
    first = routes[0] if routes else None
    chain = Chain(routes if limits.enabled else routes[:1], rules, first, plan.attempts_before)
    if not run.earlier:
        return chain
    return chain._replace(
        attempts=run.attempts_before, limited=run.limited_before, spent_usd_micros=run.spent_before_usd_micros
    )


def _affordable(run: Run, room: Room, route: Route, spent_usd_micros: int) -> bool:
    """Whether the money left pays for the caller's own limit on the output at `route`, else for what is expected."""
    output = run.output_tokens(room.settings.expected_output_tokens)
    needed = needed_usd_micros(run.order.plan.token_count, output, _rate(route, run, room))
    return needed <= left_usd_micros(run, spent_usd_micros)


def bounded_body(run: Run, route: Route, room: Room) -> Mapping[str, Any]:
    """The body that `route` is asked with: one with a ceiling on its cost, and no limit of its own on the output, gets
    the limit that the money left pays for."""
    plan = run.order.plan
    if plan.max_cost_usd_micros is None or run.output_limit is not None:
        return run.body
    fits = output_within(left_usd_micros(run, run.cost_usd_micros), plan.token_count, _rate(route, run, room))
    longest = route.target.usual_output or route.target.max_output
    if fits is None or (longest is not None and fits >= longest):
        return run.body
    return {**run.body, "max_completion_tokens": fits}


def left_usd_micros(run: Run, spent_usd_micros: int) -> int:
    return (run.order.plan.max_cost_usd_micros or 0) - spent_usd_micros


def _rate(route: Route, run: Run, room: Room) -> Rate:
    return (route.offer.price or room.settings.unknown_price).at(run.order.plan.token_count)


def _special(run: Run, room: Room, chains: Chains) -> Callable[[Route], tuple[Route, ...]]:
    return partial(_listed, run, room, chains) if chains else _no_chain


def _listed(run: Run, room: Room, chains: Chains, origin: Route) -> tuple[Route, ...]:
    return room.bounds.within(run, chain_routes(run.order.plan.steps[0], room.book, chains, origin))


def _no_chain(route: Route) -> tuple[Route, ...]:
    return ()
