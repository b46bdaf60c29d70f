"""A request on its way: wait for its reply, read its chunks, cancel it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from heimdall_fleet.client.replies import Inbox
from heimdall_schemas.reply import Reply, ReplyChunk

Cancel = Callable[[str, str | None], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Handle:
    """A request that the broker has.

    `request_id` names it everywhere: `heimdall explain`, the audit topic, feedback. After `expires_at` the call ends
    with Expired, whatever may still come.
    """

    request_id: str
    expires_at: datetime
    _inbox: Inbox
    _cancel: Cancel

    def done(self) -> bool:
        """Whether `result()` would return, or raise, at once."""
        return self._inbox.ended.is_set()

    async def result(self, timeout: timedelta | None = None) -> Reply:
        """Wait for the reply, as often as you like.

        Raises a HeimdallError when the request ended without an answer, and TimeoutError when `timeout` passed first:
        the request then goes on, and `result()` can be called again.
        """
        async with asyncio.timeout(None if timeout is None else timeout.total_seconds()):
            await self._inbox.ended.wait()
        return self._inbox.settled()

    async def cancel(self, reason: str | None = None) -> None:
        """Ask the fleet not to start this request, or to stop it.

        `result()` tells what came first: it raises Cancelled, or returns the reply.
        """
        await self._cancel(self.request_id, reason)

    async def next_chunk(self) -> ReplyChunk | None:
        """The next chunk in order, or None when the call has ended well. Raises the error that it ended with."""
        inbox = self._inbox
        while not inbox.chunks and inbox.outcome is None:
            inbox.news.clear()
            await inbox.news.wait()
        if inbox.chunks:
            return inbox.chunks.popleft()
        inbox.settled()
        return None


class Stream:
    """A reply as it is written. The request is sent when iteration begins.

        stream = client.stream(messages=...)
        async for chunk in stream:
            print(chunk.text, end="")
        print(stream.final.usage)

    `final` is the whole reply once iteration has ended, and None before. Leaving early does not stop the paid call:
    `cancel()` does.
    """

    def __init__(self, start: Callable[[], Awaitable[Handle]]) -> None:
        self._start = start
        self._handle: Handle | None = None
        self.final: Reply | None = None

    @property
    def request_id(self) -> str | None:
        """The id of the request, once iteration has begun."""
        return None if self._handle is None else self._handle.request_id

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ReplyChunk:
        if self._handle is None:
            self._handle = await self._start()
        chunk = await self._handle.next_chunk()
        if chunk is None:
            self.final = await self._handle.result()
            raise StopAsyncIteration
        return chunk

    async def cancel(self, reason: str | None = None) -> None:
        """Ask the fleet to stop; the iteration then ends with Cancelled, or with what was there before."""
        if self._handle is not None:
            await self._handle.cancel(reason)
