"""The path of a chunk of requests through triage: read → recall → decide → write.

Plain functions on plain values; the worker around it does the I/O. Nothing here waits, so nothing here can be lost:
the records go out before the offsets of the chunk are committed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from heimdall_fleet.addresses import PartitionCount
from heimdall_fleet.kafka.records import Outgoing, Record
from heimdall_fleet.triage import emit
from heimdall_fleet.triage.emit import Desk
from heimdall_fleet.triage.read import Incoming, ReadRules, Unreadable, expired, read
from heimdall_models.decide import Decided, DecisionInput, Judge, decide
from heimdall_schemas.audit import State
from heimdall_schemas.failure import Failure


@dataclass(frozen=True, slots=True)
class Written:
    """What a chunk came to: the records to publish, and what became of each request, for the metrics."""

    outgoing: list[Outgoing]
    decided: list[Decided]
    refused: list[Failure]


def triage(
    records: Sequence[Record], rules: ReadRules, judge: Judge, desk: Desk, *, partitions: PartitionCount, now_ms: int
) -> Written:
    """Every record comes to an order with its decision record, or to an ending. None is dropped."""
    written = Written([], [], [])
    waiting: list[Incoming] = []
    for record in records:
        incoming = read(record, rules, partitions)
        if isinstance(incoming, Unreadable):
            written.outgoing += emit.burial(incoming, now_ms, desk)
            written.refused.append(incoming.failure)
        elif too_late := expired(incoming, now_ms):
            _end(incoming, too_late, State.EXPIRED, now_ms, desk, written)
        else:
            waiting.append(incoming)
    time = emit.rfc3339(now_ms)
    for incoming, verdict in zip(waiting, decide([_ask(each, now_ms) for each in waiting], judge), strict=True):
        if isinstance(verdict, Failure):
            _end(incoming, verdict, State.FAILED, now_ms, desk, written)
        else:
            written.outgoing.append(emit.order(incoming, verdict, now_ms, desk))
            written.outgoing.append(emit.decision_record(incoming, verdict, time, desk))
            written.decided.append(verdict)
    return written


def _ask(incoming: Incoming, now_ms: int) -> DecisionInput:
    return DecisionInput(
        request_id=incoming.request_id,
        request=incoming.request,
        body=incoming.body,
        time_left_ms=incoming.deadline_ms - now_ms,
    )


def _end(incoming: Incoming, failure: Failure, state: State, now_ms: int, desk: Desk, written: Written) -> None:  # noqa: PLR0913
    written.outgoing += emit.ending(incoming, failure, state, now_ms, desk)
    written.refused.append(failure)
