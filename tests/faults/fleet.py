"""A fleet to be broken: workers of each kind and scripted providers as processes, on topics of its own.

Every worker has a configuration file of its own, whose keys differ in their values alone: so the providers' log tells
which worker made a call. The keys are canaries too.
"""

import asyncio
import os
import random
import signal
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import yaml
from tests.brokers.clusters import Reachable
from tests.faults.history import Event, Exit, Fault, Run, Sample
from tests.faults.peek import fetch, gauge, request

from heimdall_fleet.config import Config
from heimdall_fleet.kafka.driver.admin import RawAdmin, TopicRequest
from heimdall_fleet.kafka.settings import KafkaSettings
from heimdall_fleet.providers.scripted import fingerprint
from heimdall_fleet.settings import catalogue_of
from heimdall_fleet.stack import processes
from heimdall_fleet.stack.processes import Child
from heimdall_fleet.stack.providers import Scripted, authors, start_scripted
from heimdall_schemas.topics import Topics

PARTITIONS = {"requests": 6, "dispatch": 6, "replies": 4, "audit": 4, "retry": 12, "dlq": 2}
"""Fewer than in the table, so that a broker bears many runs; of retry topics dispatch knows the number."""

GRACE_S = 20
PLAIN: Mapping[str, Any] = {"latency_ms": {"median": 60, "sigma": 0.5}, "output_tokens": {"median": 30, "sigma": 0.5}}


class Clock(NamedTuple):
    """How far ahead it is, negative for behind, and by how much it jumps when it is told to."""

    ahead_s: float
    jump_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Setup:
    """What a run is made of. `behaviours` as in a plan of the scripted providers, `settings` are laid over the config.

    `elsewhere`: providers that are not scripted, by name, with their whole section of the configuration.
    """

    seed: int
    directory: Path
    triage: int = 1
    dispatch: int = 1
    behaviours: Mapping[str, Any] = field(default_factory=lambda: {"*": PLAIN})
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    more_authors: tuple[str, ...] = ()
    elsewhere: Mapping[str, Any] = field(default_factory=dict)
    session_timeout_ms: int = 3_000
    extra_topics: tuple[str, ...] = ()
    """Topics that replies may be asked to, after the prefix and a dot."""
    prefix: str | None = None
    replication: int = 1
    clocks: Mapping[str, Clock] = field(default_factory=dict)
    """Workers whose clock is wrong, by name."""
    full_at_bytes: int | None = None
    """No worker can let a file grow beyond this."""


@dataclass(slots=True)
class Worker:
    """One process. `name` is never used again, `port` is that of its metrics."""

    kind: str
    name: str
    child: Child
    port: int
    paused: bool = False

    @property
    def alive(self) -> bool:
        return self.child.running and not self.paused


@dataclass(frozen=True, slots=True)
class Canaries:
    """What must stay where it was put."""

    key: str
    prompt: str
    header: str

    @classmethod
    def fresh(cls) -> "Canaries":
        mark = uuid.uuid4().hex[:12]
        return cls(f"CANARY-KEY-{mark}", f"CANARY-PROMPT-{mark}", f"CANARY-HEADER-{mark}")


