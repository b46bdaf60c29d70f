"""A batch of records that cannot be decoded: what is wrong with it, where it ends, and its bytes, read without a codec.

The head of a batch (format 2) is neither compressed nor of a codec's making: first offset, length, leader epoch, format,
checksum, attributes, last offset as a difference, first and newest time, producer's id, epoch and sequence, count.
"""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from aiokafka import TopicPartition, errors
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords

from heimdall_fleet.kafka.driver.connection import bounded, state_of, translated
from heimdall_fleet.kafka.errors import BrokerUnavailable, Unreadable
from heimdall_fleet.kafka.records import DamagedBatch, Partition
from heimdall_schemas import headers as h

_HEAD = struct.Struct(">qiibIhiqqqhii")
_BEFORE_LENGTH_ENDS = 12
_FORMAT = 2
_CODEC_BITS = 7
_CODECS = ("no codec", "gzip", "snappy", "lz4", "zstd")
_READ_COMMITTED = 1
_WAIT_MS = 500
_LOOK_BYTES = 1 << 20
"""A broker sends the first batch whole, however long it is."""


class _Batch(NamedTuple):
    first: int
    last: int
    codec: int
    newest_ms: int
    records: int
    raw: bytes


def fault_in_words(error: Exception) -> str:
    """What Kafka's client says itself; of a codec's error the type alone: it may quote the bytes, which are a prompt's."""
    return repr(error) if isinstance(error, errors.KafkaError) else type(error).__name__


async def damaged_batch(aio: Any, partition: Partition, timeout_s: float) -> DamagedBatch | None:
    """The batch at which an aiokafka consumer of `partition` stands, if it cannot be decoded now that it is read again.

    None as well where its head cannot be believed, since nobody knows then where to go on. Raises KafkaFailure.
    """
    state = state_of(partition, aio)
    if state is None or not state.has_valid_position or state.highwater is None:
        return None
    raw = await _as_it_stands(aio._client, partition, state.position, timeout_s)
    return find_damage(raw, partition, state.position, state.highwater)


def find_damage(raw: bytes, partition: Partition, position: int, end: int) -> DamagedBatch | None:
    """The first batch of `raw` that cannot be decoded. `position`: where reading goes on; `end`: after the last offset."""
    for batch in _batches(raw):
        fault = _fault(batch)
        if fault is None:
            continue
        if not (batch.first <= batch.last and position <= batch.last < end):
            return None
        why = (
            f"a batch of {batch.records} records, {partition[0]}-{partition[1]} at {batch.first} to {batch.last}, cannot be "
            f"decoded: {fault}; whoever sent them must send them again"
        )
        headers = ((h.DLQ_DAMAGE, why.encode()),)
        return DamagedBatch(*partition, batch.last, max(0, batch.newest_ms), None, batch.raw, headers)
    return None


def _batches(raw: bytes) -> Iterator[_Batch]:
    at = 0
    while at + _HEAD.size <= len(raw):
        first, length, _, magic, _, attributes, delta, _, newest_ms, _, _, _, count = _HEAD.unpack_from(raw, at)
        end = at + _BEFORE_LENGTH_ENDS + length
        if magic != _FORMAT or end > len(raw) or end < at + _HEAD.size:
            return
        yield _Batch(first, first + delta, attributes & _CODEC_BITS, newest_ms, count, raw[at:end])
        at = end


def _fault(batch: _Batch) -> str | None:
    try:
        _decode(batch.raw)
    except Unreadable as error:
        codec = (
            _CODECS[batch.codec] if batch.codec < len(_CODECS) else f"codec {batch.codec}, which Kafka does not have"
        )
        return f"{error} ({codec})"
    return None


def _decode(raw: bytes) -> None:
    try:
        decoded = MemoryRecords(raw).next_batch()
        intact = decoded is not None and decoded.validate_crc()
        for _ in decoded if intact else ():
            pass
    except Exception as error:  # any codec may raise anything about bytes that others wrote
        raise Unreadable(fault_in_words(error)) from error
    if not intact:
        raise Unreadable("its checksum is wrong")


async def _as_it_stands(client: Any, partition: Partition, position: int, timeout_s: float) -> bytes:
    topic, number = partition
    leader = client.cluster.leader_for_partition(TopicPartition(*partition))
    if leader is None or leader < 0:
        raise BrokerUnavailable(f"{topic}-{number} has no leader now")
    request = FetchRequest(_WAIT_MS, 1, _LOOK_BYTES, _READ_COMMITTED, [(topic, [(number, position, _LOOK_BYTES)])])
    answer = await bounded(client.send(leader, request), timeout_s, "read a batch as it stands")
    ((_, ((_, code, *rest),)),) = answer.topics
    refused = errors.for_code(code)
    if refused is not errors.NoError:
        with translated("read a batch as it stands"):
            raise refused(f"{topic}-{number}")
    return bytes(rest[-1])
