"""`heimdall demo-learning`: a fleet whose cheap model gets worse at one subject, notices, learns, and routes around it."""

import asyncio
import os
import random
import shutil
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import orjson

from heimdall_fleet.bootstrap.edges import client_for, reader_for
from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.cli.output import data, note, pretty
from heimdall_fleet.client import HeimdallClient, HeimdallError
from heimdall_fleet.config import Config, load
from heimdall_fleet.demo_data.subjects import LARGE, RELIC, SMALL, Ask, Phase, asks, score
from heimdall_fleet.report.audit_file import read_audit_file
from heimdall_fleet.report.routed import routed
from heimdall_fleet.stack.local import Stack, StackOptions, local_stack

PER_SECOND = 60.0
WHILE_LEARNING_PER_SECOND = 15.0
DEADLINE = timedelta(minutes=3)
MOST_WHILE_LEARNING = 9_000
MARK = ".demo-learning"

SETTINGS: dict[str, Any] = {
    "enable_caching": False,
    "enable_exploration": True,
    "router": {
        "alpha": 0.4,
        "thresholds": {"cheap": 0.3, "hard": 0.55},
        "exploration": {"share": 0.5},
        # Exploration draws among the candidates of a bucket: what shall be compared must stand in it.
        "cheap_candidates": [SMALL, LARGE],
        "mid_candidates": [SMALL, LARGE],
        "hard_candidates": [LARGE, SMALL, RELIC],
    },
    "models": {RELIC: {"price": {"input": 20, "output": 100}}},
    "learning": {
        "question_secret": "only for the demo, on this machine",
        # Feedback alone: that an answer ended by itself says nothing of a sum.
        "rewards": {"finish": 0, "refusal": 0, "retry": 0, "followup": 0},
    },
}
PLAN = {
    "seed": 5,
    "behaviours": {"*": {"latency_ms": {"median": 30, "sigma": 0.4}, "output_tokens": {"median": 50, "sigma": 0.2}}},
}


@dataclass(slots=True)
class Traffic:
    """Callers that send, wait for the reply, and say what it was worth."""

    client: HeimdallClient
    draw: random.Random
    sent: int = 0
    answered: int = 0
    errors: dict[str, int] = field(default_factory=dict)

    async def run(
        self, asked: Sequence[Ask], phase: Phase, per_second: float, until: asyncio.Event | None = None
    ) -> None:
        """Send at this pace, to the end or until told; then wait for every reply."""
        start = time.monotonic()
        async with asyncio.TaskGroup() as following:
            for number, ask in enumerate(asked):
                if until is not None and until.is_set():
                    break
                await asyncio.sleep(max(0.0, start + number / per_second - time.monotonic()))
                following.create_task(self._one(ask, phase))

    async def _one(self, ask: Ask, phase: Phase) -> None:
        self.sent += 1
        try:
            handle = await self.client.submit(ask.body(phase), deadline=DEADLINE)
            reply = await handle.result()
        except HeimdallError as error:
            self.errors[error.code] = self.errors.get(error.code, 0) + 1
            return
        self.answered += 1
        model = reply.heimdall.selected_model or ""
        await self.client.feedback(handle.request_id, score=score(model, ask.subject, phase, self.draw))


@click.command("demo-learning")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("out/demo-learning"), show_default=True
)
@click.option("--requests", type=click.IntRange(1_000, 20_000), default=3_000, show_default=True,
              help="After the change and before learning.")  # fmt: skip
@click.option("--seed", type=int, default=11, show_default=True)
@click.option("--recount", is_flag=True, help="Only count again, from the files that a run left in --out.")
@click.pass_obj
def demo_learning(options: Globals, out: Path, requests: int, seed: int, recount: bool) -> None:
    """Traffic with exploration and feedback, a planted change, drift, training, gates, promotion under load.

    Exit code 1 when a request gets lost or nothing was promoted.

    \b
    Example:
      heimdall demo-learning --out out/demo-learning
      heimdall demo-learning --out out/demo-learning --recount
    """
    figures = recounted(out) if recount else asyncio.run(_demo(out, requests, seed, options.bootstrap))
    if options.output == "json":
        data(figures)
    else:
        pretty(figures)
    if figures["lost"] or not figures["promoted"]:
        raise CommandError(
            Exit.CHECK_FAILED, f"lost {figures['lost']}, promoted {figures['promoted']}: {figures['why_not']}"
        )


