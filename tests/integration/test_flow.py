"""What users do first, on Apache Kafka: create topics, start `heimdall dev`, ask from the README and from Python."""

import asyncio
import json
import re
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.brokers.clusters import ApacheCluster
from tests.faults.faults import broker_gone
from tests.faults.figures import Tell
from tests.faults.fleet import Setup
from tests.faults.peek import get
from tests.faults.scenario import scenario

from heimdall_fleet.client import HeimdallClient
from heimdall_fleet.stack import processes

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[2]
START_WITHIN_S = 60.0


async def heimdall(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    command = [sys.executable, "-m", "heimdall_fleet.cli", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    out, error = await asyncio.wait_for(process.communicate(), START_WITHIN_S)
    assert process.returncode is not None
    return process.returncode, out.decode(), error.decode()


async def test_topics_are_missed_created_and_then_as_the_table_says(
    apache_broker: ApacheCluster, tmp_path: Path, unique: Callable[[str], str]
) -> None:
    config = tmp_path / "heimdall.yaml"
    config.write_text(f"version: 1\nkafka:\n  topic_prefix: {unique('flow')}\n")
    common = ("--config", str(config), "--bootstrap", apache_broker.bootstrap, "-o", "json", "topics")
    code, out, _ = await heimdall(*common, "check")
    assert (code, len(json.loads(out)["fine"])) == (1, 0)
    code, out, _ = await heimdall(*common, "create")
    assert (code, json.loads(out)["refused"]) == (0, {})
    code, out, _ = await heimdall(*common, "check")
    assert (code, json.loads(out)["missing"], json.loads(out)["drift"]) == (0, [], [])


@pytest.mark.timeout(150)
async def test_the_readme_program_and_the_client_get_their_replies_from_heimdall_dev(
    apache_broker: ApacheCluster, tmp_path: Path
) -> None:
    addresses = tmp_path / "dev.json"
    arguments = ["-m", "heimdall_fleet.cli", "--bootstrap", apache_broker.bootstrap, "dev"]
    dev = await processes.start("dev", [*arguments, "--addresses", str(addresses)], tmp_path, {})
    try:
        async with asyncio.timeout(START_WITHIN_S):
            while not addresses.exists():
                assert dev.running, dev.last_lines()
                await asyncio.sleep(0.1)
        assert json.loads(addresses.read_text())["bootstrap"] == apache_broker.bootstrap

        program = tmp_path / "ask.py"
        program.write_text(readme_program())
        asking = await asyncio.create_subprocess_exec(sys.executable, str(program), cwd=tmp_path, stdout=PIPE)
        said, _ = await asyncio.wait_for(asking.communicate(), 30)
        assert asking.returncode == 0
        assert "'state': 'answered'" in said.decode()

        async with HeimdallClient(apache_broker.bootstrap) as client:
            reply = await client.complete(messages=[{"role": "user", "content": "Good morning!"}])
        assert reply.text
        assert reply.heimdall.state == "answered"
    finally:
        if dev.running:
            dev.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(dev.process.wait(), 60) == 0
    assert not addresses.exists()


def readme_program() -> str:
    """The program that the README shows, as it stands there."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks: list[str] = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    return next(block for block in blocks if "AIOKafkaProducer" in block)


@pytest.mark.timeout(240)
async def test_while_the_broker_is_away_workers_wait_say_so_and_go_on(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    async with scenario(apache_broker, Setup(5, tmp_path)) as run:
        fleet = run.fleet
        asking = asyncio.create_task(run.load.many(600, 50))
        await run.answers(100)
        async with broker_gone(fleet, apache_broker):
            for worker in fleet.workers:
                assert await says_it_waits(worker.port), f"{worker.name} is ready without a broker"
        await fleet.ready(*fleet.workers)
        await asking
        await run.settled(90)
        verdict = await run.verdict()
        tell(verdict.figures())
        assert verdict.states == {"answered": 600}


async def says_it_waits(port: int, within_s: float = 15.0) -> bool:
    """Whether /readyz comes to refuse, with a reason that names the broker."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        status, body = await get(port, "/readyz")
        if status == 503 and "broker" in body:
            return True
        await asyncio.sleep(0.2)
    return False
