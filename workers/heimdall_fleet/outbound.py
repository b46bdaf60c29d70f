"""The records that both workers write, each in one shape: replies and audit records."""

from collections.abc import Iterable

from heimdall_fleet.kafka.records import Header, Outgoing
from heimdall_schemas import headers as h
from heimdall_schemas.failure import Failure
from heimdall_schemas.order import Address
from heimdall_schemas.topics import Topics


def reply_headers(address: Address, request_id: str, trace: Iterable[Header], failure: Failure | None) -> list[Header]:
    """The correlation id exactly once, and nothing of the request but its trace."""
    headers: list[Header] = [
        (h.CORRELATION_ID, address.correlation_id),
        (h.REQUEST_ID, request_id.encode()),
        (h.CONTENT_TYPE, b"application/json"),
        *trace,
    ]
    if failure is not None:
        headers.append((h.ERROR, failure.code.value.encode()))
    return headers


def reply_record(address: Address, value: bytes, headers: list[Header], topics: Topics) -> Outgoing:
    """Never an empty value: that is a tombstone on a compacted topic.

    Keyed by the correlation id on the fleet's own topic; a caller's topic gets no key, its readers may type them.
    """
    own = address.topic == topics.replies
    return Outgoing(address.topic, value, address.correlation_id if own else None, address.partition, headers)


def audit_record(request_id: str, value: bytes, partition: int, topics: Topics) -> Outgoing:
    """`partition` is the request's, so that the decision and the outcome of a request stand on one partition."""
    return Outgoing(topics.audit, value, request_id.encode(), partition)
