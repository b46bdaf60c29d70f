"""Whom an order may be answered by. Triage has held the plan's steps against this; configured chains come after triage."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from heimdall_fleet.dispatch.routes import Route
from heimdall_fleet.dispatch.run import Run
from heimdall_models.rules import Resolve, allows, meant

Names = tuple[str, ...]


def _itself(name: str) -> str | None:
    return name


@dataclass(frozen=True, slots=True)
class Bounds:
    """`resolve`: any spelling of a model → its id. `tenants`: tenant → the models and authors that may answer it.
    `exclude_authors` answer nobody."""

    resolve: Resolve = _itself
    tenants: Mapping[str, Names] = field(default_factory=dict)
    exclude_authors: Names = ()

    def within(self, run: Run, routes: tuple[Route, ...]) -> tuple[Route, ...]:
        """Without the routes to models that caller, tenant or configuration rule out; those of the plan's steps stay."""
        only, never = self._lists(run)
        if not only and not never:
            return routes
        own = {step.model for step in run.order.plan.steps}
        return tuple(
            route
            for route in routes
            if (model := route.target.model_id) in own
            or (all(allows(names, model) for names in only) and not allows(never, model))
        )

    def _lists(self, run: Run) -> tuple[list[Names], Names]:
        """Lists of which each must name the model, and the names that it must not have. Triage has checked the body."""
        said = run.body.get("heimdall") or {}
        lists = (said.get("candidates"), self.tenants.get(run.order.plan.tenant or ""))
        only = [meant(names, self.resolve) for names in lists if names]
        authors = (f"{author}/" for author in self.exclude_authors)
        return only, (*meant(said.get("exclude") or (), self.resolve), *authors)
