"""`heimdall learn --once`: replay, look for drift, train, compare, and promote what is proven better. For a scheduler."""

import asyncio
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from heimdall_fleet.bootstrap.edges import producing
from heimdall_fleet.bootstrap.learn import champion_of, shelf_for
from heimdall_fleet.cli.common import configuration, needs_training_extra
from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.cli.output import data, note
from heimdall_fleet.cli.pointers import pointers
from heimdall_fleet.cli.promote import NO_SHELF, promoted, usable
from heimdall_fleet.cli.replay import KAFKA, Wish, replayed
from heimdall_fleet.cli.values import STRETCH
from heimdall_fleet.config import Config
from heimdall_fleet.kafka.records import Outgoing
from heimdall_fleet.learn.aliases import Alias
from heimdall_fleet.learn.dataset import write_json
from heimdall_fleet.triage.sources import SourceError
from heimdall_models.bundle import load_bundle
from heimdall_schemas.codec import encode
from heimdall_schemas.control import DRIFT, Drift, Pointer

if TYPE_CHECKING:
    from heimdall_fleet.learn.turn import Turn


@dataclass(frozen=True, slots=True)
class Order:
    """What the command line asks for. `alias` None: a dry run."""

    sources: tuple[str, ...]
    out: Path
    recent: timedelta | datetime
    alias: Alias | None
    now: datetime


@click.command()
@click.option("--once", is_flag=True, help="One turn, then the end: a scheduler starts the next.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True,
    help="Kept between runs: data set, bundles, and a summary of each run.",
)  # fmt: skip
@click.option(
    "--from", "sources", multiple=True, default=(KAFKA,), show_default=True, metavar="{kafka,FILE}",
    help="As in `heimdall replay`.",
)  # fmt: skip
@click.option(
    "--recent", type=STRETCH, default="7d", show_default=True,
    metavar="7d|TIME", help="The end of the log that is held against what was before it: its length, or when it begins.",
)  # fmt: skip
@click.option("--alias", type=click.Choice(get_args(Alias)), default="champion", show_default=True,
              help="What a bundle that passes becomes.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Everything but the promotion.")
@click.pass_obj
def learn(  # noqa: PLR0913, PLR0917 - click hands every option over by itself
    options: Globals,
    once: bool,
    out: Path,
    sources: tuple[str, ...],
    recent: timedelta | datetime,
    alias: Alias,
    dry_run: bool,
) -> None:
    """Learn from the audit since the last run, and promote the result if every gate passes.

    Exit code 0 when the turn was made, promoted or not: `promoted` and `why_not` of the summary say which.

    \b
    Example:
      heimdall learn --once --out /var/lib/heimdall/learning
      heimdall learn --once --from audit.jsonl --out out/learning --dry-run
    """
    if not once:
        raise CommandError(Exit.USAGE, "give --once: one turn, then the end; a scheduler such as cron starts the next")
    config = configuration(options).config
    if not dry_run and shelf_for(config) is None:
        raise CommandError(Exit.USAGE, NO_SHELF)
    told = _learn(config, Order(sources, out, recent, None if dry_run else alias, datetime.now(UTC)))
    _say(told)
    if options.output == "json":
        data(told)


@needs_training_extra
def _learn(config: Config, order: Order) -> dict[str, Any]:
    from heimdall_fleet.learn.turn import Plan, drift_message, rules_for, turn

    stamp = order.now.strftime("%Y%m%dT%H%M%SZ")
    dataset, bundle = order.out / "data", order.out / "bundles" / stamp
    told = replayed(config, Wish(order.sources, dataset, None, None, {}, resume=(dataset / "manifest.json").exists()))
    standing = asyncio.run(pointers(config)).get("champion") if order.alias or KAFKA in order.sources else None
    try:
        with champion_of(config, standing) as champion:
            note(f"learning from {told['rows']:,} requests")
            rules = rules_for(config, order.now.date())
            plan = Plan(dataset, champion, bundle, order.now, order.recent, rules, config.learning.fit_text)
            made = turn(plan)
            before = load_bundle(champion).hash
    except SourceError as error:
        raise CommandError(Exit.UNREACHABLE, f"the bundle in use cannot be had: {error}") from error
    if order.alias is not None and (seen := drift_message(made.drift, order.now)) is not None:
        asyncio.run(_tell_drift(seen, config))
    summary = {
        "run": stamp,
        "dataset": told,
        "champion": before,
        **made.as_json(),
        **_promotion(made, bundle, config, order, standing),
    }
    return {**summary, **_kept(summary, made, order.out / "runs" / stamp)}


async def _tell_drift(seen: Drift, config: Config) -> None:
    """Every triage worker shows it on `/metrics` until the next turn says otherwise. Raises KafkaFailure."""
    value = encode(seen.model_dump())
    async with producing(config, "heimdall-learn") as producer:
        await producer.send(Outgoing(config.kafka.topics.control, value, key=DRIFT.encode(), partition=0))


def _kept(summary: dict[str, Any], made: "Turn", place: Path) -> dict[str, str]:
    """The summary as a file and, where there was a comparison, a page about it; where they lie."""
    place.parent.mkdir(parents=True, exist_ok=True)
    files = {"summary": place.with_suffix(".json")}
    write_json(files["summary"], summary)
    if (page := made.page()) is not None:
        files["report"] = place.with_suffix(".html")
        files["report"].write_text(page, encoding="utf-8")
    return {name: str(file) for name, file in files.items()}


def _promotion(made: "Turn", bundle: Path, config: Config, order: Order, standing: Pointer | None) -> dict[str, Any]:
    """Promote what passed every gate. The comparison was with `standing`: if another decides by now, it proves nothing."""
    if not made.promotable:
        return {"promoted": False}
    if order.alias is None:
        return {"promoted": False, "why_not": "a dry run; every gate passed"}
    if asyncio.run(pointers(config)).get("champion") != standing:
        return {
            "promoted": False,
            "why_not": "somebody promoted another bundle meanwhile; the next run compares with it",
        }
    done = asyncio.run(promoted(usable(bundle, config), order.alias, config))
    return {"promoted": True, "promotion": asdict(done)}


def _say(told: dict[str, Any]) -> None:
    for name, what in told["drift"]["alarms"].items():
        note(f"  drift: {name}: {what}")
    for gate in told["gates"]:
        note(f"  gate {gate['name']}: {'passed' if gate['passed'] else 'failed'}: {gate['why']}")
    if told["promoted"]:
        note(f"promoted: {told['promotion']['bundle'][:12]} is {told['promotion']['alias']}")
    else:
        note(f"not promoted: {told['why_not']}")
