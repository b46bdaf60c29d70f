"""An order that cannot be read: as much of it as is needed to tell its asker."""

from collections.abc import Mapping

from heimdall_fleet.kafka.records import Record
from heimdall_schemas import headers as h
from heimdall_schemas.failure import Failure
from heimdall_schemas.ids import derived_id
from heimdall_schemas.order import Address, Order, Plan, Step


def nameless_order(record: Record, default_reply_topic: str) -> Order:
    """An order with the id and address that the record's headers hold, else ones derived from where it stands.

    Its bucket and decision are empty.
    """
    found = h.last(record.headers)
    request_id = _text(found.get(h.REQUEST_ID)) or derived_id(record.topic, str(record.partition), str(record.offset))
    topic = _text(found.get(h.REPLY_TO)) or default_reply_topic
    address = Address(topic, _partition(found), found.get(h.CORRELATION_ID) or request_id.encode())
    plan = Plan(steps=(Step("", ""),), deadline_ms=record.timestamp_ms, received_ms=record.timestamp_ms, p_chosen=0.0)
    return Order(request_id, "", {}, plan, address, b"")


def _partition(found: Mapping[str, bytes]) -> int | None:
    try:
        return h.partition(found)
    except Failure:
        return None


def _text(raw: bytes | None) -> str | None:
    try:
        return raw.decode() if raw else None
    except UnicodeDecodeError:
        return None
