"""The table against what a cluster has."""

from dataclasses import replace

from heimdall_fleet.kafka.admin import Drift, compare, wanted_config
from heimdall_fleet.kafka.driver.admin import TopicState
from heimdall_schemas.topics import Topic, Topics

TABLE = Topics("h").all()


def as_it_should_be(topic: Topic) -> TopicState:
    return TopicState(topic.partitions, 3, {**wanted_config(topic), "segment.bytes": "1"})


def test_an_empty_cluster_lacks_everything() -> None:
    plan = compare(TABLE, {})
    assert plan.missing == TABLE
    assert not plan.clean


def test_a_cluster_made_from_the_table_is_clean() -> None:
    plan = compare(TABLE, {topic.name: as_it_should_be(topic) for topic in TABLE})
    assert plan.clean
    assert plan.fine == tuple(topic.name for topic in TABLE)


def test_every_difference_is_named_with_an_advice() -> None:
    topic = next(row for row in TABLE if row.entity == "audit")
    state = replace(as_it_should_be(topic), partitions=3)
    state = replace(state, config={**state.config, "retention.ms": "1"})
    plan = compare([topic], {topic.name: state})
    assert plan.drift == (
        Drift(topic.name, "partitions", "12", "3"),
        Drift(topic.name, "retention.ms", str(topic.retention_ms), "1"),
    )
    assert plan.drift[0].advice() == f"kafka-topics --alter --topic {topic.name} --partitions 12"
    assert f"retention.ms=[{topic.retention_ms}]" in plan.drift[1].advice()
    assert not plan.clean


def test_partitions_that_were_added_are_told_and_fine() -> None:
    topic = next(row for row in TABLE if row.entity == "requests")
    plan = compare([topic], {topic.name: replace(as_it_should_be(topic), partitions=48)})
    assert plan.clean
    assert plan.fine == (topic.name,)
    assert plan.grown == (Drift(topic.name, "partitions", "24", "48"),)


def test_a_second_partition_of_a_topic_that_is_read_by_key_is_a_difference() -> None:
    topic = next(row for row in TABLE if row.entity == "control")
    plan = compare([topic], {topic.name: replace(as_it_should_be(topic), partitions=2)})
    assert plan.drift == (Drift(topic.name, "partitions", "1", "2"),)
    assert "next version" in plan.drift[0].advice()


def test_the_order_of_cleanup_policies_is_no_difference() -> None:
    topic = next(row for row in TABLE if row.cleanup_policy == "compact,delete")
    state = as_it_should_be(topic)
    assert compare(
        [topic], {topic.name: replace(state, config={**state.config, "cleanup.policy": "delete,compact"})}
    ).clean


def test_a_topic_without_a_retention_keeps_the_brokers() -> None:
    topic = next(row for row in TABLE if row.retention_ms is None)
    assert "retention.ms" not in wanted_config(topic)
