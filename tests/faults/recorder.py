"""After a run: everything that was said on the wire, in the providers' log and in the workers' logs, as events."""

import hashlib
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from tests.faults.fleet import Canaries, Fleet
from tests.faults.history import (
    Call,
    Commit,
    Complaint,
    Decision,
    Event,
    Fault,
    Leak,
    Letter,
    LogEnd,
    Order,
    Outcome,
    Reply,
    Rested,
)  # fmt: skip

from heimdall_fleet.dispatch.retry import SOURCE_PARTITION, SOURCE_TOPIC
from heimdall_fleet.kafka.driver.reading import PartitionReader, TopicReader
from heimdall_fleet.kafka.offsets import decode_finished
from heimdall_fleet.kafka.records import Record
from heimdall_schemas import headers as h
from heimdall_schemas.topics import Bucket, Delay

COMMIT_LOG = "__consumer_offsets"
LEFT_BEHIND = ("Task was destroyed", "never retrieved", "never awaited", "Unclosed", "ResourceWarning")
UNREACHED, INTERRUPTED = "provider_unreachable", "heimdall_interrupted"


async def record(fleet: Fleet) -> list[Event]:
    """All events of the run that the fleet itself has not written down. The workers must have stopped."""
    topics = fleet.topics
    events: list[Event] = list(_calls(await fleet.calls(), fleet))
    groups = {
        f"{topics.prefix}.triage": [topics.requests],
        f"{topics.prefix}.dispatch": [topics.dispatch(bucket) for bucket in Bucket],
        f"{topics.prefix}.retry": [topics.retry(delay) for delay in Delay],
    }
    events += [event async for event in _wire(fleet, groups)]
    for worker in fleet.workers:
        clock = fleet.setup.clocks.get(worker.name)
        events += _log_of(worker.name, worker.child.log, clock.ahead_s if clock else 0.0)
        metrics = fleet.setup.directory / f"{worker.name}.metrics"
        for path in (worker.child.log, metrics):
            if path.exists():
                events += leaks(path.read_bytes(), path.name, fleet.canaries)
    return events


async def _wire(fleet: Fleet, groups: dict[str, list[str]]) -> AsyncIterator[Event]:
    topics, kafka = fleet.topics, fleet.kafka
    places: dict[str, Callable[[Record], Iterator[Event]]] = {topics.retry(delay): _rested for delay in Delay}
    places |= {topics.dispatch(bucket): _order for bucket in Bucket}
    names = {str(worker.child.pid): worker.name for worker in fleet.workers}
    places |= {topics.audit: partial(_audit, names=names), topics.dlq: _letter}
    asked = [topics.replies, *(f"{topics.prefix}.{name}" for name in fleet.setup.extra_topics)]
    places |= dict.fromkeys(asked, _reply)
    async with TopicReader(kafka) as reader:
        async for record_ in reader.read(list(places)):
            for event in places[record_.topic](record_):
                yield event
            for leak in leaks_in(record_, fleet):
                yield leak
        async for record_ in reader.read([COMMIT_LOG]):
            for commit in _commit(record_):
                if commit.group in groups:
                    yield commit
    reader_ = PartitionReader(kafka, 10.0)
    await reader_.start()
    try:
        for group, read in groups.items():
            partitions = [each for topic in read for each in await reader_.partitions(topic)]
            for (topic, partition), offset in (await reader_.ends(partitions)).items():
                yield LogEnd(group, topic, partition, offset)
    finally:
        await reader_.stop()


def _calls(logged: Iterable[Mapping[str, Any]], fleet: Fleet) -> Iterator[Call]:
    for call in logged:
        yield Call(
            at=call["start"],
            end=call["end"],
            request_id=call["request_id"] or "",
            provider=call["provider"],
            model=call["model"],
            worker=fleet.worker_of_key.get(call["key"], f"unknown key {call['key']}"),
            status=call["status"],
            outcome=call["outcome"],
            prompt_tokens=call["prompt_tokens"],
            completion_tokens=call["completion_tokens"],
        )


def _order(record_: Record) -> Iterator[Event]:
    found = h.last(record_.headers)
    place = (record_.topic, record_.partition, record_.offset)
    yield Order(_at(record_), found.get(h.REQUEST_ID, b"").decode(), *place, decided=h.DECISION in found)


def _rested(record_: Record) -> Iterator[Event]:
    found = h.last(record_.headers)
    source = found[SOURCE_TOPIC].decode(), int(found[SOURCE_PARTITION])
    yield Rested(_at(record_), found[h.REQUEST_ID].decode(), *source)


def _reply(record_: Record) -> Iterator[Event]:
    facts = orjson.loads(record_.value or b"{}").get("heimdall", {})
    if "state" in facts:  # a chunk of a stream has none
        correlation_id = h.last(record_.headers).get(h.CORRELATION_ID, b"").decode("latin-1")
        place = (record_.topic, record_.partition, record_.offset)
        yield Reply(_at(record_), facts["request_id"], correlation_id, facts["state"], *place)


