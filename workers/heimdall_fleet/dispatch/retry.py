"""Resting: an order that cannot be asked for a while goes to a retry topic and is brought back when it is due."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from heimdall_fleet.dispatch.clock import Clock
from heimdall_fleet.dispatch.run import Run
from heimdall_fleet.dlq import refuse_damaged
from heimdall_fleet.kafka.records import Header, Outgoing, Producer, Record
from heimdall_schemas import headers as h
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.topics import Delay, Topics

DUE_MS = "heimdall-retry-due-ms"
SOURCE_TOPIC = "heimdall-retry-source-topic"
SOURCE_PARTITION = "heimdall-retry-source-partition"
ATTEMPTS = "heimdall-attempts"
_OWN = (DUE_MS, SOURCE_TOPIC, SOURCE_PARTITION, ATTEMPTS)
PARTITIONS = 12


def step_for(delay_ms: float, left_ms: float) -> Delay:
    """The longest step that is neither longer than the pause asked for nor than the time left; else the shortest."""
    fitting = [step for step in Delay if step.span.total_seconds() * 1_000 <= min(delay_ms, left_ms)]
    return fitting[-1] if fitting else Delay.SHORT


def resting(record: Record, run: Run, delay: Delay, topics: Topics, unix_ms: int) -> Outgoing:
    """The order's own record for a retry topic, with what was tried so far and where it shall come back to."""
    due_ms = min(unix_ms + int(delay.span.total_seconds() * 1_000), run.order.plan.deadline_ms)
    headers: list[Header] = [
        *h.without(record.headers, _OWN),
        (DUE_MS, str(due_ms).encode()),
        (SOURCE_TOPIC, record.topic.encode()),
        (SOURCE_PARTITION, str(record.partition).encode()),
    ]
    if records := run.attempt_records():
        headers.append((ATTEMPTS, orjson.dumps(records)))
    return Outgoing(
        topic=topics.retry(delay),
        value=record.value,
        key=record.key,
        partition=record.partition % PARTITIONS,
        headers=headers,
    )


def earlier_attempts(headers: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """What was tried before the order rested. Raises Failure `heimdall_internal` when the header is unreadable."""
    if ATTEMPTS not in headers:
        return []
    try:
        return list(orjson.loads(headers[ATTEMPTS]))
    except (TypeError, ValueError) as error:
        raise Failure(FailureCode.HEIMDALL_INTERNAL, f"the header {ATTEMPTS} cannot be read: {error}") from error


class RetryHandler:
    """The intake handler of the retry topics. A topic has one step, so its records come due in their order.

    `refuse`: what becomes of a record that does not rest.
    """

    def __init__(self, producer: Producer, clock: Clock, refuse: Callable[[Record, Failure], Awaitable[None]]) -> None:
        self._producer = producer
        self._clock = clock
        self._refuse = refuse

    async def handle(self, record: Record) -> None:
        """Wait until the order is due and send it back; returns when the broker has it. Raises KafkaFailure."""
        try:
            due_ms, back = returning(record)
        except Failure as failure:
            await self._refuse(record, failure)
            return
        await asyncio.sleep(max(0, due_ms - self._clock.unix_ms()) / 1_000)
        await self._producer.send(back)


def returning(record: Record) -> tuple[int, Outgoing]:
    """When the order is due (Unix milliseconds), and the record for the topic it came from.

    Raises Failure `heimdall_internal` when a header that `resting` writes is missing, `heimdall_unreadable` for a batch
    that cannot be decoded.
    """
    refuse_damaged(record)
    found = h.last(record.headers)
    try:
        due_ms, partition = int(found[DUE_MS]), int(found[SOURCE_PARTITION])
        topic = found[SOURCE_TOPIC].decode()
    except (KeyError, ValueError) as error:
        raise Failure(
            FailureCode.HEIMDALL_INTERNAL, f"this record does not rest: {error}; only dispatch writes to retry topics"
        ) from error
    kept = h.without(record.headers, (DUE_MS, SOURCE_TOPIC, SOURCE_PARTITION))
    return due_ms, Outgoing(topic=topic, value=record.value, key=record.key, partition=partition, headers=kept)
