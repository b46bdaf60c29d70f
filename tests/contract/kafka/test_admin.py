"""The table against a real cluster; the embedded broker has no admin requests."""

import time
from collections.abc import Callable

import pytest
from tests.brokers.clusters import ApacheCluster, Cluster

from heimdall_fleet.kafka.admin import Drift, create, plan
from heimdall_fleet.kafka.driver.admin import RawAdmin, TopicRequest
from heimdall_fleet.kafka.driver.connection import preflight
from heimdall_fleet.kafka.errors import BrokerUnavailable
from heimdall_fleet.kafka.settings import KafkaSettings
from heimdall_schemas.topics import Topics

Unique = Callable[[str], str]


@pytest.mark.kafka
async def test_topics_are_planned_created_and_then_as_the_table_says(
    apache_broker: ApacheCluster, unique: Unique
) -> None:
    table = Topics(unique("fleet")).all()
    before = await plan(apache_broker.settings(), table)
    assert before.missing == table
    assert not before.clean
    assert set((await create(apache_broker.settings(), before.missing)).values()) == {None}
    after = await plan(apache_broker.settings(), table)
    assert after.clean
    assert set(after.fine) == {topic.name for topic in table}
    assert set((await create(apache_broker.settings(), table)).values()) == {None}  # nothing breaks a second time


@pytest.mark.kafka
async def test_a_topic_made_by_hand_shows_as_drift(apache_broker: ApacheCluster, unique: Unique) -> None:
    topics = Topics(unique("fleet"))
    await apache_broker.create_topic(topics.audit, 3, {"retention.ms": "1000"})
    found = await plan(apache_broker.settings(), [row for row in topics.all() if row.name == topics.audit])
    assert found.missing == ()
    assert Drift(topics.audit, "partitions", "12", "3") in found.drift
    assert Drift(topics.audit, "retention.ms", str(90 * 86_400_000), "1000") in found.drift


@pytest.mark.kafka
async def test_a_topic_that_cannot_be_created_says_why(apache_broker: ApacheCluster) -> None:
    async with RawAdmin(apache_broker.settings()) as admin:
        reasons = await admin.create([TopicRequest("not a name", 1, 1, {}), TopicRequest("copies", 1, 5, {})])
    assert "InvalidTopic" in str(reasons["not a name"])
    assert "InvalidReplicationFactor" in str(reasons["copies"])


@pytest.mark.kafka
async def test_a_group_nobody_has_seen_has_no_offsets(apache_broker: ApacheCluster, unique: Unique) -> None:
    async with RawAdmin(apache_broker.settings()) as admin:
        assert await admin.group_offsets(unique("nobody")) == {}


async def test_a_preflight_passes_where_a_broker_answers(cluster: Cluster) -> None:
    started = time.monotonic()
    await preflight(cluster.settings(), timeout_s=5.0)
    assert time.monotonic() - started < 5.0


async def test_a_preflight_names_the_cause_where_nobody_answers() -> None:
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1: .*refused|Connect call failed"):
        await preflight(KafkaSettings(bootstrap_servers="127.0.0.1:1"))
