"""The two clusters that tests run against, behind one face."""

import asyncio
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from heimdall_fleet.kafka.driver.admin import RawAdmin, TopicRequest
from heimdall_fleet.kafka.embedded import EmbeddedBroker
from heimdall_fleet.kafka.settings import KafkaSettings
from heimdall_fleet.stack.processes import free_port

_BROKER_FILE = Path(__file__).parents[2] / "deploy" / "kafka" / "broker.py"


class Reachable(Protocol):
    """Something that has an address."""

    @property
    def bootstrap(self) -> str: ...


class Cluster(Reachable, Protocol):
    """A running broker."""

    def settings(self) -> KafkaSettings: ...

    async def create_topic(self, name: str, partitions: int, config: Mapping[str, str] | None = None) -> None: ...


class EmbeddedCluster:
    """librdkafka's mock cluster; `broker` also plays faults."""

    def __init__(self, broker: EmbeddedBroker) -> None:
        self.broker = broker

    @property
    def bootstrap(self) -> str:
        return self.broker.bootstrap

    def settings(self) -> KafkaSettings:
        """A successor in a group waits for its predecessor's session here, hence the shortest one."""
        return replace(self.broker.settings("test"), session_timeout_ms=1_200, heartbeat_interval_ms=300)

    async def create_topic(self, name: str, partitions: int, config: Mapping[str, str] | None = None) -> None:
        self.broker.create_topic(name, partitions)


class Detour(NamedTuple):
    """A second listener of a broker: it listens on `port` and names itself as `advertised`, where a test's proxy stands."""

    port: int
    advertised: int


class ApacheCluster:
    """A one-node Apache Kafka; `broker` is deploy/kafka/broker.py's `KafkaBroker` and can be killed and paused."""

    def __init__(self, broker: Any, detour: Detour | None = None) -> None:
        self.broker = broker
        self.detour = detour

    @property
    def bootstrap(self) -> str:
        address: str = self.broker.bootstrap
        return address

    def settings(self) -> KafkaSettings:
        """Times short enough to see an expulsion within a test."""
        return KafkaSettings(
            bootstrap_servers=self.bootstrap,
            client_id="test",
            session_timeout_ms=3_000,
            heartbeat_interval_ms=300,
            rebalance_timeout_ms=6_000,
            request_timeout_ms=10_000,
            fetch_max_wait_ms=100,
        )

    async def create_topic(self, name: str, partitions: int, config: Mapping[str, str] | None = None) -> None:
        async with RawAdmin(self.settings()) as admin:
            reasons = await admin.create([TopicRequest(name, partitions, 1, config or {})])
            if reasons[name] is not None:
                raise RuntimeError(f"topic {name} was not created: {reasons[name]}")
            while not await admin.topics([name]):  # noqa: ASYNC110  # the controller knows it before the broker does
                await asyncio.sleep(0.02)


def broker_with_detour() -> ApacheCluster:
    """Not started. The detour costs nothing where nobody takes it."""
    detour = Detour(free_port(), free_port())
    port, controller_port = free_port(), free_port()
    direct, around = f"PLAINTEXT://127.0.0.1:{port}", "DETOUR://127.0.0.1"
    more = {
        "listeners": f"{direct},{around}:{detour.port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"{direct},{around}:{detour.advertised}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,DETOUR:PLAINTEXT,CONTROLLER:PLAINTEXT",
    }
    return ApacheCluster(load_broker_module().KafkaBroker(None, port, controller_port, more), detour)


def load_broker_module() -> ModuleType:
    """deploy/kafka/broker.py, which is a script and in no package."""
    name = "heimdall_deploy_kafka_broker"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, _BROKER_FILE)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]
