"""Dead letters: a record that cannot be read or gave up, with the reason in its headers. Never a stack trace."""

from dataclasses import dataclass

from heimdall_fleet import __version__
from heimdall_fleet.kafka.records import DamagedBatch, Outgoing, Record
from heimdall_schemas import headers as h
from heimdall_schemas.failure import Failure, FailureCode

MAX_ERROR_CHARS = 500


@dataclass(frozen=True, slots=True)
class Undertaker:
    """Writes dead letters for one worker. `max_value_bytes`: a longer value is cut, so that the letter itself fits."""

    topic: str
    worker: str
    group: str
    max_value_bytes: int

    def letter(self, record: Record, failure: Failure, request_id: str, *, now_ms: int, attempts: int = 0) -> Outgoing:
        """The dead letter of `record`; the value is the record's own bytes, the headers say what happened."""
        value = record.value or b""
        facts: list[tuple[str, bytes]] = [
            (h.DLQ_REASON, failure.code.value.encode()),
            (h.DLQ_ERROR, failure.message[:MAX_ERROR_CHARS].encode("utf-8", "replace")),
            (h.DLQ_ATTEMPTS, str(attempts).encode()),
            (h.DLQ_FIRST_FAILURE, str(now_ms).encode()),
            (h.DLQ_WORKER, self.worker.encode()),
            (h.DLQ_VERSION, __version__.encode()),
            (h.DLQ_TOPIC, record.topic.encode()),
            (h.DLQ_PARTITION, str(record.partition).encode()),
            (h.DLQ_OFFSET, str(record.offset).encode()),
            (h.DLQ_TIMESTAMP, str(record.timestamp_ms).encode()),
            (h.DLQ_GROUP, self.group.encode()),
            (h.REQUEST_ID, request_id.encode()),
        ]
        if len(value) > self.max_value_bytes:
            facts.append((h.DLQ_CUT, str(len(value)).encode()))
            value = value[: self.max_value_bytes]
        carried = h.without(record.headers, [name for name, _ in facts])[:MAX_CARRIED]
        return Outgoing(
            topic=self.topic,
            partition=None,
            key=request_id.encode(),
            value=value,
            headers=(*_bounded(carried), *facts),
            timestamp_ms=None,
        )


def refuse_damaged(record: Record) -> None:
    """Raises Failure `heimdall_unreadable` for what stands in for records that nobody can decode."""
    if isinstance(record, DamagedBatch):
        raise Failure(FailureCode.HEIMDALL_UNREADABLE, record.why)


MAX_CARRIED = 40
MAX_CARRIED_BYTES = 8 * 1024


def _bounded(headers: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """The first headers that fit: a dead letter with a megabyte of headers could not be written."""
    kept: list[tuple[str, bytes]] = []
    size = 0
    for name, value in headers:
        size += len(name) + len(value)
        if size > MAX_CARRIED_BYTES:
            break
        kept.append((name, value))
    return kept
