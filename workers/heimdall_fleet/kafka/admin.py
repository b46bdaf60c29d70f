"""`heimdall topics plan | create | check`: the one table against a cluster. Nothing here deletes or changes a topic."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from heimdall_fleet.kafka.driver.admin import RawAdmin, TopicRequest, TopicState
from heimdall_fleet.kafka.settings import KafkaSettings
from heimdall_schemas.topics import Topic

MAX_REPLICATION = 3


@dataclass(frozen=True, slots=True)
class Drift:
    """One way in which an existing topic differs from the table."""

    topic: str
    setting: str
    expected: str
    found: str

    def advice(self) -> str:
        """How an operator repairs it; changing a live topic is never done for them."""
        if self.setting == "partitions" and int(self.found) < int(self.expected):
            return f"kafka-topics --alter --topic {self.topic} --partitions {self.expected}"
        if self.setting == "partitions":
            return (
                "partitions can only be added, and keys move to others then: "
                "create a topic of the next version and let the old one run dry"
            )
        return f"kafka-configs --alter --topic {self.topic} --add-config '{self.setting}=[{self.expected}]'"


@dataclass(frozen=True, slots=True)
class Plan:
    """What `create` would do, and what it would not touch. `grown`: fine topics that have more partitions than the table."""

    missing: tuple[Topic, ...]
    drift: tuple[Drift, ...]
    fine: tuple[str, ...]
    grown: tuple[Drift, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether the fleet can work with the cluster as the table promises."""
        return not self.missing and not self.drift


def wanted_config(topic: Topic) -> dict[str, str]:
    """A row's settings by Kafka's names; a row without a retention keeps the broker's."""
    config = {"cleanup.policy": topic.cleanup_policy, "max.message.bytes": str(topic.max_message_bytes)}
    if topic.retention_ms is not None:
        config["retention.ms"] = str(topic.retention_ms)
    return config


def compare(table: Iterable[Topic], found: Mapping[str, TopicState]) -> Plan:
    """The table against the topics a cluster has."""
    missing, drift, fine, grown = [], [], [], []
    for topic in table:
        state = found.get(topic.name)
        if state is None:
            missing.append(topic)
        elif differences := _differences(topic, state):
            drift.extend(differences)
        else:
            fine.append(topic.name)
            if state.partitions > topic.partitions:
                grown.append(Drift(topic.name, "partitions", str(topic.partitions), str(state.partitions)))
    return Plan(tuple(missing), tuple(drift), tuple(fine), tuple(grown))


def _differences(topic: Topic, state: TopicState) -> list[Drift]:
    differences = []
    if state.partitions < topic.partitions or (state.partitions > topic.partitions and not topic.may_grow):
        differences.append(Drift(topic.name, "partitions", str(topic.partitions), str(state.partitions)))
    for setting, expected in wanted_config(topic).items():
        found = state.config.get(setting, "")
        # cleanup.policy is a set that the broker may write in another order
        if set(found.split(",")) != set(expected.split(",")):
            differences.append(Drift(topic.name, setting, expected, found))
    return differences


async def plan(settings: KafkaSettings, table: Iterable[Topic]) -> Plan:
    """Compare the table with a live cluster; raises `BrokerUnavailable`."""
    rows = tuple(table)
    async with RawAdmin(settings) as admin:
        return compare(rows, await admin.topics([row.name for row in rows]))


async def create(
    settings: KafkaSettings, missing: Iterable[Topic], replication: int | None = None
) -> dict[str, str | None]:
    """Create topics; gives the reason for each that could not be, None for the others.

    `replication` None means three copies, or one a broker where there are fewer brokers.
    """
    async with RawAdmin(settings) as admin:
        copies = replication or min(MAX_REPLICATION, await admin.brokers())
        return await admin.create(
            [TopicRequest(row.name, row.partitions, copies, wanted_config(row)) for row in missing]
        )
