"""A whole fleet on this machine: broker, scripted providers, one triage and one dispatch process.

The embedded broker bears one member a group, so there is one worker of each kind by default; anything about rebalances
is tried on Apache Kafka.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from heimdall_fleet.config import Config, load
from heimdall_fleet.kafka import admin
from heimdall_fleet.kafka.embedded import EmbeddedBroker
from heimdall_fleet.kafka.settings import KafkaSettings
from heimdall_fleet.stack import processes
from heimdall_fleet.stack.errors import StackError
from heimdall_fleet.stack.processes import Child
from heimdall_fleet.stack.providers import PLAIN_PLAN, Scripted, authors, start_scripted
from heimdall_schemas.topics import Topics

EMBEDDED_FETCH_WAIT_MS = 40
"""This broker ends a wait for no record: shorter is sooner, and costs workers with nothing to do as much more."""
WORKERS = ("triage", "dispatch")


@dataclass(frozen=True, slots=True)
class StackOptions:
    """`bootstrap` None: the embedded broker. `config` None: a configuration whose providers are the scripted ones.

    `plan` is what the scripted providers do, `calls` a file that gets a line for each of their calls; `settings` is
    laid over the configuration that is written; `more_authors` are scripted beside those of the default candidates.
    """

    directory: Path
    bootstrap: str | None = None
    config: Path | None = None
    plan: Mapping[str, Any] = field(default_factory=lambda: PLAIN_PLAN)
    calls: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    more_authors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stack:
    """The running stack and its addresses."""

    bootstrap: str
    topics: Topics
    config: Path
    metrics: Mapping[str, str]
    children: tuple[Child, ...]
    scripted: Scripted | None

    def addresses(self) -> dict[str, Any]:
        """What `heimdall dev --addresses FILE` writes. `http` and `catalog` are null: those doors are not built yet."""
        return {
            "bootstrap": self.bootstrap,
            "topics": {topic.entity: topic.name for topic in self.topics.all()},
            "http": None,
            "catalog": None,
            "providers": self.scripted.url if self.scripted else None,
            "metrics": dict(self.metrics),
            "pids": {child.name: child.pid for child in self.children},
            "logs": {child.name: str(child.log) for child in self.children},
            "config": str(self.config),
        }


@asynccontextmanager
async def local_stack(options: StackOptions) -> AsyncIterator[Stack]:
    """Start every part, wait until each answers, and stop them in reverse when the block ends."""
    options.directory.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as parts:
        bootstrap = options.bootstrap or _embedded(parts)
        config_file, scripted = options.config, None
        if config_file is None:
            scripted = await start_scripted(options.plan, options.directory, options.calls)
            parts.push_async_callback(processes.stop, [scripted.child])
            config_file = options.directory / "heimdall.yaml"
            config_file.write_text(yaml.safe_dump(_configuration(scripted, options), sort_keys=False))
        flags = {"kafka.bootstrap_servers": bootstrap}
        config = load(config_file, options.environment, flags).config
        if options.bootstrap:
            await _create_missing(KafkaSettings(bootstrap_servers=bootstrap), config.kafka.topics)
        workers = replace(options, bootstrap=bootstrap, config=config_file)
        children, metrics = await _start_workers(workers, parts)
        parents = (scripted.child,) if scripted else ()
        yield Stack(bootstrap, config.kafka.topics, config_file, metrics, (*parents, *children), scripted)


def _embedded(parts: AsyncExitStack) -> str:
    """A broker in this process, with the topics and partition counts of the table."""
    broker = parts.enter_context(EmbeddedBroker())
    for topic in Topics().all():
        broker.create_topic(topic.name, topic.partitions)
    return broker.bootstrap


async def _create_missing(settings: KafkaSettings, topics: Topics) -> None:
    plan = await admin.plan(settings, topics.all())
    refused = {name: why for name, why in (await admin.create(settings, plan.missing)).items() if why}
    if refused:
        raise StackError(f"topics could not be created: {refused}")


async def _start_workers(options: StackOptions, parts: AsyncExitStack) -> tuple[list[Child], dict[str, str]]:
    children: list[Child] = []
    ports: dict[str, int] = {}
    parts.push_async_callback(processes.stop, children)
    for name in WORKERS:
        ports[name] = processes.free_port()
        children.append(await start_worker(name, name, ports[name], options))
    for child in children:
        await processes.until_ready(child, ports[child.name], "/readyz")
    return children, {name: f"http://127.0.0.1:{port}/metrics" for name, port in ports.items()}


async def start_worker(kind: str, name: str, metrics_port: int, options: StackOptions) -> Child:
    """One `heimdall triage` or `heimdall dispatch` on the configuration of `options`."""
    arguments = ["-m", "heimdall_fleet.cli", "--config", str(options.config), "--bootstrap", str(options.bootstrap)]
    return await processes.start(
        name, [*arguments, kind, "--metrics-port", str(metrics_port)], options.directory, options.environment
    )


def _configuration(scripted: Scripted, options: StackOptions) -> dict[str, Any]:
    candidates = Config().router.candidates()
    written: dict[str, Any] = {
        "version": 1,
        "kafka": {} if options.bootstrap else {"fetch_max_wait_ms": EMBEDDED_FETCH_WAIT_MS},
        "providers": scripted.entries([*authors(candidates), *options.more_authors]),
        "observe": {"metrics": {"host": "127.0.0.1"}},
        "learning": {"bundle_store": (options.directory.absolute() / "bundles").as_uri()},
    }
    for section, value in options.settings.items():
        both = isinstance(value, Mapping) and isinstance(written.get(section), dict)
        written[section] = {**written[section], **value} if both else value
    return written
