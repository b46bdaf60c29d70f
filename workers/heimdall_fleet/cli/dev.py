"""`heimdall dev`: the same stack as the demo, running until it is told to stop."""

import asyncio
import os
import signal
import tempfile
from pathlib import Path

import click
import orjson

from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.cli.output import data, note
from heimdall_fleet.stack.local import Stack, StackOptions, local_stack

WATCH_EVERY_S = 0.5


@click.command()
@click.option("--addresses", type=click.Path(path_type=Path), help="Written, atomically, once every part answers.")
@click.pass_obj
def dev(options: Globals, addresses: Path | None) -> None:
    """Broker, scripted providers, triage and dispatch until SIGINT or SIGTERM. No Docker, no Java, no key.

    With --bootstrap it uses that Kafka (and creates the topics that are missing); with --config your providers
    instead of the scripted ones.

    \b
    Example:
      heimdall dev --addresses dev.json
    """
    with tempfile.TemporaryDirectory(prefix="heimdall-dev-") as directory:
        stack_options = StackOptions(
            directory=Path(directory), bootstrap=options.bootstrap, config=options.config, environment=os.environ
        )
        try:
            asyncio.run(_dev(stack_options, addresses, options.output))
        finally:
            if addresses:
                addresses.unlink(missing_ok=True)


async def _dev(options: StackOptions, addresses: Path | None, output: str) -> None:
    leave = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, leave.set)
    async with local_stack(options) as stack:
        _announce(stack, addresses, output)
        while not leave.is_set():
            _check(stack)
            try:
                await asyncio.wait_for(leave.wait(), WATCH_EVERY_S)
            except TimeoutError:
                continue
        note("heimdall dev: stopping")


def _announce(stack: Stack, addresses: Path | None, output: str) -> None:
    found = stack.addresses()
    if addresses:
        part = addresses.with_name(addresses.name + ".part")
        part.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
        part.replace(addresses)
    if output == "json":
        data(found)
    note(f"heimdall dev: ready at {stack.bootstrap}; requests on {stack.topics.requests}, ^C stops it")
    note(f"heimdall dev: logs until then in {stack.children[0].log.parent}")


def _check(stack: Stack) -> None:
    for child in stack.children:
        if not child.running:
            raise CommandError(
                Exit.UNREACHABLE,
                f"{child.name} ended with code {child.process.returncode}; its last lines:\n{child.last_lines()}",
            )
