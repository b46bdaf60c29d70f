"""`heimdall tail`: decoded records of a topic, one a line."""

import asyncio

import click

from heimdall_fleet.bootstrap.edges import reader_for
from heimdall_fleet.cli.common import configuration
from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.cli.output import data
from heimdall_fleet.config import Config
from heimdall_fleet.report.decode import decoded
from heimdall_schemas.topics import Bucket, Topics

ORDERS = "orders"


@click.command()
@click.argument("entity", metavar="{requests,orders,replies,audit,dlq,…}")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until ^C.")
@click.option("--values", is_flag=True, help="Only the values: `tail audit --values` writes an audit file.")
@click.pass_obj
def tail(options: Globals, entity: str, follow: bool, values: bool) -> None:
    """Every record of a topic, decoded: place, time, key, headers, value. `orders`: the three dispatch topics.

    \b
    Example:
      heimdall tail audit --values > audit.jsonl
      heimdall tail replies -f
    """
    config = configuration(options).config
    names = topics_named(config.kafka.topics, entity)
    asyncio.run(_tail(config, names, follow, values))


def topics_named(topics: Topics, entity: str) -> list[str]:
    """The topics that a word means. Raises CommandError (2) with the words there are."""
    if entity == ORDERS:
        return [topics.dispatch(bucket) for bucket in Bucket]
    known = {topic.entity: topic.name for topic in topics.all()}
    if entity not in known:
        raise CommandError(Exit.USAGE, f"no topic {entity!r}; there are {ORDERS}, {', '.join(known)}")
    return [known[entity]]


async def _tail(config: Config, names: list[str], follow: bool, values: bool) -> None:
    async with reader_for(config) as reader:
        async for record in reader.read(names, follow=follow):
            shown = decoded(record)
            data(shown["value"] if values else shown)
