"""Outcome tables → measurements → bundle → model card; the same bytes for the same plan and tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson
from pydantic import BaseModel, Field, ValidationError

from heimdall_models.bundle import MANIFEST, QUALITY, BundleError, load_bundle
from heimdall_models.embed import CheckedEmbedder
from heimdall_models.quality import ATTRIBUTIONS, QualityError, parse_quality
from heimdall_models.training.card import model_card
from heimdall_models.training.fit import Settings, Target, own_settings
from heimdall_models.training.labels import Labelled, labelled
from heimdall_models.training.study import few_labels, in_domain, left_out
from heimdall_models.training.tables import OutcomeTable, Pools, TableError, read_tables
from heimdall_models.training.train import Recipe, TrainingError, check_enough, train_bundle
from heimdall_schemas.faults import faults_of

__all__ = ["CARD", "Plan", "TrainingError", "build", "read_plan"]

CARD = "MODEL_CARD.md"
FEWEST_ROWS, FEWEST_QUESTIONS = 200, 50
"""A table of fewer is trained on, but not measured by itself: a fold by question might get nothing."""

_BULKY = ("frontier", "domains")

_REBUILD = """## How to build it again

`heimdall train` with the same tables, seed, `--created` and library versions gives the same bytes; the shipped bundle is
`heimdall train --recipe default`. `python -m heimdall_models.training.convert --help` says how its tables are made."""

Traffic = Literal["own", "unseen"]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a bundle depends on besides its tables.

    `traffic`: `own` when what will be served is like the tables (fitted to which side is preferred), `unseen` when the
    tables only stand in for it (fitted to what carries over between benchmarks). `created` goes into the manifest.
    `quick` skips the measurements. `parent`: the bundle this one replaces. `quality`: quality table to ship. `pools` by
    table: whose scores are the cheap and the strong side. `sources`: table, repository and licence of each. `embedder`: a
    plugged-in one.
    """

    created: datetime
    seed: int = 0
    traffic: Traffic = "own"
    quick: bool = False
    parent: Path | None = None
    quality: Path | None = None
    pools: Mapping[str, Pools] = field(default_factory=dict)
    sources: Sequence[Mapping[str, str]] = ()
    embedder: CheckedEmbedder | None = None


def read_plan(recipe: Path | None, plan: Plan) -> Plan:
    """`plan` with traffic, seed, pools and sources of a recipe file; None is the recipe of the shipped bundle.

    Raises TableError when the file is not a recipe.
    """
    source = recipe or files(__package__).joinpath("default.json")
    try:
        read = _Recipe.model_validate_json(source.read_bytes())
    except (OSError, ValidationError) as error:
        why = faults_of(error).text if isinstance(error, ValidationError) else error.strerror
        raise TableError(f"{source}: not a recipe with traffic, seed, pools and sources ({why})") from error
    pools = {name: Pools(each.cheap, each.strong) for name, each in read.pools.items()}
    sources = tuple(each.model_dump() for each in read.sources)
    return replace(plan, traffic=read.traffic, seed=read.seed, pools=pools, sources=sources)


class _Sides(BaseModel):
    cheap: tuple[str, ...] = Field(min_length=1)
    strong: tuple[str, ...] = Field(min_length=1)


class _Source(BaseModel):
    table: str
    repository: str
    licence: str
    what: str


class _Recipe(BaseModel):
    """The file of a recipe; fields beyond these are nobody's."""

    traffic: Traffic
    seed: int = Field(ge=0)
    pools: dict[str, _Sides]
    sources: tuple[_Source, ...]


