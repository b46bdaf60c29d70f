"""`heimdall dlq list | show | redrive | discard`: dead letters, and what becomes of them. Without `--yes` nothing is done."""

import asyncio
import getpass
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import click

from heimdall_fleet.bootstrap.edges import producing, reader_for
from heimdall_fleet.cli.common import configuration
from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.cli.output import data, note
from heimdall_fleet.cli.values import DURATION
from heimdall_fleet.config import Config
from heimdall_fleet.dispatch.letters import Letter, OpenLetters, Wanted, mark, redriven, told
from heimdall_fleet.kafka.records import Producer
from heimdall_fleet.report.decode import decoded
from heimdall_schemas.failure import Failure
from heimdall_schemas.topics import Topics

LIMIT = 1_000
Settle = Callable[[Letter], Awaitable[None]]


@click.group()
def dlq() -> None:
    """What could not be read, or gave up: look at it, send it again, or let it go.

    \b
    Example:
      heimdall dlq list --reason 'provider_*' --since 1h
      heimdall dlq redrive --reason heimdall_internal --yes
    """


def filters(command: Callable[..., None]) -> Callable[..., None]:
    """The options that choose letters, handed to the command as one `Wanted`."""
    options = (
        click.option(
            "--reason", "reasons", multiple=True, metavar="CODE", help="A failure code; `provider_*` for many."
        ),
        click.option("--since", type=DURATION, metavar="1h", help="Died within this span."),
        click.option("--until", type=DURATION, metavar="10m", help="Died longer ago than this."),
        click.option("--tenant", help="Of this tenant."),
        click.option("--limit", type=click.IntRange(1), default=LIMIT, show_default=True, help="So many at most."),
        click.argument("ids", nargs=-1, metavar="[REQUEST_ID]…"),
    )
    for option in options:
        command = option(command)
    return command


@dlq.command(name="list")
@filters
@click.pass_obj
def list_(options: Globals, /, **chosen: Any) -> None:
    """The letters that are still open, oldest first; never their text."""
    limit = chosen.pop("limit")
    letters = asyncio.run(_find(configuration(options).config, wanted(_now_ms(), **chosen), limit))
    found = letters.oldest_first()
    if options.output == "json":
        data({"letters": [told(letter) for letter in found], "more": letters.more})
        return
    for letter in found:
        facts = told(letter)
        click.echo(f"{facts['time']}  {letter.request_id}  {letter.reason}  {letter.topic}  {letter.error[:120]}")
    note(f"{len(found)} open letters" + (f", and {letters.more} more; see --limit" if letters.more else ""))


@dlq.command()
@click.argument("request_id")
@click.pass_obj
def show(options: Globals, request_id: str) -> None:
    """Everything that the letters of a request hold: headers, reason and the record's own value."""
    found = asyncio.run(_find(configuration(options).config, Wanted(ids=frozenset({request_id})))).oldest_first()
    _all_there({request_id}, found)
    data({"letters": [{**told(letter), "record": decoded(letter.record)} for letter in found]})


@dlq.command()
@filters
@click.option("--all", "everything", is_flag=True, help="Every open letter, where no filter stands.")
@click.option("--yes", is_flag=True, help="Do it; without this the command only says what it would do.")
@click.pass_obj
def redrive(options: Globals, /, everything: bool, yes: bool, **chosen: Any) -> None:
    """Send records again, to the topic and partition they failed on: the same id, no attempts, the time they had."""
    config = configuration(options).config
    found = _chosen(config, chosen, everything)
    topics = config.kafka.topics
    refused: dict[str, str] = {}
    for letter in found:
        try:
            redriven(letter, topics, _now_ms())
        except Failure as failure:
            refused[letter.request_id] = failure.message
    able = [letter for letter in found if letter.request_id not in refused]
    if yes:
        asyncio.run(_settle(config, able, lambda producer: _again(producer, topics)))
    _tell(options, "redriven", able, refused, yes)


