"""`heimdall bundles`: what classifier bundles there are, how they differ, which one decides, and the way back."""

import asyncio
from pathlib import Path
from typing import Any, get_args

import click

from heimdall_fleet.bootstrap.learn import refuse_unusable
from heimdall_fleet.cli.common import configuration
from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.cli.output import data, note, pretty
from heimdall_fleet.cli.pointers import pointers, write
from heimdall_fleet.config import Config
from heimdall_fleet.learn.aliases import Alias, NothingEarlier, stepping_back
from heimdall_fleet.shown import shown_address
from heimdall_fleet.triage.tuning import REFUSALS
from heimdall_models.bundle import MANIFEST, Bundle, BundleError, load_bundle
from heimdall_models.shipped import shipped
from heimdall_schemas.control import Pointer

BUNDLE = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group()
def bundles() -> None:
    """Classifier bundles: a directory each, with a manifest that names the hash of every file.

    \b
    Example:
      heimdall bundles show models/bundles/default
    """


@bundles.command("list")
@click.argument("directory", type=BUNDLE, required=False)
@click.pass_obj
def list_bundles(options: Globals, directory: Path | None) -> None:
    """Bundles below DIRECTORY (default: the shipped ones), one a line, and whether a worker takes them."""
    config = configuration(options).config
    root = directory or shipped("bundles")
    found = sorted(manifest.parent for manifest in root.glob(f"*/{MANIFEST}"))
    if not found:
        note(f"no directory in {root} is a bundle; `heimdall bundles show` takes one itself")
    for path in found:
        row = _row(path, config)
        if options.output == "json":
            data(row)
        else:
            click.echo(f"{row['hash'][:12]}  {row['created']}  {path.name}  {row['refused'] or 'fine'}")


@bundles.command()
@click.argument("bundle", type=BUNDLE, required=False)
@click.pass_obj
def show(options: Globals, bundle: Path | None) -> None:
    """The manifest of BUNDLE (default: the shipped one), after every check that a worker makes."""
    config = configuration(options).config
    try:
        loaded = _usable(bundle or shipped("bundles/default"), config)
    except REFUSALS as error:
        raise CommandError(Exit.CHECK_FAILED, str(error)) from error
    shown = {"hash": loaded.hash, **loaded.manifest}
    if options.output == "json":
        data(shown)
    else:
        pretty(shown)


@bundles.command()
@click.argument("one", type=BUNDLE)
@click.argument("other", type=BUNDLE)
@click.pass_obj
def diff(options: Globals, one: Path, other: Path) -> None:
    """Fields of the manifests that differ."""
    left, right = _flat(_load(one).manifest), _flat(_load(other).manifest)
    changed = {
        name: {"one": left.get(name), "other": right.get(name)}
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    }
    if options.output == "json":
        data(changed)
        return
    for name, both in changed.items():
        click.echo(f"{name}: {both['one']} → {both['other']}")


@bundles.command()
@click.pass_obj
def aliases(options: Globals) -> None:
    """What the fleet's control topic points at, one alias a line, with the way back.

    \b
    Example:
      heimdall bundles aliases
    """
    config = configuration(options).config
    standing = asyncio.run(pointers(config))
    if "champion" not in standing:
        configured = shown_address(config.tuning.artifact_url)
        note(f"no champion was promoted: the bundle of tuning.artifact_url decides, {configured}")
    for alias, pointer in standing.items():
        row = {"alias": alias, **_shown(pointer)}
        if options.output == "json":
            data(row)
        else:
            earlier = ", ".join((each.bundle or "?")[:12] for each in pointer.earlier) or "the configured one"
            click.echo(f"{alias:<10}  {(pointer.bundle or '?')[:12]}  since {pointer.time or '?'}  before: {earlier}")


@bundles.command()
@click.option("--alias", type=click.Choice(get_args(Alias)), default="champion", show_default=True)
@click.pass_obj
def rollback(options: Globals, alias: Alias) -> None:
    """Go back to the bundle before the last promotion, in every triage worker, from its next batch on.

    \b
    Example:
      heimdall bundles rollback
    """
    config = configuration(options).config
    current = asyncio.run(pointers(config)).get(alias)
    try:
        before = stepping_back(current)
    except NothingEarlier as error:
        raise CommandError(Exit.NOT_FOUND, str(error)) from error
    asyncio.run(write(config, {alias: before}))
    nothing = "the one of tuning.artifact_url" if alias == "champion" else "none"
    note(f"{alias} is {(before.bundle or before.url)[:12] if before else nothing} again")
    if options.output == "json":
        data({"alias": alias, "from": current and current.bundle, "to": before and before.bundle})


def _shown(pointer: Pointer) -> dict[str, Any]:
    shown = pointer.model_dump(mode="json")
    for each in (shown, *shown["earlier"]):
        each["url"] = shown_address(each["url"])
    return shown


def _row(path: Path, config: Config) -> dict[str, Any]:
    try:
        loaded = _usable(path, config)
    except REFUSALS as error:
        return {"path": str(path), "hash": "-", "created": "-", "refused": str(error)}
    return {"path": str(path), "hash": loaded.hash, "created": loaded.manifest.get("created"), "refused": None}


def _usable(path: Path, config: Config) -> Bundle:
    """Raises one of `REFUSALS`."""
    loaded = load_bundle(path)
    refuse_unusable(loaded, config)
    return loaded


def _load(path: Path) -> Bundle:
    try:
        return load_bundle(path)
    except BundleError as error:
        raise CommandError(Exit.CHECK_FAILED, str(error)) from error


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        name: leaf
        for key, below in value.items()
        for name, leaf in _flat(below, f"{prefix}.{key}" if prefix else str(key)).items()
    }
