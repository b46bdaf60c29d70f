"""Publishing an end, in the order that loses nothing: reply acknowledged → audit acknowledged → done."""

import asyncio
from typing import Any
from zlib import crc32

from heimdall_fleet.dispatch.outcome import outcome_record
from heimdall_fleet.dispatch.reply import chunk_record, final_record, reply_record
from heimdall_fleet.dispatch.room import Room
from heimdall_fleet.dispatch.run import Ending, Run
from heimdall_fleet.kafka.errors import UnknownPartition, UnknownTopic
from heimdall_fleet.kafka.records import Outgoing
from heimdall_schemas.order import Address, Order


async def publish(run: Run, ending: Ending, room: Room, partition: int) -> None:
    """Returns when the broker has both records; only then may the order's offset be committed.

    `partition` is that of the order, which is that of the request; the audit record goes beside the decision's.
    Raises KafkaFailure when the broker did not confirm; publishing again is safe.
    """
    await publish_reply(run, ending, room)
    audit = outcome_record(run.request_id, ending.outcome, partition % room.settings.audit_partitions, room.topics)
    await room.producer.send(audit)


async def publish_reply(run: Run, ending: Ending, room: Room) -> None:
    """The reply alone. A reply topic that is gone since triage saw it is replaced by the fleet's own.

    Chunks that the broker did not confirm are no loss: the last record of a stream is the whole reply.
    """
    await asyncio.gather(*run.unconfirmed, return_exceptions=True)
    run.unconfirmed.clear()
    try:
        await room.producer.send(_record(run, ending, await _address(run.order, room), room))
    except (UnknownTopic, UnknownPartition):
        own = Address(room.topics.replies, None, run.order.address.correlation_id)
        await room.producer.send(_record(run, ending, own, room))


async def publish_chunk(run: Run, room: Room, model_id: str, chunk: dict[str, Any]) -> None:
    """One chunk, in order. It is not waited for: the last record of the stream is the whole reply anyway."""
    address = await _address(run.order, room)
    record = chunk_record(run.order, address, {**chunk, "model": model_id}, run.chunks, room.topics)
    run.unconfirmed.append(room.producer.send(record))
    run.chunks += 1


def _record(run: Run, ending: Ending, address: Address, room: Room) -> Outgoing:
    record = reply_record(run.order, address, ending.reply, ending.failure, room.topics)
    return final_record(record, run.chunks) if run.stream else record


async def _address(order: Order, room: Room) -> Address:
    """The address with a partition where records without a key would otherwise lose their order."""
    address = order.address
    if address.partition is not None or address.topic == room.topics.replies:
        return address
    count = await room.producer.partition_count(address.topic)
    return Address(address.topic, crc32(address.correlation_id) % count, address.correlation_id)
