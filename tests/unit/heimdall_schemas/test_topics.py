import pytest

from heimdall_schemas.topics import Bucket, Delay, Topics

TABLE = {topic.entity: topic for topic in Topics("acme.heimdall").all()}


def test_the_table_has_each_topic_once_in_the_order_a_request_meets_them() -> None:
    assert list(TABLE) == [
        "requests",
        "dispatch.cheap",
        "dispatch.mid",
        "dispatch.hard",
        "replies",
        "audit",
        "feedback",
        "retry.10s",
        "retry.60s",
        "retry.600s",
        "dlq",
        "cancel",
        "control",
    ]


def test_names_are_prefix_entity_and_major_version() -> None:
    topics = Topics("acme.heimdall")
    named = {
        topics.requests,
        *(topics.dispatch(bucket) for bucket in Bucket),
        topics.replies,
        topics.audit,
        topics.feedback,
        *(topics.retry(delay) for delay in Delay),
        topics.dlq,
        topics.cancel,
        topics.control,
    }
    assert named == {topic.name for topic in TABLE.values()}
    assert topics.dispatch(Bucket.MID) == "acme.heimdall.dispatch.mid.v1"


def test_orders_stay_on_the_partition_number_of_their_request() -> None:
    assert {TABLE[f"dispatch.{bucket}"].partitions for bucket in Bucket} == {TABLE["requests"].partitions}


@pytest.mark.parametrize("entity", ["cancel", "control"])
def test_topics_that_are_read_whole_have_one_partition_and_are_compacted(entity: str) -> None:
    topic = TABLE[entity]
    assert (topic.partitions, topic.cleanup_policy, topic.retention_ms) == (1, "compact", None)


def test_replies_are_compacted_and_expire() -> None:
    assert TABLE["replies"].cleanup_policy == "compact,delete"
    assert TABLE["replies"].retention_ms == 48 * 3_600_000


def test_only_the_replies_topic_may_be_written_to_on_behalf_of_a_caller() -> None:
    topics = Topics("acme.heimdall")
    assert topics.replies not in topics.internal()
    assert len(topics.internal()) == len(TABLE) - 1


@pytest.mark.parametrize(("delay", "seconds"), [(Delay.SHORT, 10), (Delay.MEDIUM, 60), (Delay.LONG, 600)])
def test_a_retry_step_rests_as_long_as_its_name_says(delay: Delay, seconds: int) -> None:
    assert delay.span.total_seconds() == seconds
    assert f"retry.{seconds}s" in TABLE