@dlq.command()
@filters
@click.option("--all", "everything", is_flag=True, help="Every open letter, where no filter stands.")
@click.option("--why", default="", help="Kept in the mark that says who let it go.")
@click.option("--yes", is_flag=True, help="Do it; without this the command only says what it would do.")
@click.pass_obj
def discard(options: Globals, /, everything: bool, why: str, yes: bool, **chosen: Any) -> None:
    """Let letters go. They stay in the topic until it forgets them, and a mark says who let them go."""
    config = configuration(options).config
    found = _chosen(config, chosen, everything)
    if yes:
        asyncio.run(_settle(config, found, lambda producer: _gone(producer, config.kafka.topics, why[:500])))
    _tell(options, "discarded", found, {}, yes)


def wanted(
    now_ms: int,
    ids: Sequence[str] = (),
    reasons: Sequence[str] = (),
    since: timedelta | None = None,
    until: timedelta | None = None,
    tenant: str | None = None,
) -> Wanted:
    """The options of a command as what they choose at `now_ms`."""
    return Wanted(frozenset(ids), tuple(reasons), _ago(now_ms, since), _ago(now_ms, until), tenant)


def _ago(now_ms: int, span: timedelta | None) -> int | None:
    return None if span is None else now_ms - span // timedelta(milliseconds=1)


def _chosen(config: Config, chosen: dict[str, Any], everything: bool) -> list[Letter]:
    """The letters to be settled. Raises CommandError (2) when nothing says which, (4) for an id that is not there."""
    limit = chosen.pop("limit")
    choice = wanted(_now_ms(), **chosen)
    if choice == Wanted() and not everything:
        raise CommandError(Exit.USAGE, "which letters? Name ids, --reason, --since, --until, --tenant, or --all")
    letters = asyncio.run(_find(config, choice, limit))
    found = letters.oldest_first()
    _all_there(choice.ids, found)
    if letters.more:
        note(f"{letters.more} more are left for another time; see --limit")
    return found


def _all_there(ids: set[str] | frozenset[str], found: Sequence[Letter]) -> None:
    missing = sorted(ids - {letter.request_id for letter in found})
    if missing:
        raise CommandError(Exit.NOT_FOUND, f"no open letter of {', '.join(missing)}; `heimdall dlq list` shows all")


def _tell(options: Globals, verb: str, done: Sequence[Letter], refused: dict[str, str], yes: bool) -> None:
    ids = [letter.request_id for letter in done]
    if options.output == "json":
        data({verb: ids, "refused": refused, "dry_run": not yes})
    for request_id in ids:
        note(f"  {request_id}: {verb if yes else 'would be ' + verb}")
    for request_id, reason in refused.items():
        note(f"  {request_id}: refused: {reason}")
    note(f"{len(ids)} {verb}, {len(refused)} refused" if yes else f"{len(ids)} letters; add --yes to do it")
    if refused:
        raise CommandError(Exit.CHECK_FAILED, "not every letter can be sent again; the lines above say why")


async def _find(config: Config, choice: Wanted, limit: int = LIMIT) -> OpenLetters:
    """A letter is written after its record died, so that nothing before `since` need be read."""
    letters = OpenLetters(choice, limit)
    async with reader_for(config) as reader:
        async for record in reader.read([config.kafka.topics.dlq], since_ms=choice.since_ms):
            letters.see(record)
    return letters


async def _settle(config: Config, letters: Sequence[Letter], way: Callable[[Producer], Settle]) -> None:
    """Each letter in its turn, acknowledged before the next: what was done when this is interrupted is marked so."""
    async with producing(config, "heimdall-dlq") as producer:
        settle = way(producer)
        for letter in letters:
            await settle(letter)


def _again(producer: Producer, topics: Topics) -> Settle:
    """The record first, then the mark: sent twice it is one call, since both carry the same number."""

    async def settle(letter: Letter) -> None:
        now_ms = _now_ms()
        await producer.send(redriven(letter, topics, now_ms))
        await producer.send(mark(letter, "redriven", {"by": getpass.getuser()}, topics, now_ms))

    return settle


def _gone(producer: Producer, topics: Topics, why: str) -> Settle:
    async def settle(letter: Letter) -> None:
        facts = {"by": getpass.getuser(), "why": why}
        await producer.send(mark(letter, "discarded", facts, topics, _now_ms()))

    return settle


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
