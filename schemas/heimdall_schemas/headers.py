"""Header names, and reading them. Headers come as a sequence of (name, bytes); the last of a repeated name counts."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import cast

from heimdall_schemas.codec import DEFAULT_LIMITS, Limits
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.text import unix_ms_of

Headers = Sequence[tuple[str, bytes | None]]

CORRELATION_ID = "correlation-id"
REPLY_TO = "reply-to"
REPLY_PARTITION = "reply-partition"

CE_ID = "ce_id"
CE_TYPE = "ce_type"
CE_SOURCE = "ce_source"
CE_TIME = "ce_time"
CE_EXPIRY = "ce_expirytime"
CE_SPECVERSION = "ce_specversion"
TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
CONTENT_TYPE = "content-type"

TTL_MS = "heimdall-ttl-ms"
REQUEST_ID = "heimdall-request-id"
BUCKET = "heimdall-bucket"
DECISION = "heimdall-decision"
PLAN = "heimdall-plan"
SHADOW = "heimdall-shadow"
ERROR = "heimdall-error"
SEQUENCE = "heimdall-sequence"
FINAL = "heimdall-final"

DLQ_REASON = "heimdall-dlq-reason"
DLQ_ERROR = "heimdall-dlq-error"
DLQ_ATTEMPTS = "heimdall-dlq-attempts"
DLQ_FIRST_FAILURE = "heimdall-dlq-first-failure"
DLQ_WORKER = "heimdall-dlq-worker"
DLQ_VERSION = "heimdall-dlq-version"
DLQ_TOPIC = "heimdall-dlq-original-topic"
DLQ_PARTITION = "heimdall-dlq-original-partition"
DLQ_OFFSET = "heimdall-dlq-original-offset"
DLQ_TIMESTAMP = "heimdall-dlq-original-timestamp"
DLQ_GROUP = "heimdall-dlq-original-group"
DLQ_CUT = "heimdall-dlq-original-bytes"
DLQ_DAMAGE = "heimdall-dlq-damage"

FORBIDDEN = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization", "cookie"})
"""Headers that are credentials by name: never copied to any topic."""


def last(headers: Headers) -> Mapping[str, bytes]:
    """Name to value, the last of a repeated name; names with no value are left out."""
    found = dict(headers)
    if None in found.values():
        return {name: value for name, value in headers if value is not None}
    return cast("dict[str, bytes]", found)


def without(headers: Headers, names: Iterable[str]) -> list[tuple[str, bytes]]:
    """The headers that may travel on: not one of `names`, not a credential, not empty."""
    dropped = FORBIDDEN.union(names)
    return [(name, value) for name, value in headers if value is not None and name.lower() not in dropped]


def check(headers: Headers, limits: Limits = DEFAULT_LIMITS) -> None:
    """Raises Failure `caller_too_large` when there are more or larger headers than `limits` allow."""
    if len(headers) > limits.max_headers:
        raise Failure(
            FailureCode.CALLER_TOO_LARGE,
            f"{len(headers)} headers, the limit is {limits.max_headers} (limits.max_headers)",
        )
    size = sum([len(name) + len(value or b"") for name, value in headers])
    if size > limits.max_header_bytes:
        raise Failure(
            FailureCode.CALLER_TOO_LARGE,
            f"{size:,} bytes of headers, the limit is {limits.max_header_bytes:,} (limits.max_header_bytes)",
        )


def text(headers: Mapping[str, bytes], name: str, max_length: int = 1024) -> str | None:
    """A header as text, or None when it is absent. Raises Failure when it is not UTF-8 or too long."""
    raw = headers.get(name)
    if raw is None:
        return None
    if len(raw) > max_length:
        raise Failure(FailureCode.CALLER_BAD_REQUEST, f"the header {name} has {len(raw)} bytes, at most {max_length}")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Failure(FailureCode.CALLER_BAD_REQUEST, f"the header {name} is not UTF-8") from error


def trace(headers: Mapping[str, bytes]) -> tuple[tuple[str, bytes], ...]:
    """What names the trace that a record belongs to; it travels on with everything the record leads to."""
    if TRACEPARENT not in headers and TRACESTATE not in headers:
        return ()
    return tuple((name, headers[name]) for name in (TRACEPARENT, TRACESTATE) if name in headers)


def partition(headers: Mapping[str, bytes], name: str = REPLY_PARTITION) -> int | None:
    """A partition number: ASCII digits, or four bytes big-endian. Raises Failure for anything else."""
    raw = headers.get(name)
    if raw is None:
        return None
    if raw.isdigit() and len(raw) <= 6:
        return int(raw)
    if len(raw) == 4:
        return int.from_bytes(raw, "big")
    raise Failure(FailureCode.CALLER_REPLY_TOPIC, f"the header {name} is neither digits nor four bytes big-endian")


def expiry_ms(headers: Mapping[str, bytes], sent_at_ms: int) -> int | None:
    """When the record expires by its headers: `ce_expirytime` (RFC 3339), else `heimdall-ttl-ms` after it was sent."""
    if CE_EXPIRY not in headers and TTL_MS not in headers:
        return None
    moment = text(headers, CE_EXPIRY, 64)
    if moment is not None:
        return _rfc3339_ms(moment)
    span = text(headers, TTL_MS, 16)
    if span is None:
        return None
    if not (span.isascii() and span.isdigit()):
        raise Failure(FailureCode.CALLER_BAD_REQUEST, f"the header {TTL_MS} is not a number of milliseconds")
    return sent_at_ms + int(span)


def _rfc3339_ms(moment: str) -> int:
    try:
        read = datetime.fromisoformat(moment)
    except ValueError:
        read = None
    if read is None or read.tzinfo is None:
        raise Failure(
            FailureCode.CALLER_BAD_REQUEST,
            f"the header {CE_EXPIRY} is not an RFC 3339 time with a zone, such as 2026-11-21T12:00:30Z",
        )
    return unix_ms_of(read)
