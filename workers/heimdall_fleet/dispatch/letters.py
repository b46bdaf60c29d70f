"""Dead letters read back: what they say, sending them again, and the marks that say what became of them.

A topic is only ever written to, so a letter that is settled is followed by a mark on its own partition:

    heimdall-dlq-settled    redriven | discarded
    heimdall-dlq-letter     the offset of the letter
    value                   JSON: settled, letter, request_id, by, why, time

Readers of the topic tell a mark by its first header and pass it over. Pure: reading and writing are the caller's.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from heimdall_fleet.dispatch.retry import ATTEMPTS, DUE_MS, SOURCE_PARTITION, SOURCE_TOPIC
from heimdall_fleet.kafka.records import Header, Outgoing, Record
from heimdall_schemas import headers as h
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.text import rfc3339
from heimdall_schemas.topics import Bucket, Delay, Topics

SETTLED = "heimdall-dlq-settled"
LETTER = "heimdall-dlq-letter"
REDRIVEN = "heimdall-redriven"
"""How often an operator has sent the record again."""

_RESET = (DUE_MS, SOURCE_TOPIC, SOURCE_PARTITION, ATTEMPTS, REDRIVEN, h.PLAN, h.CE_EXPIRY)
_ORDER = (h.REQUEST_ID, h.BUCKET, h.DECISION, h.PLAN, h.REPLY_TO, h.CORRELATION_ID)
_OWN_PREFIX = "heimdall-dlq-"


class Letter(NamedTuple):
    """One dead letter. `topic` and `partition` are where the record failed; `record` is the letter itself."""

    request_id: str
    reason: str
    error: str
    topic: str
    partition: int
    offset: int
    died_ms: int
    tenant: str | None
    record: Record

    @property
    def place(self) -> tuple[int, int]:
        return self.record.partition, self.record.offset


class Wanted(NamedTuple):
    """Which letters: all conditions must hold, an empty one always does. A `*` ends a reason: `provider_*`."""

    ids: frozenset[str] = frozenset()
    reasons: tuple[str, ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None
    tenant: str | None = None

    def takes(self, letter: Letter) -> bool:
        return (
            (not self.ids or letter.request_id in self.ids)
            and (not self.reasons or any(_matches(reason, letter.reason) for reason in self.reasons))
            and (self.since_ms is None or letter.died_ms >= self.since_ms)
            and (self.until_ms is None or letter.died_ms < self.until_ms)
            and (self.tenant is None or letter.tenant == self.tenant)
        )


class OpenLetters:
    """The letters that are wanted and not settled, of which `at_most` are held at any time.

    Show it the records of the topic, each partition in its order. `more` counts what found no room: settle or narrow
    what is there, and look again.
    """

    def __init__(self, wanted: Wanted, at_most: int) -> None:
        self._wanted = wanted
        self._at_most = at_most
        self._found: dict[tuple[int, int], Letter] = {}
        self._left_out: set[tuple[int, int]] = set()

    def see(self, record: Record) -> None:
        headers = h.last(record.headers)
        if SETTLED in headers:
            place = (record.partition, _number(headers, LETTER, -1))
            self._found.pop(place, None)
            self._left_out.discard(place)
            return
        letter = read_letter(record)
        if not self._wanted.takes(letter):
            return
        if len(self._found) < self._at_most:
            self._found[letter.place] = letter
        else:
            self._left_out.add(letter.place)

    @property
    def more(self) -> int:
        return len(self._left_out)

    def oldest_first(self) -> list[Letter]:
        return sorted(self._found.values(), key=lambda each: each.died_ms)


def read_letter(record: Record) -> Letter:
    """What a letter says; what it does not say is empty, so that every letter can be shown and discarded."""
    headers = h.last(record.headers)
    return Letter(
        request_id=_text(headers, h.REQUEST_ID) or (record.key or b"").decode("utf-8", "replace"),
        reason=_text(headers, h.DLQ_REASON),
        error=_text(headers, h.DLQ_ERROR),
        topic=_text(headers, h.DLQ_TOPIC),
        partition=_number(headers, h.DLQ_PARTITION, -1),
        offset=_number(headers, h.DLQ_OFFSET, -1),
        died_ms=_number(headers, h.DLQ_FIRST_FAILURE, record.timestamp_ms),
        tenant=_tenant(headers, record.value),
        record=record,
    )


def redriven(letter: Letter, topics: Topics, now_ms: int) -> Outgoing:
    """The letter's record for the topic and partition it failed on: the same id, no attempts, the same span of time.

    Raises Failure: `caller_too_large` for a letter that holds only part of its record, `heimdall_unreadable` for one that
    holds a batch nobody can decode, `heimdall_internal` for one whose origin no worker reads. The ceiling of `max_cost_usd`
    stays; what earlier attempts cost is not counted again.
    """
    headers = h.last(letter.record.headers)
    if h.DLQ_CUT in headers:
        raise Failure(
            FailureCode.CALLER_TOO_LARGE,
            f"the letter holds only the first bytes of {_number(headers, h.DLQ_CUT, 0):,}; its sender must send it again",
        )
    if h.DLQ_DAMAGE in headers:
        raise Failure(FailureCode.HEIMDALL_UNREADABLE, _text(headers, h.DLQ_DAMAGE))
    topic, partition = _origin(letter, headers, topics)
    kept = [(name, value) for name, value in h.without(letter.record.headers, _RESET) if not _is_own(name)]
    kept.append((REDRIVEN, str(times_redriven(headers) + 1).encode()))
    if topic == topics.requests:
        kept = [each for each in kept if each[0] != h.REQUEST_ID]
        kept += _request_headers(letter, headers, now_ms)
    else:
        kept.append((h.PLAN, _fresh_plan(headers, now_ms)))
    return Outgoing(topic, letter.record.value, letter.record.key, partition, kept)


def mark(letter: Letter, settled: str, facts: Mapping[str, Any], topics: Topics, now_ms: int) -> Outgoing:
    """The record that says what became of a letter. `facts`: who did it (`by`) and `why`."""
    value = {
        "settled": settled,
        "letter": letter.record.offset,
        "request_id": letter.request_id,
        **facts,
        "time": rfc3339(now_ms),
    }
    headers: list[Header] = [
        (SETTLED, settled.encode()),
        (LETTER, str(letter.record.offset).encode()),
        (h.REQUEST_ID, letter.request_id.encode()),
    ]
    return Outgoing(topics.dlq, orjson.dumps(value), letter.record.key, letter.record.partition, headers)


def told(letter: Letter) -> dict[str, Any]:
    """A letter as plain values, without the request's own text."""
    return {
        "request_id": letter.request_id,
        "reason": letter.reason,
        "error": letter.error,
        "time": rfc3339(letter.died_ms),
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "tenant": letter.tenant,
        "bytes": len(letter.record.value or b""),
        "redriven": times_redriven(h.last(letter.record.headers)),
        "letter": {"partition": letter.record.partition, "offset": letter.record.offset},
    }


