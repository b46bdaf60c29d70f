"""`heimdall promote`: a bundle that passes its gates decides for the whole fleet, without a restart."""

import asyncio
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import click

from heimdall_fleet.bootstrap.learn import champion_of, refuse_unusable, shelf_for
from heimdall_fleet.cli.common import configuration, needs_training_extra
from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.cli.output import data, note
from heimdall_fleet.cli.pointers import pointers, standing_champion, write
from heimdall_fleet.config import Config
from heimdall_fleet.learn.aliases import Alias, succeeding
from heimdall_fleet.learn.archive import Shelf, digest_of, packed
from heimdall_fleet.objects.base import ObjectStoreError
from heimdall_fleet.triage.sources import SourceError
from heimdall_fleet.triage.tuning import REFUSALS
from heimdall_models.bundle import Bundle, BundleError, load_bundle
from heimdall_schemas.control import Pointer

NO_SHELF = (
    "not promoted: there is no place for the archive; set learning.bundle_store, such as file:///srv/heimdall/bundles "
    "on a volume that all triage workers mount"
)
BUNDLE = click.Path(exists=True, file_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True)
class Promoted:
    """What now stands on the control topic; `replaces` and `bundle` are hashes of manifests."""

    alias: Alias
    bundle: str
    url: str
    sha256: str
    replaces: str | None


@click.command()
@click.argument("bundle", type=BUNDLE)
@click.option("--alias", type=click.Choice(get_args(Alias)), default="champion", show_default=True,
              help="champion decides; challenger decides silently beside it.")  # fmt: skip
@click.option("--data", "dataset", type=BUNDLE, help="A replayed data set on which it must prove to be better.")
@click.option("--dry-run", is_flag=True, help="Check and ask the gates; promote nothing.")
@click.pass_obj
def promote(options: Globals, bundle: Path, alias: Alias, dataset: Path | None, dry_run: bool) -> None:
    """Let BUNDLE decide in every triage worker, from its next batch on.

    It must pass what each worker checks and, with --data, every gate of a comparison with the bundle that decides now;
    else exit code 1 and the reason. Without --data nobody asks whether it is better.

    \b
    Example:
      heimdall promote bundles/mine --alias challenger
      heimdall promote bundles/mine --data data/audit --dry-run
      heimdall promote bundles/mine --data data/audit
      heimdall bundles rollback
    """
    config = configuration(options).config
    loaded = usable(bundle, config)
    gates = _passed(bundle, dataset, config) if dataset else []
    if dry_run:
        note(f"a dry run: {loaded.hash[:12]} would be promoted to {alias}")
        if options.output == "json":
            data({"promoted": False, "bundle": loaded.hash, "alias": alias, "gates": gates})
        return
    done = asyncio.run(promoted(loaded, alias, config))
    note(f"{done.alias} is {done.bundle[:12]}; `heimdall bundles rollback --alias {alias}` takes it back")
    if options.output == "json":
        data({**asdict(done), "gates": gates})


@needs_training_extra
def _passed(bundle: Path, dataset: Path, config: Config) -> list[dict[str, Any]]:
    """The gates, all passed. Raises CommandError (1) with those that failed."""
    from heimdall_fleet.learn.turn import failing, judged, rules_for
    from heimdall_models.learning.logged import DatasetError, read_logged

    try:
        with champion_of(config, standing_champion(config)) as champion:
            _, gates = judged(champion, bundle, read_logged(dataset), rules_for(config, datetime.now(UTC).date()))
    except (DatasetError, BundleError, SourceError) as error:
        raise CommandError(Exit.USAGE, f"not promoted: {error}") from error
    if (why_not := failing(gates)) is not None:
        raise CommandError(Exit.CHECK_FAILED, f"not promoted: {why_not}")
    for gate in gates:
        note(f"  gate {gate.name}: passed: {gate.why}")
    return [asdict(gate) for gate in gates]


def usable(path: Path, config: Config) -> Bundle:
    """The bundle, after every check that a worker makes. Raises CommandError (1)."""
    try:
        bundle = load_bundle(path)
        refuse_unusable(bundle, config)
    except (BundleError, *REFUSALS) as error:
        raise CommandError(Exit.CHECK_FAILED, f"not promoted: {error}") from error
    return bundle


async def promoted(bundle: Bundle, alias: Alias, config: Config) -> Promoted:
    """Store the archive, then move the pointer. Raises CommandError, KafkaFailure."""
    archive = packed(bundle)
    digest = digest_of(archive)
    try:
        url = await _shelf(config).put(archive, digest)
    except ObjectStoreError as error:
        raise CommandError(Exit.UNREACHABLE, f"not promoted: {error}") from error
    now = datetime.now(UTC).isoformat(timespec="seconds")
    fresh = Pointer(name="bundle", url=url, sha256=digest, bundle=bundle.hash, time=now)
    standing = await pointers(config)
    before = standing.get(alias)
    changes: dict[Alias, Pointer | None] = {alias: succeeding(before, fresh)}
    challenger = standing.get("challenger")
    if alias == "champion" and challenger is not None and challenger.sha256 == digest:
        changes["challenger"] = None
    await write(config, changes)
    return Promoted(alias, bundle.hash, url, digest, before.bundle if before else None)


def _shelf(config: Config) -> Shelf:
    shelf = shelf_for(config)
    if shelf is None:
        raise CommandError(Exit.USAGE, NO_SHELF)
    return shelf
