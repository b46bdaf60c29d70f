"""`heimdall explain ID`: why this model, told from the audit records alone."""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson
from pydantic import ValidationError

from heimdall_fleet.cli.common import configuration
from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.cli.output import data, note
from heimdall_fleet.report.audit_file import read_audit_file
from heimdall_fleet.report.decode import decoded
from heimdall_fleet.report.explanation import explanation, story
from heimdall_schemas.audit import AUDIT
from heimdall_schemas.faults import faults_of

if TYPE_CHECKING:
    from heimdall_fleet.config import Config
    from heimdall_models.bundle import Bundle

_NAMED = 5


@click.command()
@click.argument("request_id", required=False)
@click.option("--text", help="Explain how this text would be decided here and now, without an audit record.")
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An audit file, not the topic.",
)
@click.option("--recompute", is_flag=True, help="Decide again from the record and prove that it comes out the same.")
@click.option("--alpha", type=click.FloatRange(0, 1), help="Rank the candidates again with another alpha.")
@click.pass_obj
def explain(
    options: Globals,
    request_id: str | None,
    text: str | None,
    source: Path | None,
    recompute: bool,
    alpha: float | None,
) -> None:
    """Features, bucket, every candidate's score with its terms, guardrails, runner-up, attempts and cost.

    \b
    Example:
      heimdall explain 0192f0c1-… --from out/demo/audit.jsonl --alpha 0.2
      heimdall explain --text 'Write a program in Python that prints "Hello, world!"'
    """
    if (request_id is None) == (text is None):
        raise CommandError(Exit.USAGE, "give either a request id or --text")
    if text is not None:
        everything = records = [_decided_now(text, options)]
    else:
        everything = _from_file(source, request_id) if source else asyncio.run(_from_topic(options))
        records = _matching(everything, request_id)
    if not records:
        where = source or "the audit topic"
        raise CommandError(Exit.NOT_FOUND, f"no audit record of {request_id} in {where}; is the id right?")
    told = explanation(records, alpha=alpha, scored=_scored(records, everything))
    if told["scored"] is None and (recompute or alpha is not None):
        raise CommandError(Exit.NOT_FOUND, _no_terms(told["decision"]))
    if recompute:
        told["recomputed"] = _prove(told["scored"], told["decision"], options)
    if options.output == "json":
        data(told)
    else:
        click.echo(story(told))
    if told.get("recomputed", {}).get("differences"):
        raise CommandError(Exit.CHECK_FAILED, "the decision does not come out the same; the differences are above")


def _decided_now(text: str, options: Globals) -> dict[str, Any]:
    """The decision record of `text` as the only user message of a request."""
    from heimdall_fleet.cli.decide import offline_judge
    from heimdall_models.asked import DecisionInput
    from heimdall_models.cache import Memory
    from heimdall_models.decide import decide
    from heimdall_models.record import Refusal, audit_json
    from heimdall_schemas.codec import encode
    from heimdall_schemas.request import read_request

    try:
        said, body = read_request(encode({"messages": [{"role": "user", "content": text}]}))
    except TypeError as error:
        raise CommandError(Exit.USAGE, f"--text: {error}; give UTF-8") from error
    judge = offline_judge(configuration(options).config)
    (answer,) = decide([DecisionInput("text", said, body)], judge, Memory(decisions=None), time.perf_counter)
    if isinstance(answer, Refusal):
        raise CommandError(Exit.CHECK_FAILED, str(answer.failure))
    record: dict[str, Any] = orjson.loads(audit_json(answer, {}))
    return record


def _from_file(source: Path, request_id: str | None) -> list[dict[str, Any]]:
    """The records of a file, which may be what `decide --full` wrote: that has the errors of refused requests, too."""
    refused: dict[str, Any] = {}
    records = list(read_audit_file(source, refused))
    if request_id in refused:
        error = refused[request_id]
        raise CommandError(Exit.CHECK_FAILED, f"{request_id} was refused: {error['code']}: {error['message']}")
    if refused:
        note(f"{len(refused)} requests of {source} were refused and have no decision: {_some(refused)}")
    return records


