"""A record as people and programs outside Kafka can read it."""

from typing import Any

import orjson

from heimdall_fleet.kafka.records import Record
from heimdall_schemas import headers as h
from heimdall_schemas.text import readable, rfc3339

JSON_HEADERS = (h.DECISION, h.PLAN)


def decoded(record: Record) -> dict[str, Any]:
    """Place, time, headers and value; JSON is unfolded, bytes that are no text are base64 after `base64:`."""
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "time": rfc3339(record.timestamp_ms),
        "key": None if record.key is None else readable(record.key),
        "headers": {name: _header(name, value) for name, value in record.headers},
        "value": _value(record.value),
    }


def _header(name: str, value: bytes | None) -> Any:
    if value is None:
        return None
    return _value(value) if name in JSON_HEADERS else readable(value)


def _value(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return readable(value)
