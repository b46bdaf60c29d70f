"""`heimdall config`: check the configuration, show it, describe it, start one."""

import os
import sys
from pathlib import Path
from typing import Literal, NoReturn

import click
import orjson

from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.config.change import config_hash
from heimdall_fleet.config.issues import ConfigError, Issue, dotted, render
from heimdall_fleet.config.load import ENVIRONMENTS, Loaded, find_file, load
from heimdall_fleet.config.model import Environment
from heimdall_fleet.config.schema import json_schema
from heimdall_fleet.config.show import as_data, as_yaml, with_origin
from heimdall_fleet.config.starter import starter_file, write_new

Output = Literal["text", "json"]
_INVALID = 2

_output_option = click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), help="text for people, json for machines."
)


class _Group(click.Group):
    """`check` is the older name of `lint`."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, "lint" if cmd_name == "check" else cmd_name)


@click.group(cls=_Group)
def group() -> None:
    """Check, show, describe or start a configuration.

    \b
    Example:
      heimdall config lint heimdall.yaml
    """


@group.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@_output_option
@click.pass_obj
def lint(options: Globals, file: Path | None, output: Output | None) -> None:
    """Check the configuration and point at every mistake. Exit code 2 when there is one. Also called `check`.

    \b
    Example:
      ENVIRONMENT=production heimdall config lint heimdall.yaml
    """
    as_json = (output or options.output) == "json"
    path = find_file(file or options.config, os.environ)
    try:
        loaded = load(path, os.environ, _flags(options))
    except ConfigError as error:
        if as_json:
            _print_json({"valid": False, "file": str(path), "issues": [_issue_json(issue) for issue in error.issues]})
        _fail(error)
    warnings = (*loaded.warnings, *_of_the_catalogue(loaded))
    for issue in warnings:
        click.echo(render(issue), err=True)
    if as_json:
        issues = [_issue_json(issue) for issue in warnings]
        _print_json({"valid": True, "file": str(path) if path else None, "issues": issues})
    else:
        name = path or "the defaults (there is no heimdall.yaml)"
        click.echo(f"{name}: no errors, {len(warnings)} warnings, environment {loaded.environment}", err=True)


def _of_the_catalogue(loaded: Loaded) -> list[Issue]:
    from heimdall_fleet.bootstrap.edges import doubtful_names

    found = doubtful_names(loaded.config, candidates=True)
    return [Issue(dotted(each.path), each.message, each.hint, None, each.severity) for each in found]


@group.command()
@click.option("--origin", is_flag=True, help="Say for each value where it comes from.")
@_output_option
@click.pass_obj
def show(options: Globals, origin: bool, output: Output | None) -> None:
    """Print the configuration in force: defaults, files, environment and flags together. Credentials are masked.

    \b
    Example:
      heimdall config show --origin | grep router
    """
    loaded = _load(options)
    if (output or options.output) == "json":
        _print_json(_shown(loaded, origin))
    elif origin:
        for key, value, source in with_origin(loaded):
            click.echo(f"{key} = {orjson.dumps(value).decode()}  # {source}")
    else:
        click.echo(as_yaml(loaded.config), nl=False)


@group.command()
def schema() -> None:
    """Print the JSON Schema of heimdall.yaml.

    \b
    Example:
      heimdall config schema > heimdall.schema.json
    """
    _print_json(json_schema())


@group.command()
@click.option("--environment", type=click.Choice(ENVIRONMENTS), help="Write the overlay of this environment instead.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False, exists=True), default=Path(), help="Directory.")
def init(environment: Environment | None, out: Path) -> None:
    """Write a heimdall.yaml to start from. A file that is there already is never touched.

    \b
    Example:
      heimdall config init && heimdall config init --environment production
    """
    name, text = starter_file(environment)
    try:
        write_new(out / name, text)
    except FileExistsError:
        click.echo(f"{out / name} exists already; move it away first, nothing was written", err=True)
        sys.exit(_INVALID)
    click.echo(f"wrote {out / name}; next: heimdall config lint {out / name}", err=True)


def _load(options: Globals) -> Loaded:
    try:
        loaded = load(find_file(options.config, os.environ), os.environ, _flags(options))
    except ConfigError as error:
        _fail(error)
    for issue in loaded.warnings:
        click.echo(render(issue), err=True)
    return loaded


def _flags(options: Globals) -> dict[str, object]:
    return {"kafka.bootstrap_servers": options.bootstrap, "observe.log.format": options.log_format}


def _fail(error: ConfigError) -> NoReturn:
    for issue in error.issues:
        click.echo(render(issue), err=True)
    errors = sum(issue.severity == "error" for issue in error.issues)
    click.echo(f"{error.code}: {errors} error{'s' if errors != 1 else ''}", err=True)
    sys.exit(_INVALID)


def _shown(loaded: Loaded, origin: bool) -> dict[str, object]:
    shown: dict[str, object] = {
        "environment": loaded.environment,
        "config_hash": config_hash(loaded.config),
        "config": as_data(loaded.config),
    }
    if origin:
        shown["origin"] = {key: source for key, _, source in with_origin(loaded)}
    return shown


def _issue_json(issue: Issue) -> dict[str, object]:
    place = issue.place
    return {
        "severity": issue.severity,
        "key": issue.key,
        "message": issue.message,
        "hint": issue.hint,
        "source": place.source if place else None,
        "line": place.line if place and place.line else None,
        "column": place.column if place and place.line else None,
    }


def _print_json(value: object) -> None:
    click.echo(orjson.dumps(value).decode())
