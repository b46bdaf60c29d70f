"""aiokafka's admin client, typed."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from heimdall_fleet.kafka.driver.connection import abandon, bounded, connection_arguments
from heimdall_fleet.kafka.errors import BrokerUnavailable, KafkaFailure
from heimdall_fleet.kafka.offsets import Checkpoint
from heimdall_fleet.kafka.records import Partition
from heimdall_fleet.kafka.settings import KafkaSettings

_TOPIC_EXISTS = 36
_COORDINATOR_TRIES = 10
_COORDINATOR_PAUSE_S = 0.3


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as the cluster has it."""

    partitions: int
    replication: int
    config: Mapping[str, str]
    """Every setting of the topic by Kafka's name, defaults included."""


@dataclass(frozen=True, slots=True)
class TopicRequest:
    """A topic to be created."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]


class RawAdmin:
    """`async with RawAdmin(settings) as admin: ...`; every call raises `BrokerUnavailable` within `timeout_s`."""

    def __init__(self, settings: KafkaSettings, timeout_s: float = 15.0) -> None:
        self._timeout_s = timeout_s
        self._aio = AIOKafkaAdminClient(**connection_arguments(settings), request_timeout_ms=int(timeout_s * 1000))

    async def __aenter__(self) -> "RawAdmin":
        try:
            await bounded(self._aio.start(), self._timeout_s, "connect to the cluster")
        except KafkaFailure:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def _close(self) -> None:
        await abandon(self._aio._client, [])

    async def brokers(self) -> int:
        """How many brokers the cluster has now."""
        described: Mapping[str, Any] = await bounded(self._aio.describe_cluster(), self._timeout_s, "list brokers")
        return len(described["brokers"])

    async def topics(self, names: Collection[str]) -> dict[str, TopicState]:
        """Those of the topics that exist."""
        listed = await bounded(self._aio.list_topics(), self._timeout_s, "list topics")
        present = [name for name in names if name in set(listed)]
        if not present:
            return {}
        described = await bounded(self._aio.describe_topics(present), self._timeout_s, "describe topics")
        configs = await self._configs(present)
        return {
            topic["topic"]: TopicState(
                partitions=len(topic["partitions"]),
                replication=len(topic["partitions"][0]["replicas"]),
                config=configs[topic["topic"]],
            )
            for topic in described
        }

    async def _configs(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        answers = await bounded(self._aio.describe_configs(resources), self._timeout_s, "read topic settings")
        found: dict[str, dict[str, str]] = {}
        for code, message, _, name, entries in (resource for answer in answers for resource in answer.resources):
            if code:
                raise BrokerUnavailable(f"read settings of topic {name}: {errors.for_code(code).__name__} {message}")
            found[name] = {entry[0]: entry[1] for entry in entries}
        return found

    async def create(self, topics: Sequence[TopicRequest]) -> dict[str, str | None]:
        """Why each topic could not be created; None for those that were, or that were there already."""
        wanted = [NewTopic(t.name, t.partitions, t.replication, topic_configs=dict(t.config)) for t in topics]
        answer = await bounded(self._aio.create_topics(wanted), self._timeout_s, "create topics")
        reasons: dict[str, str | None] = {}
        for name, code, *message in answer.topic_errors:
            fine = code in {0, _TOPIC_EXISTS}
            text = message[0] if message and message[0] else ""
            reasons[name] = None if fine else f"{errors.for_code(code).__name__} {text}".strip()
        return reasons

    async def group_offsets(self, group_id: str) -> dict[Partition, Checkpoint]:
        """What a group has committed, with the metadata; empty for a group nobody has seen."""
        for _ in range(_COORDINATOR_TRIES):  # a new cluster makes its offsets topic when first asked
            try:
                listed = await bounded(
                    self._aio.list_consumer_group_offsets(group_id), self._timeout_s, f"read offsets of {group_id}"
                )
                return {(tp.topic, tp.partition): Checkpoint(at.offset, at.metadata) for tp, at in listed.items()}
            except BrokerUnavailable as error:
                if not getattr(error.__cause__, "retriable", False):
                    raise
                failure = error
                await asyncio.sleep(_COORDINATOR_PAUSE_S)
        raise failure