class Fleet:
    """Made by `open_fleet`. What it does to its workers is written down in `events`."""

    def __init__(self, cluster: Reachable, setup: Setup, scripted: Scripted) -> None:
        self.cluster = cluster
        self.setup = setup
        self.scripted = scripted
        self.topics = Topics(setup.prefix or f"fault-{uuid.uuid4().hex[:10]}")
        self.canaries = Canaries.fresh()
        self.random = random.Random(setup.seed)
        self.workers: list[Worker] = []
        self.events: list[Event] = [run_of(setup)]
        self.worker_of_key: dict[str, str] = {}
        self._numbers = {"triage": 0, "dispatch": 0}

    @property
    def kafka(self) -> KafkaSettings:
        return replace(KafkaSettings(), bootstrap_servers=self.cluster.bootstrap, fetch_max_wait_ms=50)

    def alive(self, kind: str) -> list[Worker]:
        return [worker for worker in self.workers if worker.kind == kind and worker.alive]

    @property
    def providers_port(self) -> int:
        return int(self.scripted.url.rsplit(":", 1)[1])

    async def behave(self, behaviours: Mapping[str, Any]) -> None:
        """Give the scripted providers another plan, from now on."""
        plan = {"seed": self.setup.seed, "behaviours": dict(behaviours)}
        status, answer = await request(self.providers_port, "PUT", "/_plan", orjson.dumps(plan))
        if status != 200:
            raise RuntimeError(f"the plan was refused: {answer}")

    async def calls(self) -> list[dict[str, Any]]:
        """Every call so far, as the scripted providers log it; `end` is None while a call is open."""
        found: list[dict[str, Any]] = orjson.loads(await fetch(self.providers_port, "/_calls", 30))["calls"]
        return found

    async def start(self, kind: str, *, wait: bool = True) -> Worker:
        """One more worker of a kind; a fault like any other, since it moves partitions."""
        self._numbers[kind] += 1
        name = f"{kind}-{self._numbers[kind]}"
        config = self.setup.directory / f"{name}.yaml"
        config.write_text(yaml.safe_dump(self._configuration(name), sort_keys=False))
        port = processes.free_port()
        arguments = ["-m", *self._program(name), "--config", str(config), kind, "--metrics-port", str(port)]
        child = await processes.start(name, arguments, self.setup.directory, {})
        worker = Worker(kind, name, child, port)
        self.workers.append(worker)
        if wait:
            await self.ready(worker)
        return worker

    async def ready(self, *workers: Worker) -> None:
        for worker in workers:
            await processes.until_ready(worker.child, worker.port, "/readyz", patience_s=60)

    async def kill(self, worker: Worker) -> None:
        """SIGKILL: nothing is said, nothing is finished."""
        at = time.time()
        worker.child.process.kill()
        await self._ended(worker, at, "SIGKILL")
        self.events.append(Fault(at, time.time(), "SIGKILL", (worker.name,)))

    async def terminate(self, worker: Worker) -> Exit:
        """SIGTERM, and wait until it has left."""
        at = time.time()
        worker.child.process.terminate()
        exit_ = await self._ended(worker, at, "SIGTERM")
        self.events.append(Fault(at, time.time(), "SIGTERM", (worker.name,)))
        return exit_

    async def terminate_twice(self, worker: Worker, pause_s: float) -> Exit:
        """SIGTERM, and another one before it has left."""
        at = time.time()
        worker.child.process.terminate()
        await asyncio.sleep(pause_s)
        worker.child.process.terminate()
        exit_ = await self._ended(worker, at, "SIGTERM twice")
        self.events.append(Fault(at, time.time(), "SIGTERM twice", (worker.name,)))
        return exit_

    async def freeze(self, worker: Worker, seconds: float) -> None:
        """SIGSTOP and SIGCONT: a zombie, once the group has given its partitions away."""
        at = time.time()
        worker.paused = True
        worker.child.process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            worker.child.process.send_signal(signal.SIGCONT)
            worker.paused = False
            self.events.append(Fault(at, time.time(), "SIGSTOP", (worker.name,)))

    def jump(self, worker: Worker) -> None:
        """Let its clock jump, there or back."""
        at = time.time()
        worker.child.process.send_signal(signal.SIGUSR1)
        self.events.append(Fault(at, at, "clock jumped", (worker.name,)))

    async def stop(self) -> None:
        """SIGTERM to all that still run, and their exits into the record. One that only begins is waited for."""
        running = [worker for worker in self.workers if worker.child.running]
        await self.ready(*running)
        at = time.time()
        for worker in running:
            worker.child.process.terminate()
        await asyncio.gather(*(self._ended(worker, at, "SIGTERM") for worker in running))

    async def sample(self) -> None:
        """Look at every worker's metrics once a second, until cancelled."""
        while True:
            for worker in self.workers:
                if worker.alive and (text := await fetch(worker.port, "/metrics")):
                    path = self.setup.directory / f"{worker.name}.metrics"
                    path.write_text(text)
                    found = (
                        gauge(text, "heimdall_memory_usage_bytes"),
                        gauge(text, "heimdall_goroutines"),
                        gauge(text, "heimdall_dispatch_in_flight"),
                    )
                    self.events.append(Sample(time.time(), worker.name, *found))
            await asyncio.sleep(1.0)

    async def _ended(self, worker: Worker, asked_at: float, how: str) -> Exit:
        try:
            code = await asyncio.wait_for(worker.child.process.wait(), 2 * GRACE_S + 30)
        except TimeoutError:
            worker.child.process.kill()
            code = await worker.child.process.wait()
        exit_ = Exit(asked_at, time.time(), worker.name, how, code)
        self.events.append(exit_)
        return exit_

    def _program(self, name: str) -> list[str]:
        if clock := self.setup.clocks.get(name):
            return ["tests.faults.shifted", *map(str, clock)]
        if self.setup.full_at_bytes is not None:
            return ["tests.faults.cramped", str(self.setup.full_at_bytes)]
        return ["heimdall_fleet.cli"]

    def _configuration(self, name: str) -> dict[str, Any]:
        written: dict[str, Any] = {
            "version": 1,
            "kafka": {
                "bootstrap_servers": self.cluster.bootstrap,
                "topic_prefix": self.topics.prefix,
                "session_timeout_ms": self.setup.session_timeout_ms,
                "heartbeat_interval_ms": self.setup.session_timeout_ms // 10,
                "fetch_max_wait_ms": 100,
            },
            "providers": {**self._providers(name), **self.setup.elsewhere},
            "dispatch": {"grace": f"{GRACE_S}s"},
            "observe": {"metrics": {"host": "127.0.0.1"}},
        }
        for section, values in self.setup.settings.items():
            written[section] = {**written.get(section, {}), **values}
        return written

    def _providers(self, name: str) -> dict[str, Any]:
        entries = self.scripted.entries(provider_names(self.setup))
        for provider in entries.values():
            for key in provider["keys"]:
                key["value"] = f"{self.canaries.key}-{key['name']}-{name}"
                self.worker_of_key[fingerprint(key["value"])] = name
        return entries


