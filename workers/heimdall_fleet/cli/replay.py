"""`heimdall replay`: audit and feedback into a data set to learn from."""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from heimdall_fleet.cli.common import configuration, needs_training_extra
from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.cli.output import data, note
from heimdall_fleet.cli.values import moment
from heimdall_fleet.config import Config
from heimdall_fleet.kafka.errors import KafkaFailure

if TYPE_CHECKING:
    from heimdall_fleet.learn.dataset import Position
    from heimdall_fleet.learn.replay import Progress
    from heimdall_fleet.learn.settle import Terms
    from heimdall_fleet.learn.sources import Source

KAFKA = "kafka"
SHOW_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for."""

    sources: tuple[str, ...]
    out: Path
    since: datetime | None
    until: datetime | None
    offsets: dict[tuple[str, int], int]
    resume: bool


def _moment(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    return None if value is None else moment(value)


def _offsets(_ctx: click.Context, _param: click.Parameter, value: str | None) -> dict[tuple[str, int], int]:
    found: dict[tuple[str, int], int] = {}
    for part in (value or "").split(",") if value else ():
        place, _, offset = part.partition("=")
        entity, _, number = place.strip().partition(":")
        if entity not in ("audit", "feedback") or not number.isdecimal() or not offset.strip().isdecimal():
            raise click.BadParameter(f"{part!r} is no offset; write audit:0=1200,audit:1=900,feedback:0=0")
        found[entity, int(number)] = int(offset)
    return found


@click.command()
@click.option("--from", "sources", multiple=True, metavar="{kafka,FILE}", help="JSON lines, several times; or kafka.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Directory of the data set."
)
@click.option("--since", callback=_moment, metavar="TIME", help="Records from then on: 2026-11-21, 2026-11-21T12:00Z.")
@click.option("--until", callback=_moment, metavar="TIME", help="Records before then.")
@click.option("--from-offsets", "offsets", callback=_offsets, metavar="audit:0=1200,…", help="Begin there, with kafka.")
@click.option("--resume", is_flag=True, help="Go on where the last run into this data set ended.")
@click.option("--erase", metavar="TENANT", help="Take this tenant's rows out of the data set instead.")
@click.pass_obj
def replay(  # noqa: PLR0913, PLR0917 - click hands every option over by itself
    options: Globals,
    sources: tuple[str, ...],
    out: Path,
    since: datetime | None,
    until: datetime | None,
    offsets: dict[tuple[str, int], int],
    resume: bool,
    erase: str | None,
) -> None:
    """Audit and feedback, joined by request id, as Parquet files by day.

    Doing it again changes nothing: copies collapse by id. Feedback that comes later joins its request on the next run.

    \b
    Example:
      heimdall replay --from kafka --out data/audit --resume
      heimdall replay --from out/demo/audit.jsonl --from feedback.jsonl --out data/demo
    """
    if erase is not None:
        told = _erase(out, erase)
        note(f"{told['rows']:,} rows of {erase} are erased; later replays into {out} leave its records out")
        if not told["rows"]:
            note("none had this tenant: is it spelt as in the column `tenant`?")
    else:
        wish = Wish(sources, out, since, until, offsets, resume)
        told = replayed(configuration(options).config, wish)
    if options.output == "json":
        data(told)


@needs_training_extra
def _erase(out: Path, tenant: str) -> dict[str, Any]:
    from heimdall_fleet.learn.dataset import Layout
    from heimdall_fleet.learn.erase import erase

    if not Layout(out).position.exists():
        raise CommandError(Exit.NOT_FOUND, f"{out} is no directory that a replay wrote: no data set to erase from")
    return erase(out, tenant)


@needs_training_extra
def replayed(config: Config, wish: Wish) -> dict[str, Any]:
    """Replay as wished; the summary. Raises CommandError, DatasetError, SourceError."""
    from heimdall_fleet.learn.dataset import Layout, read_manifest
    from heimdall_fleet.learn.replay import Job, open_dataset
    from heimdall_fleet.learn.replay import replay as run_replay
    from heimdall_fleet.learn.staging import Window

    _check(wish)
    position = open_dataset(wish.out, resume=wish.resume)
    from_file = KAFKA not in wish.sources
    # Kafka's own times choose the records there: a record's own time may lie on the other side of the edge.
    window = Window(_us(wish.since), _us(wish.until)) if from_file else Window()
    job = Job(wish.out, terms_of(config), window, show=_shown(), say=note)
    try:
        run = asyncio.run(run_replay(job, _source(config, wish, position), position))
    except KafkaFailure as error:
        raise CommandError(Exit.UNREACHABLE, f"{error}") from error
    manifest = read_manifest(Layout(wish.out))
    _report(wish.out, run, manifest)
    told = {name: manifest[name] for name in ("rows", "days", "coverage", "without_outcome", "without_decision")}
    return {"out": str(wish.out), **told, "run": run}


def _check(wish: Wish) -> None:
    """Raises CommandError for wishes that do not go together."""
    if not wish.sources:
        raise CommandError(Exit.USAGE, "say where from: --from kafka, or --from FILE")
    if KAFKA in wish.sources and len(wish.sources) > 1:
        raise CommandError(Exit.USAGE, "--from kafka or files, not both at once; replay twice into the same --out")
    if wish.offsets and KAFKA not in wish.sources:
        raise CommandError(Exit.USAGE, "--from-offsets needs --from kafka")
    if wish.resume and (wish.offsets or wish.since):
        raise CommandError(Exit.USAGE, "--resume begins where the last run ended; leave out --since and --from-offsets")
    for name in wish.sources:
        if name != KAFKA and not Path(name).is_file():
            raise CommandError(Exit.NOT_FOUND, f"{name} does not exist or is no file")


def terms_of(config: Config) -> "Terms":
    """The `learning` section as the replay takes it."""
    from heimdall_fleet.learn.settle import Terms

    weights = config.learning.rewards.model_dump(by_alias=True)
    return Terms(weights, config.learning.retry_within)


def _source(config: Config, wish: Wish, position: "Position") -> "Source":
    from heimdall_fleet.learn.kafka_source import KafkaSource, Range
    from heimdall_fleet.learn.sources import FileSource
    from heimdall_fleet.settings import kafka_settings

    if KAFKA not in wish.sources:
        return FileSource([Path(name) for name in wish.sources], dict(position.sources))
    topics = config.kafka.topics
    offsets = {(topics.named(entity), number): offset for (entity, number), offset in wish.offsets.items()}
    for place, offset in position.sources.items():
        topic, _, number = place.rpartition(":")
        if topic in (topics.audit, topics.feedback):
            offsets[topic, int(number)] = offset
    span = Range(_ms(wish.since), _ms(wish.until), offsets)
    return KafkaSource(kafka_settings(config, "heimdall-replay"), (topics.audit, topics.feedback), span)


def _shown() -> Callable[["Progress"], None]:
    """Progress on stderr: one line that is written over on a terminal, else a line every other second."""
    state = {"last": time.monotonic()}
    terminal = sys.stderr.isatty()

    def show(progress: "Progress") -> None:
        now = time.monotonic()
        if now - state["last"] < (0.2 if terminal else SHOW_EVERY_S):
            return
        state["last"] = now
        line = f"  read {progress.records:,} records, {progress.done:.0%}, {progress.records_per_s:,.0f} a second"
        print(f"\r{line}   " if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)

    return show


def _report(out: Path, run: dict[str, Any], manifest: dict[str, Any]) -> None:
    counts = run["counts"]
    if not run["records"]:
        note("nothing to read: the range holds no record; a new fleet has none, and --resume may be at the end already")
    elif not manifest["rows"]:
        note(
            "no decision and no outcome was among the records: feedback alone makes no rows, the audit is needed beside it"
        )
    note(f"{run['records']:,} records read in {run['seconds']:.1f} s; {out} has {manifest['rows']:,} requests")
    for line in gaps_in_words(run["ranges"]):
        note(line)
    for each in run["ranges"]:
        if "unfinished_line" in each:
            note(
                f"{each['source']}:{each['unfinished_line']}: the last line is cut off; the next --resume begins at it"
            )
    for name, what in MEANINGS.items():
        count = counts.get(name, 0) or manifest.get(name, 0)
        if count:
            note(f"  {count:,} {what}")
    if run["unknown_features"]:
        note(f"  features unknown to this version were left out: {', '.join(run['unknown_features'][:8])}")
    shadows = manifest["shadows"]
    if shadows["records"]:
        note(
            "  {records:,} shadows: {answered:,} answered, {paired:,} beside a row, {judged:,} judged".format(**shadows)
        )
    for name, facts in manifest["coverage"].items():
        if facts["rows"]:
            note(f"  {name:<10} {facts['share']:>7.1%} of rows, mean {facts['mean']:.3f}")


def gaps_in_words(ranges: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each gap of what was read, and what they mean for the data set."""
    lines = [
        f"{each['source']}: {last - first + 1:,} offsets from {first:,} to {last:,} hold no record"
        for each in ranges
        for first, last in each.get("missing", ())
    ]
    return [*lines, _A_GAP_MEANS] if lines else []


_A_GAP_MEANS = (
    "retention has deleted them, or they never did. Their requests are missing from the data set, or stand there without "
    "decision or outcome. No random sample is missing: estimates hold for the times that are there. Replay more often than the "
    "topic's retention, or keep the audit elsewhere (docs/audit-with-connect.md)"
)

MEANINGS = {
    "unreadable": "records could not be read and were set aside",
    "newer_schema": "decisions of a newer schema: left out and set aside whole, since their fields may mean something else. "
    "Upgrade, then replay the range again",
    "of_an_erased_tenant": "records of erased tenants were left out",
    "copies": "copies of decisions collapsed",
    "contradicting_outcomes": "requests with two different endings: the first read counts",
    "contradicting_feedback": "requests with contradicting feedback: the latest word counts; one without a time is the "
    "earliest",
    "feedback_for_unknown_ids": "ids in feedback without a request: they reward nothing until their request is replayed",
    "without_outcome": "requests without an outcome: still on their way, or lost in a gap",
    "without_decision": "requests without a decision: refused by triage, or lost in a gap; they train nothing",
    "without_features": "decisions without features, which train nothing: defaults for a failed step, or cached ones whose "
    "origin is not in the data set",
}


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


def _us(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1_000_000)
