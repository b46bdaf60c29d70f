"""`heimdall topics plan | create | check`: the one table of topics against a cluster. Nothing is ever deleted."""

import asyncio
from typing import Any

import click

from heimdall_fleet.cli.common import configuration
from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.cli.output import data, note
from heimdall_fleet.kafka import admin
from heimdall_fleet.kafka.admin import Plan
from heimdall_fleet.kafka.errors import BrokerUnavailable
from heimdall_fleet.kafka.settings import KafkaSettings
from heimdall_fleet.settings import kafka_settings
from heimdall_schemas.topics import Topics


@click.group()
def topics() -> None:
    """The topics of the fleet, from one table.

    \b
    Example:
      heimdall --bootstrap localhost:9092 topics create
    """


@topics.command()
@click.pass_obj
def plan(options: Globals) -> None:
    """What `create` would make, and what differs from the table."""
    _show(_plan(*_target(options)), options)


@topics.command()
@click.pass_obj
def check(options: Globals) -> None:
    """Exit code 1 when a topic is missing or differs from the table. Partitions that were added are no difference."""
    found = _plan(*_target(options))
    _show(found, options)
    if not found.clean:
        raise CommandError(Exit.CHECK_FAILED, "the cluster differs from the table of topics")


@topics.command()
@click.option(
    "--replication", type=click.IntRange(1, 9), help="Copies; default 3, or the number of brokers below that."
)
@click.pass_obj
def create(options: Globals, replication: int | None) -> None:
    """Create the topics that are missing. Those that exist are left as they are."""
    settings, table = _target(options)
    missing = _plan(settings, table).missing
    made = _reached(admin.create(settings, missing, replication))
    if options.output == "json":
        data({"created": [name for name, why in made.items() if why is None], "refused": _refused(made)})
    for name, why in made.items():
        note(f"  {name}: {why or 'created'}")
    note(f"{len(missing)} of {len(table.all())} topics were missing")
    if _refused(made):
        raise CommandError(Exit.CHECK_FAILED, "not every topic could be created")


def _refused(made: dict[str, str | None]) -> dict[str, str]:
    return {name: why for name, why in made.items() if why}


def _target(options: Globals) -> tuple[KafkaSettings, Topics]:
    config = configuration(options).config
    return kafka_settings(config, "heimdall-topics"), config.kafka.topics


def _plan(settings: KafkaSettings, table: Topics) -> Plan:
    found: Plan = _reached(admin.plan(settings, table.all()))
    return found


def _reached(work: Any) -> Any:
    try:
        return asyncio.run(work)
    except BrokerUnavailable as error:
        raise CommandError(Exit.UNREACHABLE, f"no broker: {error}") from error


def _show(found: Plan, options: Globals) -> None:
    if options.output == "json":
        drift = [
            {"topic": d.topic, "setting": d.setting, "expected": d.expected, "found": d.found, "advice": d.advice()}
            for d in found.drift
        ]
        grown = [{"topic": d.topic, "expected": d.expected, "found": d.found} for d in found.grown]
        missing = [topic.name for topic in found.missing]
        data({"missing": missing, "drift": drift, "fine": list(found.fine), "grown": grown})
    for topic in found.missing:
        note(f"  {topic.name}: missing ({topic.partitions} partitions, {topic.cleanup_policy}): {topic.purpose}")
    for each in found.drift:
        note(f"  {each.topic}: {each.setting} is {each.found}, should be {each.expected}; {each.advice()}")
    for each in found.grown:
        note(f"  {each.topic}: {each.found} partitions, {each.expected} by default; they were added, and that is fine")
    note(f"{len(found.fine)} fine, {len(found.missing)} missing, {len(found.drift)} differences")
