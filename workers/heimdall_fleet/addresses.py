"""Where a reply may go: the rules for `reply-to` and `reply-partition`."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from heimdall_schemas import headers as h
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.order import Address
from heimdall_schemas.topics import Topics

LEGAL = re.compile(r"[a-zA-Z0-9._-]{1,249}")

PartitionCount = Callable[[str], int | None]
"""Partitions of a topic from cached metadata; None when the topic is not known to exist."""


@dataclass(frozen=True, slots=True)
class ReplyRules:
    """The default reply topic, and those a caller may name: exact names, or prefixes written `orders.*`."""

    topics: Topics
    exact: frozenset[str]
    prefixes: tuple[str, ...]

    @classmethod
    def from_patterns(cls, topics: Topics, patterns: Iterable[str]) -> "ReplyRules":
        listed = tuple(patterns)
        return cls(
            topics=topics,
            exact=frozenset(name for name in listed if not name.endswith("*")),
            prefixes=tuple(name[:-1] for name in listed if name.endswith("*")),
        )

    def allows(self, topic: str) -> bool:
        if topic == self.topics.replies:
            return True
        if topic in self.topics.internal() or topic.startswith("__") or not LEGAL.fullmatch(topic):
            return False
        return topic in self.exact or topic.startswith(self.prefixes or ("\0",))


def read_address(
    headers: Mapping[str, bytes], request_id: str, rules: ReplyRules, partitions: PartitionCount
) -> Address:
    """The reply address in a request's headers; the correlation id defaults to the request id.

    Raises Failure `caller_reply_topic` when the topic is not allowed or unknown, or the partition is out of range.
    """
    own = rules.topics.replies
    topic = (h.text(headers, h.REPLY_TO, max_length=512) or own) if h.REPLY_TO in headers else own
    if topic != own and not rules.allows(topic):
        raise Failure(
            FailureCode.CALLER_REPLY_TOPIC,
            f"replies may not go to the topic {topic[:100]!r}; allow it in kafka.reply_topics, "
            f"or leave {h.REPLY_TO} out to be answered on {own}",
        )
    partition = h.partition(headers) if h.REPLY_PARTITION in headers else None
    count = partitions(topic)
    if count is None:
        raise Failure(FailureCode.CALLER_REPLY_TOPIC, f"the reply topic {topic!r} does not exist; create it first")
    if partition is not None and partition >= count:
        raise Failure(
            FailureCode.CALLER_REPLY_TOPIC,
            f"{h.REPLY_PARTITION} is {partition}, but {topic!r} has the partitions 0 to {count - 1}",
        )
    return Address(topic, partition, headers.get(h.CORRELATION_ID) or request_id.encode())