def recounted(out: Path) -> dict[str, Any]:
    """The figures from the audit file and the summary of the run that learned."""
    summaries = sorted((out / "learning" / "runs").glob("*.json"))
    if not summaries or not (out / "audit.jsonl").is_file():
        raise CommandError(Exit.NOT_FOUND, f"{out} holds no finished run; leave out --recount")
    learned = orjson.loads(summaries[-1].read_bytes())
    counted = routed(read_audit_file(out / "audit.jsonl"), learned["champion"])
    return {
        **counted,
        "lost": counted["without_outcome"],
        "promoted": learned["promoted"],
        "why_not": learned["why_not"] if not learned["promoted"] else None,
        "drift_alarms": sorted(learned["drift"]["alarms"]),
        "gates": {gate["name"]: gate["passed"] for gate in learned["gates"]},
        "bundle_before": learned["champion"],
        "bundle_after": learned["promotion"]["bundle"] if learned["promoted"] else learned["champion"],
        "files": {
            "audit": str(out / "audit.jsonl"),
            "learning": str(summaries[-1]),
            "report": str(summaries[-1].with_suffix(".html")),
            "data": str(out / "learning" / "data"),
        },
    }


async def _demo(out: Path, requests: int, seed: int, bootstrap: str | None) -> dict[str, Any]:
    _make_room(out)
    store = {"bundle_store": (out / "store").absolute().as_uri()}
    settings = {**SETTINGS, "learning": {**SETTINGS["learning"], **store}}
    stack_options = StackOptions(
        out / "stack", bootstrap, plan=PLAN, settings=settings, environment=os.environ, more_authors=("amazon",)
    )
    note("heimdall demo-learning: starting broker, providers, triage and dispatch")
    async with local_stack(stack_options) as stack:
        config = load(stack.config, os.environ, {"kafka.bootstrap_servers": stack.bootstrap}).config
        async with client_for(config) as client:
            traffic = Traffic(client, random.Random(seed))
            await _story(traffic, stack, out, requests, seed)
        await _read_back(config, out)
    figures = recounted(out)
    return {**figures, "lost": max(figures["lost"], traffic.sent - traffic.answered - sum(traffic.errors.values()))}


def _make_room(out: Path) -> None:
    """An earlier run of the demo makes way; anything else does not."""
    mark = out / MARK
    if out.exists() and any(out.iterdir()) and not mark.exists():
        raise CommandError(
            Exit.USAGE, f"{out} holds something else than a run of this demo; give --out another directory"
        )
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    mark.write_text("heimdall demo-learning removes this directory when it runs again\n")


async def _story(traffic: Traffic, stack: Stack, out: Path, requests: int, seed: int) -> None:
    at_first = max(400, requests // 4)
    note(f"{at_first} requests: the small model answers chat, facts and sums well, the large one proofs too")
    await traffic.run(asks(at_first, seed), "at_first", PER_SECOND)
    changed = datetime.now(UTC)
    note(f"the small model loses sums; {requests} requests with exploration and feedback")
    await traffic.run(asks(requests, seed + 1), "changed", PER_SECOND)
    note("learning, while requests go on")
    done = asyncio.Event()
    more = asks(MOST_WHILE_LEARNING, seed + 2)
    beside = asyncio.create_task(traffic.run(more, "learning", WHILE_LEARNING_PER_SECOND, done))
    try:
        await _learn(stack, out, changed)
    finally:
        done.set()
        await beside
    note(f"{at_first} requests decided by what was learned")
    await traffic.run(asks(at_first, seed + 3), "after", PER_SECOND)


async def _learn(stack: Stack, out: Path, changed: datetime) -> None:
    """`heimdall learn --once` as its user types it. Raises CommandError when it fails."""
    arguments = ["--config", str(stack.config), "--bootstrap", stack.bootstrap, "learn", "--once"]
    arguments += ["--out", str(out / "learning"), "--recent", changed.isoformat(), "-o", "json"]
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "heimdall_fleet.cli", *arguments, stdout=PIPE)
    await process.communicate()
    if process.returncode:
        raise CommandError(
            Exit.CHECK_FAILED, f"heimdall learn ended with code {process.returncode}; its words are above"
        )


async def _read_back(config: Config, out: Path) -> None:
    """Audit and feedback into files: what everything else is counted from."""
    topics = config.kafka.topics
    async with reader_for(config) as reader:
        for topic, name in ((topics.audit, "audit.jsonl"), (topics.feedback, "feedback.jsonl")):
            with (out / name).open("wb") as file:
                async for record in reader.read([topic]):
                    file.write((record.value or b"{}") + b"\n")
