"""`heimdall decide`: the decision that a worker would take, without Kafka."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import orjson

from heimdall_fleet.bootstrap.triage import bundle_source, judge_maker, memory_for
from heimdall_fleet.cli.common import configuration, input_lines
from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.cli.output import data, note
from heimdall_fleet.config import Config
from heimdall_fleet.settings import limits_of
from heimdall_fleet.triage.tuning import REFUSALS, try_out
from heimdall_models.asked import DecisionInput
from heimdall_models.bundle import load_bundle
from heimdall_models.decide import decide as decide_batch
from heimdall_models.features import MAX_BATCH
from heimdall_models.judge import Judge
from heimdall_models.record import Decided, Refusal, audit_json
from heimdall_schemas.codec import Limits
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.request import Options, deadline_ms, read_request


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option(
    "--bundle", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Over tuning.artifact_url."
)
@click.option("--full", is_flag=True, help="The whole decision record, as it would stand on the audit topic.")
@click.pass_obj
def decide(options: Globals, file: Path | None, bundle: Path | None, full: bool) -> None:
    """Chat Completions bodies in, one JSON object a line; decisions out, in the same order.

    Models count as served whether or not a key for them is configured, and no time limit of a worker holds. The requests of a
    session are its turns, one after the other. Exit code 1 when a line was refused.

    \b
    Example:
      echo '{"messages": [{"role": "user", "content": "hi"}]}' | heimdall decide
    """
    config = configuration(options).config
    judge = offline_judge(config, bundle)
    for model, why in judge.left_out.items():
        note(f"{model} is no candidate: {why}")
    memory = replace(memory_for(config), decisions=None)
    limits = limits_of(config)
    default_ttl_ms = config.dispatch.deadline // timedelta(milliseconds=1)
    refused = 0
    waiting: list[DecisionInput | Refusal] = []

    def flush() -> None:
        nonlocal refused
        inputs = [each for each in waiting if isinstance(each, DecisionInput)]
        answers = iter(decide_batch(inputs, judge, memory, time.perf_counter))
        for each in waiting:
            answer = each if isinstance(each, Refusal) else next(answers)
            refused += isinstance(answer, Refusal)
            data(_shown(answer, full))
        waiting.clear()

    for number, line in input_lines(file):
        given = _input(number, line, limits, default_ttl_ms)
        if len(waiting) == MAX_BATCH or _goes_on(given, waiting):
            flush()
        waiting.append(given)
    flush()
    if refused:
        note(f"{refused} lines were refused; their `error` says why")
        raise CommandError(Exit.CHECK_FAILED, "not every line has a decision")


def offline_judge(config: Config, directory: Path | None = None) -> Judge:
    """A worker's judge without its time limits, tried out as a worker does, with every model served where no provider is
    configured."""
    try:
        bundle = (
            load_bundle(directory) if directory else bundle_source(config.tuning.artifact_url, config).offer().load()
        )
        judge = _untimed(judge_maker(config, everything_served=not config.providers)(bundle))
        try_out(judge)  # it is warm, too: the first decision of a process takes a hundred times as long
    except REFUSALS as error:
        raise CommandError(Exit.USAGE, str(error)) from error
    return judge


def _untimed(judge: Judge) -> Judge:
    """Without the budgets of a worker: a busy machine must not decide otherwise than a quiet one."""
    return replace(
        judge,
        rules=replace(judge.rules, timeout_ms=math.inf),
        reader=replace(judge.reader, timeout_ms=math.inf),
        arms={name: _untimed(arm) for name, arm in judge.arms.items()},
    )


def _input(number: int, line: bytes, limits: Limits, default_ttl_ms: int) -> DecisionInput | Refusal:
    """The request on a line, as if it had been sent just now."""
    request_id = f"line-{number}"
    try:
        options, body = read_request(line.strip(), limits)
    except Failure as failure:
        return Refusal(request_id, failure)
    now_ms = time.time_ns() // 1_000_000
    left_ms = deadline_ms(options, now_ms, None, default_ttl_ms) - now_ms
    request_id = _named(options, body) or request_id
    if left_ms <= 0:
        return Refusal(request_id, Failure(FailureCode.POLICY_EXPIRED, f"the deadline passed {-left_ms:,} ms ago"))
    return DecisionInput(request_id, options, body, left_ms)


def _goes_on(given: DecisionInput | Refusal, waiting: Sequence[DecisionInput | Refusal]) -> bool:
    """Whether one of those that wait is of the same session: which model it keeps is known when that one is decided."""
    if isinstance(given, Refusal) or given.options.session is None:
        return False
    earlier = [(each.options.tenant, each.options.session) for each in waiting if isinstance(each, DecisionInput)]
    return (given.options.tenant, given.options.session) in earlier


def _named(options: Options, body: dict[str, Any]) -> str | None:
    own = body.get("id")
    return options.request_id or (own if isinstance(own, str) else None)


def _shown(answer: Decided | Refusal, full: bool) -> dict[str, Any]:
    if isinstance(answer, Refusal):
        return {"id": answer.request_id, "error": answer.failure.as_error()}
    if full:
        record: dict[str, Any] = orjson.loads(audit_json(answer, {}))
        return record
    decision, record = answer.decision, answer.record
    return {
        "id": answer.request_id,
        "bucket": answer.bucket,
        "model": answer.model,
        "difficulty": record["difficulty"],
        "difficulty_percentile": record["difficulty_percentile"],
        "p_cheap_ok": None if record["difficulty"] is None else round(1 - record["difficulty"], 6),
        "alpha_scores": decision["alpha_scores"],
        "reasons": _reasons(answer),
        "bundle": record["bundle"],
    }


def _reasons(answer: Decided) -> list[str]:
    """Why this bucket and this model, in words."""
    decision, record = answer.decision, answer.record
    percentile = record["difficulty_percentile"]
    where = "difficulty unknown" if percentile is None else f"harder than {percentile:.0%} of reference traffic"
    reasons = [f"{where}: bucket {record['bucket_before_guardrails']}"]
    given_way = record.get("waived", ())
    reasons += [
        f"guardrail {name}" + (", waived: nothing else was left" if name in given_way else "")
        for name in record["guardrails"]
    ]
    reasons += [f"{each['model']}: {each['fell_out']}" for each in record["candidates"] if each.get("fell_out")]
    reasons.append(f"{record['decision_type']}: score {decision['final_score']:+.4f} with alpha {record['alpha']:g}")
    if decision["fallback_used"]:
        reasons.append(f"fallback: {decision['fallback_reason']}")
    return reasons
