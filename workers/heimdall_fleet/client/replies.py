"""Replies to the calls that wait for them, by correlation id.

A reply topic holds the replies of others too, and a record may stand there twice: what belongs to no waiting call is
passed over. Nothing here does I/O.
"""

import asyncio
import logging
from collections import deque

from heimdall_fleet.client.errors import FleetError, HeimdallError, StreamBroken, from_reply
from heimdall_fleet.client.transport import Incoming
from heimdall_schemas import headers as h
from heimdall_schemas.failure import Failure
from heimdall_schemas.reply import ErrorReply, Reply, ReplyChunk, read_reply

_log = logging.getLogger(__name__)


class Inbox:
    """What has come for one call: chunks in order, then one outcome. The first outcome stands."""

    def __init__(self) -> None:
        self.chunks: deque[ReplyChunk] = deque()
        self.outcome: Reply | HeimdallError | None = None
        self.ended = asyncio.Event()
        self.news = asyncio.Event()
        self.timer: asyncio.TimerHandle | None = None
        self._ahead: dict[int, ReplyChunk] = {}
        self._next = 0

    def take(self, arrived: Reply | ErrorReply | ReplyChunk) -> None:
        """Put a record in its place; a chunk seen before changes nothing."""
        if isinstance(arrived, ReplyChunk):
            self._take_chunk(arrived)
        elif isinstance(arrived, ErrorReply):
            self.end(from_reply(arrived))
        else:
            self.end(self._gap_before(arrived) or arrived)

    def end(self, outcome: Reply | HeimdallError) -> None:
        """Close the call with `outcome`, unless it has one."""
        if self.outcome is None:
            self.outcome = outcome
            if self.timer is not None:
                self.timer.cancel()
            self.ended.set()
            self.news.set()

    def settled(self) -> Reply:
        """The reply. Raises the error that the call ended with; only for a call that has ended."""
        if isinstance(self.outcome, Reply):
            return self.outcome
        assert self.outcome is not None, "settled() is asked before the call ended"
        raise self.outcome

    def _take_chunk(self, chunk: ReplyChunk) -> None:
        if self.outcome is not None or chunk.heimdall.sequence < self._next:
            return
        self._ahead[chunk.heimdall.sequence] = chunk
        while (ready := self._ahead.pop(self._next, None)) is not None:
            self.chunks.append(ready)
            self._next += 1
        self.news.set()

    def _gap_before(self, reply: Reply) -> StreamBroken | None:
        """A reply without a sequence number, or the first record of all, is a whole answer without chunks."""
        sequence = reply.heimdall.sequence
        complete = not self._ahead and (sequence is None or sequence == self._next)
        if complete:
            return None
        return StreamBroken(
            f"chunk {self._next} of request {reply.heimdall.request_id} is missing; `reply` on this error is the whole"
            " answer",
            reply,
        )


class Router:
    """The calls that wait, by correlation id."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, Inbox] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def expect(self, correlation_id: bytes, seconds: float, late: HeimdallError) -> Inbox:
        """A place for the replies that will carry this id; made before the request is sent.

        When `seconds` have passed without an outcome, the call ends with `late`.
        """
        inbox = self._waiting[correlation_id] = Inbox()
        inbox.timer = asyncio.get_running_loop().call_later(seconds, self.end, correlation_id, late)
        return inbox

    def end(self, correlation_id: bytes, error: HeimdallError) -> None:
        """End one call with `error`, if it still waits; whatever still comes for this id is passed over."""
        inbox = self._waiting.pop(correlation_id, None)
        if inbox is not None:
            inbox.end(error)

    def deliver(self, record: Incoming) -> None:
        """Hand a record to the call it belongs to. A record that cannot be read ends that call with a FleetError."""
        correlation_id = h.last(record.headers).get(h.CORRELATION_ID)
        inbox = self._waiting.get(correlation_id) if correlation_id is not None else None
        if inbox is None or correlation_id is None:
            return
        try:
            inbox.take(read_reply(record.value))
        except Failure as failure:
            _log.warning("a reply cannot be read: %s", failure, extra={"action": "client_reply_unreadable"})
            inbox.end(FleetError(failure.code, failure.message))
        if inbox.ended.is_set():
            del self._waiting[correlation_id]

    def end_all(self, error: HeimdallError) -> None:
        """End every waiting call with `error`."""
        while self._waiting:
            self._waiting.popitem()[1].end(error)
