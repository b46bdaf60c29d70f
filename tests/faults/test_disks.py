"""Fault 18: a disk on which nothing more can be written, for logs, bundles and large replies."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.brokers.clusters import ApacheCluster
from tests.bundles import dated
from tests.faults.faults import noted, promote
from tests.faults.figures import Tell
from tests.faults.fleet import PLAIN, Setup
from tests.faults.peek import get
from tests.faults.scenario import Scenario, scenario

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

FULL_AT_BYTES = 512
"""What a worker logs while it starts is more than that."""


async def test_workers_on_a_full_disk_answer_keep_their_bundle_and_say_what_could_not_be_written(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    settings: dict[str, dict[str, Any]] = {
        "models": {"vast/one": {"price": {"input": 1, "output": 1}, "context_window": 4_000_000}},
        "dispatch": {"large_replies": "claim_check", "object_store": (tmp_path / "objects").as_uri()},
        "tuning": {"cache_dir": str(tmp_path / "cache")},
    }
    behaviours = {"*": PLAIN, "vast": {"output_tokens": {"median": 400_000}}}
    setup = Setup(
        380, tmp_path, behaviours=behaviours, more_authors=("vast",), settings=settings, full_at_bytes=FULL_AT_BYTES
    )
    async with scenario(apache_broker, setup) as run:
        async with noted(run.fleet, "disk full"):
            await run.load.many(50, 50)
            large = await run.load.many(2, model="vast/one")
            await promote(run.fleet, dated(tmp_path / "bundle", 2))
            said = await refusal(run)
            await run.load.many(50, 50)
        await run.settled()
        found = await run.replies()
        verdict = await run.verdict()
        tell(verdict.figures())
        assert "File too large" in said
        assert {found[each.request_id]["error"]["code"] for each in large} == {"heimdall_reply_too_large"}
        assert all(str(tmp_path / "objects") in found[each.request_id]["error"]["message"] for each in large)
        assert verdict.states == {"answered": 100, "failed": 2}
        assert {worker.child.log.stat().st_size for worker in run.fleet.workers} == {FULL_AT_BYTES}
        assert list((tmp_path / "objects").iterdir()) == list((tmp_path / "cache" / "bundles").iterdir()) == []


async def refusal(run: Scenario, within_s: float = 20.0) -> str:
    """Why the triage worker did not take the bundle, as it says when it is asked whether it is ready; it is."""
    async with asyncio.timeout(within_s):
        while True:
            status, body = await get(run.fleet.alive("triage")[0].port, "/readyz")
            if status == 200 and '"degraded"' in body:
                return body
            await asyncio.sleep(0.1)