def _audit(record_: Record, names: Mapping[str, str]) -> Iterator[Event]:
    """`names`: process id to worker, since workers sign with role, host and process id."""
    value: dict[str, Any] = orjson.loads(record_.value or b"{}")
    worker = names.get(value["worker"].rsplit("-", 1)[1], value["worker"])
    if value["kind"] == "decision":
        yield Decision(_at(record_), value["request_id"], worker)
        return
    attempts, tokens = [each for each in value["attempts"] if each["failure"] != UNREACHED], value["tokens"]
    yield Outcome(
        at=_at(record_),
        request_id=value["request_id"],
        worker=worker,
        state=value["state"],
        failure=value["failure"],
        reached=sum("call" not in attempt for attempt in attempts),
        named={each["call"]: each["failure"] != INTERRUPTED for each in attempts if "call" in each},
        superseded=value.get("superseded", False),
        prompt_tokens=tokens["prompt"],
        completion_tokens=tokens["completion"],
        cost_usd_micros=value["cost_usd_micros"],
        estimated=any(attempt.get("cost_estimated") for attempt in value["attempts"]),
        body=hashlib.sha256(record_.value or b"").hexdigest()[:16],
    )


def _letter(record_: Record) -> Iterator[Event]:
    found = {name: value.decode("utf-8", "replace") for name, value in h.last(record_.headers).items()}
    place = found[h.DLQ_TOPIC], int(found[h.DLQ_PARTITION]), int(found[h.DLQ_OFFSET])
    yield Letter(_at(record_), found[h.REQUEST_ID], found[h.DLQ_REASON], *place)


def _commit(record_: Record) -> Iterator[Commit]:
    """The broker's own format. Key 0 or 1: group, topic, partition; value 3 or 4: offset, epoch, metadata …"""
    key, value = record_.key or b"", record_.value
    if value is None or struct.unpack_from(">h", key)[0] > 1:
        return  # a deletion, or about members
    group, end = _text(key, 2)
    topic, end = _text(key, end)
    partition = struct.unpack_from(">i", key, end)[0]
    version, position = struct.unpack_from(">hq", value)
    if version not in (3, 4):
        raise ValueError(f"a commit of version {version}, which this reader does not know")
    metadata = _text(value, 14)[0] if version == 3 else _compact_text(value, 14)
    finished = tuple(decode_finished(position, metadata))
    yield Commit(_at(record_), group, topic, partition, position, finished)


def _text(data: bytes, start: int) -> tuple[str, int]:
    end = start + 2 + struct.unpack_from(">h", data, start)[0]
    return data[start + 2 : end].decode(), end


def _compact_text(data: bytes, start: int) -> str:
    """Its length plus one comes first, seven bits a byte, the lowest first."""
    length, shift = 0, 0
    while data[start] & 0x80:
        length |= (data[start] & 0x7F) << shift
        start, shift = start + 1, shift + 7
    length |= data[start] << shift
    return data[start + 1 : start + length].decode()


def _log_of(worker: str, path: Path, ahead_s: float) -> Iterator[Event]:
    """Rebalances that a dispatch worker went through, and lines that say that something was left behind."""
    for line in path.read_text(errors="replace").split("\n")[:-1]:  # the last one may have been cut short
        if any(words in line for words in LEFT_BEHIND):
            yield Complaint(worker, line[:300])
        if worker.startswith("dispatch") and "kafka_assigned" in line:
            at = datetime.fromisoformat(orjson.loads(line)["timestamp"]).timestamp() - ahead_s
            yield Fault(at - 1.0, at + 1.0, "rebalance")


def leaks_in(record_: Record, fleet: Fleet) -> Iterator[Leak]:
    """A prompt may stand in the value of an order or of a dead letter, which are the request's own bytes."""
    where = f"{record_.topic.removeprefix(fleet.topics.prefix)}-{record_.partition} at {record_.offset}"
    headers = b"\n".join(name.encode() + b": " + (value or b"") for name, value in record_.headers)
    carries = record_.topic == fleet.topics.dlq or ".dispatch." in record_.topic or ".retry." in record_.topic
    yield from leaks(headers, f"the headers of {where}", fleet.canaries)
    value = record_.value or b""
    yield from leaks(value.replace(fleet.canaries.prompt.encode(), b"") if carries else value, where, fleet.canaries)


def leaks(data: bytes, where: str, canaries: Canaries) -> Iterator[Leak]:
    for canary in ("CANARY-KEY", canaries.prompt, canaries.header):  # any key at all
        if canary.encode() in data:
            yield Leak(canary, where)


def _at(record_: Record) -> float:
    return record_.timestamp_ms / 1000
