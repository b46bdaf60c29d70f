"""Publishing an end, in the order that loses nothing: reply acknowledged → audit acknowledged → done."""

import asyncio
import logging
from typing import Any
from zlib import crc32

from heimdall_fleet.dispatch.ending.endings import failed
from heimdall_fleet.dispatch.ending.outcome import superseded_value
from heimdall_fleet.dispatch.ending.reply import chunk_record, final_record
from heimdall_fleet.dispatch.room import Room
from heimdall_fleet.dispatch.run import Ending, Run
from heimdall_fleet.kafka.errors import DeliveryRefused, KafkaFailure, RecordTooLarge, UnknownPartition, UnknownTopic
from heimdall_fleet.kafka.records import Outgoing
from heimdall_fleet.outbound import audit_record, reply_headers, reply_record
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.order import Address, Order

log = logging.getLogger(__name__)


async def publish(run: Run, ending: Ending, room: Room, partition: int) -> Ending:
    """Returns, with what was really published, when the broker has both records; only then may the offset be committed.

    Nobody is told of a shadow: of it there is the audit record alone. Where another worker brought the order to its end
    while this one called too, its calls have a record of their own.
    `partition` is that of the order, which is that of the request; the audit record goes beside the decision's.
    Raises KafkaFailure when the broker did not confirm; publishing again is safe.
    """
    if run.order.shadow is None:
        try:
            await publish_reply(run, ending, room)
        except (RecordTooLarge, DeliveryRefused) as error:
            ending = failed(run, _refused(run.order.address, error), room)
            await _publish_refusal(run, ending, room)
    place = partition % room.settings.audit_partitions
    await room.producer.send(audit_record(run.audit_id, ending.outcome, place, room.topics))
    if ending.stored and run.attempts:
        wasted = superseded_value(run, ending, room)
        await room.producer.send(audit_record(run.audit_id, wasted, place, room.topics))
    return ending


async def publish_reply(run: Run, ending: Ending, room: Room) -> None:
    """The reply alone. A reply topic that is gone since triage saw it is replaced by the fleet's own.

    Chunks that the broker did not confirm are no loss: the last record of a stream is the whole reply.
    """
    if run.unconfirmed:
        await asyncio.gather(*run.unconfirmed, return_exceptions=True)
        run.unconfirmed.clear()
    try:
        await room.producer.send(_record(run, ending, await _address(run.order, room), room))
    except (UnknownTopic, UnknownPartition):
        await _to_own_topic(run, ending, room)


async def _publish_refusal(run: Run, ending: Ending, room: Room) -> None:
    """The short error reply, on the asker's topic if the broker takes it there, else on the fleet's own."""
    try:
        await publish_reply(run, ending, room)
    except DeliveryRefused:
        await _to_own_topic(run, ending, room)


async def _to_own_topic(run: Run, ending: Ending, room: Room) -> None:
    own = Address(room.topics.replies, None, run.order.address.correlation_id)
    await room.producer.send(_record(run, ending, own, room))


async def publish_chunk(run: Run, room: Room, model_id: str, chunk: dict[str, Any]) -> None:
    """One chunk, in order. It is not waited for, and losing it is no failure: the last record is the whole reply."""
    try:
        address = await _address(run.order, room)
        record = chunk_record(run.order, address, {**chunk, "model": model_id}, run.chunks, room.topics)
        run.unconfirmed.append(room.producer.send(record))
    except KafkaFailure as error:
        facts = {"action": "chunk_not_sent", "request_id": run.request_id}
        log.warning("a stream chunk was not sent: %s", error, extra=facts)
    run.chunks += 1


def _refused(address: Address, error: KafkaFailure) -> Failure:
    return Failure(
        FailureCode.HEIMDALL_REPLY_TOO_LARGE,
        f"the broker refused the reply on {address.topic}: {error}; "
        "give that topic the max.message.bytes of the fleet's own reply topic, or ask for fewer max_tokens",
    )


def _record(run: Run, ending: Ending, address: Address, room: Room) -> Outgoing:
    order = run.order
    headers = reply_headers(order.address, order.request_id, order.trace, ending.failure)
    record = reply_record(address, ending.reply, headers, room.topics)
    return final_record(record, run.chunks) if run.stream else record


async def _address(order: Order, room: Room) -> Address:
    """The address with a partition where records without a key would otherwise lose their order."""
    address = order.address
    if address.partition is not None or address.topic == room.topics.replies:
        return address
    count = await room.producer.partition_count(address.topic)
    return Address(address.topic, crc32(address.correlation_id) % count, address.correlation_id)
