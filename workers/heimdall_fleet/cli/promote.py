"""`heimdall promote`: a bundle that passes its gates decides for the whole fleet, without a restart."""

import asyncio
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import click

from heimdall_fleet.bootstrap.edges import producer_for, reader_for
from heimdall_fleet.bootstrap.learn import refuse_unusable, shelf_for
from heimdall_fleet.cli.common import configuration
from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.cli.output import data, note
from heimdall_fleet.config import Config
from heimdall_fleet.dispatch.objects import ObjectStoreError
from heimdall_fleet.learn.aliases import Alias, point, read_aliases, succeeding
from heimdall_fleet.learn.archive import Shelf, digest_of, packed
from heimdall_fleet.triage.tuning import REFUSALS
from heimdall_models.bundle import Bundle, BundleError, load_bundle
from heimdall_schemas.control import Pointer

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
@click.pass_obj
def promote(options: Globals, bundle: Path, alias: Alias) -> None:
    """Let BUNDLE decide in every triage worker, from its next batch on.

    \b
    Example:
      heimdall promote bundles/mine --alias challenger
      heimdall promote bundles/mine
      heimdall bundles rollback
    """
    config = configuration(options).config
    loaded = usable(bundle, config)
    done = asyncio.run(promoted(loaded, alias, config))
    note(f"{done.alias} is {done.bundle[:12]}; `heimdall bundles rollback --alias {alias}` takes it back")
    if options.output == "json":
        data(asdict(done))


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
    topics = config.kafka.topics
    async with reader_for(config) as reader:
        standing = await read_aliases(reader, topics.control)
    before = standing.get(alias)
    changes: dict[Alias, Pointer | None] = {alias: succeeding(before, fresh)}
    challenger = standing.get("challenger")
    if alias == "champion" and challenger is not None and challenger.sha256 == digest:
        changes["challenger"] = None
    await write(config, changes)
    return Promoted(alias, bundle.hash, url, digest, before.bundle if before else None)


async def write(config: Config, changes: dict[Alias, Pointer | None]) -> None:
    """Move these pointers. Raises KafkaFailure."""
    producer = producer_for(config, "heimdall-promote")
    await producer.start()
    try:
        for alias, pointer in changes.items():
            await point(producer, config.kafka.topics.control, alias, pointer)
    finally:
        await producer.stop()


def _shelf(config: Config) -> Shelf:
    shelf = shelf_for(config)
    if shelf is None:
        raise CommandError(
            Exit.USAGE,
            "not promoted: there is no place for the archive; set learning.bundle_store, such as "
            "file:///srv/heimdall/bundles on a volume that all triage workers mount",
        )
    return shelf
