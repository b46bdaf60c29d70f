"""`heimdall summary FILE`: the closing block of a run, from the audit file it left."""

from pathlib import Path

import click

from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.cli.output import data
from heimdall_fleet.cli.premium import premium_price
from heimdall_fleet.report.audit_file import read_audit_file
from heimdall_fleet.report.summary import Ledger, block, summarise


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--requests", type=int, help="How many were sent; default: those the audit knows.")
@click.pass_obj
def summary(options: Globals, file: Path, requests: int | None) -> None:
    """Requests, buckets, latency, cost against always-premium, failovers and losses, from audit records alone.

    \b
    Example:
      heimdall summary out/demo/audit.jsonl
    """
    figures = summarise(Ledger.of(read_audit_file(file)), premium_price(), requests)
    if options.output == "json":
        data(figures)
    else:
        click.echo(block(figures, f"heimdall summary {file}"))
