"""`heimdall demo`: the whole path on the embedded broker, with 429s throughout and one outage in the middle."""

import asyncio
import os
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import orjson

from heimdall_fleet.bootstrap.edges import client_for, reader_for
from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.cli.live import display
from heimdall_fleet.cli.output import data, note
from heimdall_fleet.cli.premium import premium_price
from heimdall_fleet.config import Config, load
from heimdall_fleet.demo_data import prompts
from heimdall_fleet.report.replies import contradicting
from heimdall_fleet.report.summary import Ledger, block, summarise
from heimdall_fleet.stack.demo_plan import demo_plan
from heimdall_fleet.stack.load import Progress, arrival_times, drive
from heimdall_fleet.stack.local import Stack, StackOptions, local_stack

PER_SECOND = 10.0
DEADLINE = timedelta(seconds=60)


@click.command()
@click.option("--requests", type=click.IntRange(1, 100_000), default=150, show_default=True, help="How many to send.")
@click.option("--seed", type=int, default=7, show_default=True, help="Of arrivals, latencies and failures.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("out/demo"), show_default=True,
    help="Where the audit file and the logs go.",
)  # fmt: skip
@click.pass_obj
def demo(options: Globals, requests: int, seed: int, out: Path) -> None:
    """Prompts from small talk to proofs travel from Kafka to a reply. Exit code 1 if one gets lost.

    \b
    Example:
      heimdall demo --requests 300 --seed 11
    """
    figures = asyncio.run(_demo(requests, seed, out, options.bootstrap))
    if options.output == "json":
        data(figures)
    else:
        click.echo(block(figures, f"heimdall summary {figures['audit_file']}"))
    if figures["lost"] or figures["duplicates"]:
        raise CommandError(Exit.CHECK_FAILED, f"lost {figures['lost']}, contradicted {figures['duplicates']}")


async def _demo(count: int, seed: int, out: Path, bootstrap: str | None) -> dict[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    calls = out / "provider-calls.jsonl"
    calls.unlink(missing_ok=True)
    duration_s = count / PER_SECOND
    options = StackOptions(
        out / "stack", bootstrap, plan=demo_plan(seed, duration_s), calls=calls, environment=os.environ
    )
    note("heimdall demo: starting broker, providers, triage and dispatch")
    async with local_stack(options) as stack:
        config = load(stack.config, os.environ, {"kafka.bootstrap_servers": stack.bootstrap}).config
        progress = await _drive(config, count, seed)
        audit, contradictions = await _read_back(config, out)
        _keep_logs(stack)
    figures = summarise(Ledger.of(audit), premium_price(), asked=count)
    figures["lost"] = max(figures["lost"], count - progress.done)
    figures["duplicates"] += contradictions
    return {**figures, "audit_file": str(out / "audit.jsonl")}


async def _drive(config: Config, count: int, seed: int) -> Progress:
    written = prompts()
    random.Random(seed).shuffle(written)
    bodies = [written[number % len(written)].body for number in range(count)]
    progress = Progress(count)
    async with client_for(config) as client:
        with display() as show:
            times = arrival_times(count, PER_SECOND, seed)
            await drive(client, bodies, times, deadline=DEADLINE, progress=progress, on_change=show)
    return progress


async def _read_back(config: Config, out: Path) -> tuple[list[dict[str, Any]], int]:
    """The audit topic into a file, the reply topic into a count of contradictions: both from the broker."""
    topics = config.kafka.topics
    async with reader_for(config) as reader:
        audit = [orjson.loads(record.value or b"{}") async for record in reader.read([topics.audit])]
        replies = [record async for record in reader.read([topics.replies])]
    with (out / "audit.jsonl").open("wb") as file:
        file.writelines(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in audit)
    return audit, len(contradicting(replies))


def _keep_logs(stack: Stack) -> None:
    for child in stack.children:
        if not child.running:
            raise CommandError(
                Exit.UNREACHABLE, f"{child.name} ended in the middle; its last lines:\n{child.last_lines()}"
            )