def provider_names(setup: Setup) -> list[str]:
    return [*authors(Config().router.candidates()), *setup.more_authors]


def run_of(setup: Setup) -> Run:
    models = catalogue_of(Config(), datetime.now(UTC).date()).models
    prices = {
        name: (facts.price.standard.input, facts.price.standard.output)
        for name, facts in models.items()
        if facts.price and facts.price.standard
    }
    for name, facts in setup.settings.get("models", {}).items():
        prices[name] = (round(facts["price"]["input"] * 1e6), round(facts["price"]["output"] * 1e6))
    dispatch = setup.settings.get("dispatch", {})
    return Run(
        seed=setup.seed,
        max_attempts=dispatch.get("max_attempts", 4),
        prices=prices,
        stop_bound_s=GRACE_S + 15,
        max_in_flight=dispatch.get("max_in_flight", 500),
        shared_state=setup.settings.get("state", {}).get("url", "").startswith("redis"),
    )


@asynccontextmanager
async def open_fleet(cluster: Reachable, setup: Setup) -> AsyncIterator[Fleet]:
    """Topics, scripted providers and workers, all ready; nothing of it runs on when the block is left."""
    plan = {"seed": setup.seed, "behaviours": dict(setup.behaviours)}
    scripted = await start_scripted(plan, setup.directory, setup.directory / "calls.jsonl")
    fleet = Fleet(cluster, setup, scripted)
    try:
        await create_topics(fleet)
        kinds = ["triage"] * setup.triage + ["dispatch"] * setup.dispatch
        for kind in kinds:
            await fleet.start(kind, wait=False)
        await fleet.ready(*fleet.workers)
        sampling = asyncio.create_task(fleet.sample())
        try:
            yield fleet
        finally:
            sampling.cancel()
            await asyncio.wait({sampling})
    finally:
        for worker in fleet.workers:
            if worker.child.running:
                os.kill(worker.child.pid, signal.SIGKILL)
                await worker.child.process.wait()
        await processes.stop([scripted.child])


async def create_topics(fleet: Fleet) -> None:
    """The topics of the fleet; those that are only read at the end stamp their records with the broker's clock."""
    requests = []
    for topic in fleet.topics.all():
        count = PARTITIONS.get(topic.entity.split(".")[0], 1)
        config = {"max.message.bytes": str(topic.max_message_bytes)}
        if topic.entity != "requests":
            config["message.timestamp.type"] = "LogAppendTime"
        requests.append(TopicRequest(topic.name, count, fleet.setup.replication, config))
    requests += [TopicRequest(f"{fleet.topics.prefix}.{name}", 2, 1, {}) for name in fleet.setup.extra_topics]
    async with RawAdmin(fleet.kafka) as admin:
        refused = {name: why for name, why in (await admin.create(requests)).items() if why}
        if refused:
            raise RuntimeError(f"topics were not created: {refused}")