async def _from_topic(options: Globals) -> list[dict[str, Any]]:
    from heimdall_fleet.bootstrap.edges import reader_for

    config = configuration(options).config
    async with reader_for(config) as reader:
        values = [decoded(record)["value"] async for record in reader.read([config.kafka.topics.audit])]
    return [value for value in values if isinstance(value, dict)]


def _matching(records: Iterable[Mapping[str, Any]], named: str | None) -> list[dict[str, Any]]:
    """Records of the request of this id, else of the last one that has it as its correlation id."""
    found = [dict(r) for r in records if named in (r.get("request_id"), r.get("correlation_id"))]
    for record in found:
        _check_whole(record)
    ids = list(dict.fromkeys(str(r["request_id"]) for r in sorted(found, key=lambda r: str(r.get("time", "")))))
    chosen = named if named in ids or not ids else ids[-1]
    if len(ids) > 1:
        others = _some([each for each in ids if each != chosen])
        note(f"{named} is an id of {len(ids)} requests, this is {chosen}; the others: {others}")
    return [r for r in found if r["request_id"] == chosen]


def _check_whole(record: Mapping[str, Any]) -> None:
    """Raises CommandError (1). `heimdall decide` writes no time, no worker and no correlation id."""
    try:
        AUDIT.validate_python({"correlation_id": "", "time": "", "worker": "", **record})
    except ValidationError as error:
        named = record.get("request_id", record.get("correlation_id"))
        raise CommandError(
            Exit.CHECK_FAILED,
            f"a record of {named} is no whole audit record: {faults_of(error).text}; "
            "`heimdall tail audit --values` writes them whole",
        ) from error


def _some(ids: Collection[str]) -> str:
    return ", ".join(islice(ids, _NAMED)) + (", …" if len(ids) > _NAMED else "")


def _scored(records: Iterable[Mapping[str, Any]], everything: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The decision whose terms are recorded: the request's own, or the one that a cached decision was copied from."""
    decision = next((r for r in records if r["kind"] == "decision"), None)
    if decision is None or not decision.get("cached_from"):
        return None if decision is None else dict(decision)
    return next(
        (dict(r) for r in everything if r.get("kind") == "decision" and r.get("request_id") == decision["cached_from"]),
        None,
    )


def _no_terms(decision: Mapping[str, Any] | None) -> str:
    if decision is None:
        return "no decision on this request is here: it was refused before one was made, or the audit begins after it"
    return f"its terms are in the decision of {decision['cached_from']}, which is not here: the audit begins after it"


def _prove(scored: Mapping[str, Any], decision: Mapping[str, Any] | None, options: Globals) -> dict[str, Any]:
    from heimdall_fleet.bootstrap.triage import bundle_source, judge_maker
    from heimdall_fleet.report.proof import prove
    from heimdall_fleet.triage.tuning import REFUSALS

    config = configuration(options).config
    try:
        judge_of = judge_maker(config, everything_served=not config.providers)
        judge = judge_of(bundle_source(config.tuning.artifact_url, config).offer().load())
        if scored["bundle"] not in {one.bundle.hash for one in (judge, *judge.arms.values())}:
            promoted = _promoted(config, scored["bundle"])
            judge = judge_of(promoted) if promoted else judge
    except REFUSALS as error:
        raise CommandError(Exit.USAGE, str(error)) from error
    return prove(scored, judge, None if decision is scored or decision == scored else decision)


def _promoted(config: "Config", named: str) -> "Bundle | None":
    """The bundle of this hash if the control topic names it. Raises CommandError (3), SourceError."""
    from heimdall_fleet.bootstrap.learn import promoted_bundle
    from heimdall_fleet.kafka.errors import KafkaFailure

    try:
        return asyncio.run(promoted_bundle(config, named))
    except KafkaFailure as error:
        raise CommandError(
            Exit.UNREACHABLE,
            f"the decision was made with bundle {named[:12]}, which is not the configured one, and the control topic, which "
            f"may name it, cannot be read: {error}; set tuning.artifact_url to that bundle, or give --bootstrap",
        ) from error
