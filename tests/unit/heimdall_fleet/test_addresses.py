import pytest

from heimdall_fleet.addresses import ReplyRules, read_address
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.topics import Topics

TOPICS = Topics("heimdall")
RULES = ReplyRules.from_patterns(TOPICS, ["billing.answers", "orders.*"])
COUNTS = {TOPICS.replies: 24, "billing.answers": 3, "orders.eu": 1, TOPICS.requests: 24}


def address(**headers: bytes) -> tuple[str, int | None, bytes]:
    found = {name.replace("_", "-"): value for name, value in headers.items()}
    where = read_address(found, "request-1", RULES, COUNTS.get)
    return where.topic, where.partition, where.correlation_id


def test_without_headers_a_request_is_answered_on_the_fleets_topic_under_its_own_id() -> None:
    assert address() == (TOPICS.replies, None, b"request-1")


def test_the_correlation_id_is_opaque_bytes() -> None:
    assert address(correlation_id=b"\xff\x00\x80")[2] == b"\xff\x00\x80"


@pytest.mark.parametrize("topic", [b"billing.answers", b"orders.eu"])
def test_a_listed_topic_or_prefix_may_be_named(topic: bytes) -> None:
    assert address(reply_to=topic)[0] == topic.decode()


@pytest.mark.parametrize("partition", [b"2", b"\x00\x00\x00\x02"])
def test_a_partition_is_digits_or_four_bytes(partition: bytes) -> None:
    assert address(reply_to=b"billing.answers", reply_partition=partition)[1] == 2


@pytest.mark.parametrize(
    "topic",
    [
        TOPICS.requests.encode(),
        TOPICS.audit.encode(),
        b"__consumer_offsets",
        b"somebody.else",
        b"orders",
        b"billing.answers.v2",
        b"x" * 300,
        b"orders.eu\r\nx",
        b".*",
        b"orders.\xff",
    ],
)
def test_no_other_topic_may_be_named(topic: bytes) -> None:
    with pytest.raises(Failure) as refused:
        address(reply_to=topic)
    assert refused.value.code in (FailureCode.CALLER_REPLY_TOPIC, FailureCode.CALLER_BAD_REQUEST)


def test_an_internal_topic_is_refused_even_where_a_pattern_covers_it() -> None:
    rules = ReplyRules.from_patterns(TOPICS, ["heimdall.*"])
    assert rules.allows(TOPICS.replies)
    assert not rules.allows(TOPICS.audit)
    assert not rules.allows(TOPICS.dlq)


def test_a_topic_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(Failure, match=r"orders\.us.* does not exist"):
        address(reply_to=b"orders.us")


@pytest.mark.parametrize("partition", [b"3", b"-1", b"abc", b"\x00\x00\x01\x00", b"", b"99999999"])
def test_a_partition_out_of_range_is_refused(partition: bytes) -> None:
    with pytest.raises(Failure) as refused:
        address(reply_to=b"billing.answers", reply_partition=partition)
    assert refused.value.code is FailureCode.CALLER_REPLY_TOPIC
