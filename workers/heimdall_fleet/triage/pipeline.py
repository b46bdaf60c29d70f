"""The path of a chunk of requests through triage: read → recall → decide → write.

Plain functions on plain values; the worker around it does the I/O. Nothing here waits, so nothing here can be lost:
the records go out before the offsets of the chunk are committed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from heimdall_fleet.addresses import PartitionCount
from heimdall_fleet.kafka.records import Outgoing, Record
from heimdall_fleet.triage import emit
from heimdall_fleet.triage.challenger import Challenger
from heimdall_fleet.triage.emit import Desk
from heimdall_fleet.triage.read import Incoming, ReadRules, Unreadable, expired, read
from heimdall_models.asked import Clock, DecisionInput
from heimdall_models.cache import Memory
from heimdall_models.decide import decide
from heimdall_models.judge import Judge
from heimdall_models.record import Decided, Refusal
from heimdall_models.times import StepTimes
from heimdall_schemas.audit import State
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.text import rfc3339


class Written(NamedTuple):
    """What a chunk came to: the records to publish, and what became of each request, for the metrics."""

    outgoing: list[Outgoing]
    decided: list[Decided]
    refused: list[Failure]
    times: StepTimes


@dataclass(frozen=True, slots=True)
class Bench:
    """What a triage worker decides with. Both judges are replaced between two batches, never within one."""

    rules: ReadRules
    judge: Judge
    memory: Memory
    clock: Clock
    desk: Desk
    challenger: Challenger | None = None


def triage(records: Sequence[Record], bench: Bench, partitions: PartitionCount, now_ms: int) -> Written:
    """Every record comes to an order with its decision record, or to an ending. None is dropped."""
    written = Written([], [], [], StepTimes())
    waiting: list[Incoming] = []
    for record in records:
        incoming = read(record, bench.rules, partitions)
        if isinstance(incoming, Unreadable):
            written.outgoing.extend(emit.burial(incoming, now_ms, bench.desk))
            written.refused.append(incoming.failure)
        elif too_late := expired(incoming, now_ms):
            _end(incoming, too_late, State.EXPIRED, now_ms, bench.desk, written)
        else:
            waiting.append(incoming)
    time = rfc3339(now_ms)
    asked = [_ask(each, now_ms) for each in waiting]
    answers = decide(asked, bench.judge, bench.memory, bench.clock, written.times)
    beside = bench.challenger.opinions(asked, bench.clock) if bench.challenger else [None] * len(asked)
    for incoming, answer, opinion in zip(waiting, answers, beside, strict=True):
        if isinstance(answer, Refusal):
            _end(incoming, answer.failure, State.FAILED, now_ms, bench.desk, written)
        else:
            written.outgoing.append(emit.order(incoming, answer, now_ms, bench.desk))
            written.outgoing.append(emit.decision_record(incoming, answer, opinion, time, bench.desk))
            written.decided.append(answer)
    return written


def bury(record: Record, error: Exception, bench: Bench, partitions: PartitionCount, now_ms: int) -> Written:
    """The end of a record on which the fleet itself failed: the asker hears of it, and the record is kept."""
    failure = Failure(
        FailureCode.HEIMDALL_INTERNAL, f"triage failed on this request with {type(error).__name__}; it is in the DLQ"
    )
    incoming = read(record, bench.rules, partitions)
    unreadable = Unreadable(record, incoming.request_id, incoming.address, failure)
    return Written(emit.burial(unreadable, now_ms, bench.desk), [], [failure], StepTimes())


def _ask(incoming: Incoming, now_ms: int) -> DecisionInput:
    left_ms, size_bytes = incoming.deadline_ms - now_ms, len(incoming.record.value or b"")
    return DecisionInput(incoming.request_id, incoming.options, incoming.body, left_ms, size_bytes)


def _end(incoming: Incoming, failure: Failure, state: State, now_ms: int, desk: Desk, written: Written) -> None:
    written.outgoing.extend(emit.ending(incoming, failure, state, now_ms, desk))
    written.refused.append(failure)