def times_redriven(headers: Mapping[str, bytes]) -> int:
    """How often the record was sent again; 0 for a record of the ordinary kind."""
    value = headers.get(REDRIVEN, b"")
    return int(value) if value.isdigit() and len(value) < 9 else 0


def _origin(letter: Letter, headers: Mapping[str, bytes], topics: Topics) -> tuple[str, int]:
    """Where the record goes back to; one that failed while it rested goes to where it would have gone."""
    topic, partition = letter.topic, letter.partition
    if topic in {topics.retry(delay) for delay in Delay} and SOURCE_TOPIC in headers:
        topic, partition = _text(headers, SOURCE_TOPIC), _number(headers, SOURCE_PARTITION, -1)
    orders = {topics.dispatch(bucket) for bucket in Bucket}
    if partition < 0 or topic not in {topics.requests, *orders}:
        raise Failure(FailureCode.HEIMDALL_INTERNAL, f"no worker reads {topic!r}; the letter can only be discarded")
    missing = [name for name in _ORDER if name not in headers] if topic in orders else []
    if missing:
        raise Failure(
            FailureCode.HEIMDALL_INTERNAL,
            f"the letter lost {', '.join(missing)}, without which it is no order; its sender must send it again",
        )
    return topic, partition


def _request_headers(letter: Letter, headers: Mapping[str, bytes], now_ms: int) -> Iterator[tuple[str, bytes]]:
    """What makes it the same request again: its id, and as much time as it had."""
    if h.CE_ID not in headers:
        yield h.CE_ID, letter.request_id.encode()
    sent_ms = _number(headers, h.DLQ_TIMESTAMP, now_ms)
    try:
        expiry_ms = h.expiry_ms({h.CE_EXPIRY: headers[h.CE_EXPIRY]}, sent_ms) if h.CE_EXPIRY in headers else None
    except Failure:
        yield h.CE_EXPIRY, headers[h.CE_EXPIRY]
        return
    if expiry_ms is not None:
        yield h.CE_EXPIRY, rfc3339(now_ms + max(0, expiry_ms - sent_ms)).encode()


def _fresh_plan(headers: Mapping[str, bytes], now_ms: int) -> bytes:
    """The decided plan with the time it had, counted from now, and no attempts before."""
    try:
        plan = orjson.loads(headers[h.PLAN])
        span_ms = plan["deadline_ms"] - plan["received_ms"]
        return orjson.dumps(
            {**plan, "received_ms": now_ms, "deadline_ms": now_ms + max(0, span_ms), "attempts_before": 0}
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Failure(FailureCode.HEIMDALL_INTERNAL, f"the letter's plan cannot be read: {error}") from error


def _tenant(headers: Mapping[str, bytes], value: bytes | None) -> str | None:
    """From the plan that triage made, else from the body's own options."""
    try:
        if h.PLAN in headers:
            tenant = orjson.loads(headers[h.PLAN]).get("tenant")
        else:
            tenant = orjson.loads(value or b"").get("heimdall", {}).get("tenant")
    except (AttributeError, ValueError):
        return None
    return tenant if isinstance(tenant, str) else None


def _matches(wanted: str, reason: str) -> bool:
    return reason.startswith(wanted[:-1]) if wanted.endswith("*") else reason == wanted


def _is_own(name: str) -> bool:
    return name.startswith(_OWN_PREFIX)


def _text(headers: Mapping[str, bytes], name: str) -> str:
    return headers.get(name, b"").decode("utf-8", "replace")


def _number(headers: Mapping[str, bytes], name: str, default: int) -> int:
    text = headers.get(name, b"")
    return int(text) if text.isdigit() else default
