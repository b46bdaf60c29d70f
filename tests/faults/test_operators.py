"""Faults 20 and 21: what an operator gets wrong under load. The last good bundle and the last good file go on."""

import asyncio
import hashlib
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import orjson
import pytest
import yaml
from tests.brokers.clusters import ApacheCluster
from tests.bundles import dated
from tests.faults.faults import promote
from tests.faults.figures import Tell
from tests.faults.fleet import Setup, Worker
from tests.faults.peek import fetch, get
from tests.faults.scenario import Scenario, scenario

from heimdall_fleet.kafka.driver.reading import TopicReader
from heimdall_models.bundle import MANIFEST, ONNX, load_bundle
from heimdall_models.shipped import shipped

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

BAD_FILES: Mapping[str, tuple[Mapping[str, Any] | str, str]] = {
    "bad yaml": ("router: {alpha: [\n", ":2:1: error"),
    "unknown key": ({"routr": {"alpha": 0.5}}, "did you mean"),
    "negative weight": ({"providers": {"openai": {"keys": [{"name": "a", "value": "b", "weight": -1}]}}}, "weight"),
    "missing key": ({"providers": {"openai": {"keys": [{"name": "a", "value": "${NOT_SET}"}]}}}, "NOT_SET"),
}


async def test_bad_configurations_under_load_leave_the_last_good_one_and_say_where_they_are_bad(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    async with scenario(apache_broker, Setup(321, tmp_path)) as run:
        await run.under_load(spoil_files(run))
        refused = [await refusals(worker) for worker in run.fleet.workers]
        verdict = await run.verdict()
        tell(verdict.figures())
        assert verdict.states == {"answered": len(run.load.sent)}
        assert min(refused) >= len(BAD_FILES)


async def spoil_files(run: Scenario) -> None:
    """Give each worker each bad file, and a good one in the end; try to start another one with the same file."""
    for worker in list(run.fleet.workers):
        path = run.fleet.setup.directory / f"{worker.name}.yaml"
        good = path.read_text()
        for change, says in BAD_FILES.values():
            path.write_text(change if isinstance(change, str) else yaml.safe_dump(over(yaml.safe_load(good), change)))
            worker.child.process.send_signal(signal.SIGHUP)
            await run.until(partial(_logged, worker, says))
            if worker.kind == "dispatch":
                code, said = await started_with(path, worker.kind)
                assert code == 2
                assert f"{path}:" in said
        path.write_text(good)


def _logged(worker: Worker, says: str) -> bool:
    return says in worker.child.log.read_text()


def over(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `change` laid over it, section by section."""
    inner = {
        name: over(base.get(name, {}), value) if isinstance(value, Mapping) else value for name, value in change.items()
    }
    return {**base, **inner}


async def refusals(worker: Worker) -> float:
    """How often a worker has refused its file."""
    counter = 'heimdall_config_reloads_total{outcome="refused"'
    lines = [line for line in (await fetch(worker.port, "/metrics")).splitlines() if line.startswith(counter)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


async def started_with(config: Path, kind: str) -> tuple[int | None, str]:
    """Exit code and standard error of a worker that is started with this file."""
    command = [sys.executable, "-m", "heimdall_fleet.cli", "--config", str(config), kind]
    process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=PIPE)
    _, error = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, error.decode()


def spoiled(bundle: Path, change: Callable[[Any], None]) -> Path:
    """The bundle with another classifier, under a manifest that knows it."""
    model = onnx.load(bundle / ONNX)
    change(model)
    data = bytes(model.SerializeToString())
    (bundle / ONNX).write_bytes(data)
    manifest = orjson.loads((bundle / MANIFEST).read_bytes())
    manifest["files"][ONNX] = hashlib.sha256(data).hexdigest()
    (bundle / MANIFEST).write_bytes(orjson.dumps(manifest))
    return bundle


def other_operator_set(model: Any) -> None:
    model.opset_import[1].version = 99


def other_features(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value += 1


def nan_leaves(model: Any) -> None:
    weights = next(each for each in model.graph.node[0].attribute if each.name == "target_weights")
    weights.floats[:] = [float("nan")] * len(weights.floats)


SPOILED: tuple[tuple[Callable[[Any], None], str], ...] = (
    (other_operator_set, "version 99 is not allowed"),
    (other_features, "features, there are"),
    (nan_leaves, "NaN"),
)


async def test_bad_bundles_under_load_leave_the_last_good_one_and_a_good_one_is_swapped_in(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    settings = {"tuning": {"cache_dir": str(tmp_path / "cache")}}
    async with scenario(apache_broker, Setup(320, tmp_path, settings=settings)) as run:
        await run.under_load(promote_bad_bundles(run, tmp_path))
        await promote(run.fleet, dated(tmp_path / "good", 20))
        await run.until(partial(_logged, run.fleet.alive("triage")[0], "bundle_swapped"))
        await run.load.many(20)
        await run.settled()
        async with TopicReader(run.fleet.kafka) as reader:
            told = [orjson.loads(each.value or b"{}") async for each in reader.read([run.fleet.topics.audit])]
        verdict = await run.verdict()
        tell(verdict.figures())
        assert verdict.states == {"answered": len(run.load.sent)}
        old, new = (load_bundle(place).hash for place in (shipped("bundles/default"), tmp_path / "good"))
        assert {each["bundle"] for each in told if each["kind"] == "decision"} == {old, new}


async def promote_bad_bundles(run: Scenario, folder: Path) -> None:
    """One after the other, each once the one before was refused."""
    await promote(run.fleet, dated(folder / "misnamed", 2), sha256="0" * 64)
    await said_by_triage(run, "has the sha-256")
    short = dated(folder / "short", 3)
    (short / ONNX).write_bytes((short / ONNX).read_bytes()[:1_000])
    await promote(run.fleet, short)
    await said_by_triage(run, f"{ONNX}: ")
    for day, (change, says) in enumerate(SPOILED, start=4):
        await promote(run.fleet, spoiled(dated(folder / change.__name__, day), change))
        await said_by_triage(run, says)


async def said_by_triage(run: Scenario, says: str) -> None:
    """Wait until the triage worker gives this as the reason why it is degraded; it is ready all the same."""
    async with asyncio.timeout(20):
        while True:
            status, body = await get(run.fleet.alive("triage")[0].port, "/readyz")
            if status == 200 and says in orjson.dumps(orjson.loads(body)).decode():
                return
            await asyncio.sleep(0.05)
