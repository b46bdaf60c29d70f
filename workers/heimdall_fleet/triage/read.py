"""From a record to a request that can be decided, or to the failure that says why not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from heimdall_fleet.addresses import PartitionCount, ReplyRules, read_address
from heimdall_fleet.dlq import refuse_damaged
from heimdall_fleet.kafka.records import Record
from heimdall_schemas import headers as h
from heimdall_schemas.codec import Limits
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.ids import derived_id
from heimdall_schemas.order import Address
from heimdall_schemas.request import Options, deadline_ms, read_request
from heimdall_schemas.text import rfc3339


@dataclass(frozen=True, slots=True)
class ReadRules:
    limits: Limits
    replies: ReplyRules
    default_ttl_ms: int


class Incoming(NamedTuple):
    """A request that passed validation, with everything its headers said."""

    record: Record
    options: Options
    body: dict[str, Any]
    request_id: str
    address: Address
    deadline_ms: int
    trace: tuple[tuple[str, bytes], ...]

    @property
    def correlation_id(self) -> bytes:
        return self.address.correlation_id


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record that is no request. `address` is None where not even a reply address could be read."""

    record: Record
    request_id: str
    address: Address | None
    failure: Failure

    @property
    def correlation_id(self) -> bytes:
        """What its asker looks for it by, also where nowhere can be answered to."""
        if self.address is not None:
            return self.address.correlation_id
        return h.last(self.record.headers).get(h.CORRELATION_ID) or self.request_id.encode()


def read(record: Record, rules: ReadRules, partitions: PartitionCount) -> Incoming | Unreadable:
    """Header limits, then ids and address, then the body: what can be known of a bad record is known when it fails."""
    found = h.last(record.headers)
    request_id = _header_id(found) or fallback_id(record)
    address: Address | None = None
    try:
        refuse_damaged(record)
        address = read_address(found, request_id, rules.replies, partitions)
        h.check(record.headers, rules.limits)
        options, body = read_request(record.value, rules.limits)
        named = options.request_id
        if named is not None and h.CE_ID not in found:
            address = _renamed(address, found, named)
            request_id = named
        expiry_ms = h.expiry_ms(found, record.timestamp_ms)
        expires_ms = deadline_ms(options, record.timestamp_ms, expiry_ms, rules.default_ttl_ms)
        return Incoming(record, options, body, request_id, address, expires_ms, h.trace(found))
    except Failure as failure:
        return Unreadable(record, request_id, address, failure)


def fallback_id(record: Record) -> str:
    """The id of a request that names none: derived from where it stands, so that a second reading gives it again."""
    return derived_id(record.topic, str(record.partition), str(record.offset), str(record.timestamp_ms))


def _header_id(found: Mapping[str, bytes]) -> str | None:
    raw = found.get(h.CE_ID)
    if not raw or len(raw) > 128 or not raw.isascii():
        return None
    text = raw.decode()
    return text if text.isprintable() else None


def _renamed(address: Address, found: Mapping[str, bytes], request_id: str) -> Address:
    """The correlation id defaults to the request id, also when that stands in the body."""
    if found.get(h.CORRELATION_ID):
        return address
    return Address(address.topic, address.partition, request_id.encode())


def expired(incoming: Incoming, now_ms: int) -> Failure | None:
    """The failure of a request whose deadline has passed before it was decided."""
    if now_ms < incoming.deadline_ms:
        return None
    late_ms = now_ms - incoming.deadline_ms
    return Failure(
        FailureCode.POLICY_EXPIRED,
        f"the deadline passed {late_ms:,} ms before the request was read (its record was written at "
        f"{rfc3339(incoming.record.timestamp_ms)}); give it more time, or add triage workers",
    )