def build(paths: Sequence[Path], out: Path, plan: Plan, say: Say = lambda _: None) -> dict[str, Any]:
    """Read, measure, fit and write bundle and model card into `out`; returns the manifest.

    Raises TableError, TrainingError, QualityError or BundleError; nothing is written before the tables were read.
    """
    tables = read_tables(paths)
    say(f"{len(tables)} tables, {sum(map(len, tables)):,} rows")
    recipe = Recipe(
        created=plan.created,
        settings=_settings(plan, sum(map(len, tables))),
        target=_target(plan),
        pools={table.name: plan.pools[table.name] for table in tables if table.name in plan.pools},
        sources=[source for source in plan.sources if source["table"] in {table.name for table in tables}],
        quality=_quality(plan),
        parent=_parent_hash(plan, say),
        measured={} if plan.quick else _measured(tables, plan, say),
        embedder=plan.embedder,
    )
    say("fitting the bundle")
    train_bundle(tables, out, recipe)
    manifest: dict[str, Any] = orjson.loads((out / MANIFEST).read_bytes())
    (out / CARD).write_text(card_text(manifest), encoding="utf-8")
    return manifest


def card_text(manifest: Mapping[str, Any]) -> str:
    """The model card with what else its reader needs: what was not measured, attributions, how to build it again."""
    notes = [] if manifest.get("metrics") else ["Nothing was measured: the bundle was trained with `--quick`."]
    if QUALITY in manifest["files"]:
        listed = "\n".join(f"- {name}" for name in ATTRIBUTIONS)
        notes.append(
            f"## Quality table\n\nEstimates by model and domain, derived from published scores of:\n\n{listed}"
        )
    return "\n\n".join((model_card(manifest).rstrip(), *notes, _REBUILD)) + "\n"


def _measured(tables: Sequence[OutcomeTable], plan: Plan, say: Say) -> dict[str, Any]:
    """`metrics` and `accuracy` of the manifest: every number from rows that the fit it comes from did not see."""
    rows = labelled(tables, plan.pools, _target(plan))
    check_enough(rows)
    inside: dict[str, Any] = {}
    few: dict[str, Any] = {}
    for number, name in enumerate(rows.tables):
        place = np.flatnonzero(rows.source == number)
        if _is_measured(rows.rows(place)):
            say(f"in-domain folds: {name}")
            inside[name] = _slim(in_domain(rows, name, plan.seed))
            few[name] = dict(few_labels(rows, name))
    metrics: dict[str, Any] = {"in_domain": inside, "few_labels": few, "left_out": _left_out(rows, plan, say)}
    accuracy = _mean_apgr(inside)
    return {"metrics": metrics} | ({} if accuracy is None else {"accuracy": accuracy})


def _is_measured(table: Labelled) -> bool:
    enough = len(table) >= FEWEST_ROWS and len(np.unique(table.examples.question)) >= FEWEST_QUESTIONS
    return enough and bool(table.strong.mean() > table.cheap.mean())


def _left_out(rows: Labelled, plan: Plan, say: Say) -> dict[str, Any]:
    """Each benchmark left out in turn; nothing when there is only one."""
    if len(set(rows.benches.tolist())) < 2:
        return {}
    say("leaving out each benchmark in turn")
    return {name: _slim(found) for name, found in left_out(rows, _settings(plan, len(rows))).items()}


def _slim(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in _BULKY}


def _mean_apgr(found: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Mean over the rows of all tables."""
    known = [(row["n"], row["apgr"]) for row in found.values() if row["apgr"] is not None]
    total = sum(n for n, _ in known)
    return sum(n * area for n, area in known) / total if total else None


def _settings(plan: Plan, rows: int) -> Settings:
    return Settings(seed=plan.seed) if plan.traffic == "unseen" else own_settings(rows, plan.seed)


def _target(plan: Plan) -> Target:
    return "cheap_ok" if plan.traffic == "unseen" else "gain"


def _parent_hash(plan: Plan, say: Say) -> str | None:
    """None for a parent that this version cannot load: it is then replaced, not continued."""
    if plan.parent is None:
        return None
    try:
        return load_bundle(plan.parent).hash
    except BundleError as error:
        say(f"no parent: {error}")
        return None


def _quality(plan: Plan) -> bytes | None:
    """The quality table to ship, checked. Raises QualityError."""
    if plan.quality is None:
        return None
    try:
        document = plan.quality.read_bytes()
    except OSError as error:
        raise QualityError(f"{plan.quality}: cannot be read ({error.strerror})") from error
    parse_quality(document)
    return document
