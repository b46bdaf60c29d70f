"""A fleet inside the test: give the client a `MemoryTransport` and say what it answers.

    transport = MemoryTransport(lambda request: [answered(request, "Good morning!")])
    async with HeimdallClient(transport=transport) as client:
        ...

It passes the same contract tests as the transport on Kafka.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from heimdall_fleet.client.transport import Incoming, Outgoing
from heimdall_schemas import codec
from heimdall_schemas import headers as h
from heimdall_schemas.audit import State
from heimdall_schemas.failure import Failure, FailureCode

Answer = Callable[[Outgoing], Iterable[Incoming]]

_STATES = {FailureCode.POLICY_EXPIRED: State.EXPIRED, FailureCode.POLICY_CANCELLED: State.CANCELLED}


def silence(_: Outgoing) -> Iterable[Incoming]:
    """A fleet that never answers."""
    return ()


class MemoryTransport:
    """See `Transport`. `sent` holds every record; `answer` makes the records that come back for one."""

    def __init__(self, answer: Answer = silence) -> None:
        self.limits = codec.DEFAULT_LIMITS
        self.sent: list[Outgoing] = []
        self._answer = answer
        self._reply_topic: str | None = None
        self._arrivals: asyncio.Queue[Incoming] = asyncio.Queue()

    async def open(self, reply_topic: str) -> int:
        self._reply_topic = reply_topic
        return 0

    async def send(self, record: Outgoing) -> None:
        if self._reply_topic is None:
            raise ConnectionError("the transport is not open")
        self.sent.append(record)
        if record.topic == self._reply_topic:
            self.deliver(Incoming(record.value, tuple(record.headers.items())))
        for reply in self._answer(record):
            self.deliver(reply)

    def deliver(self, record: Incoming) -> None:
        """Write a record to the reply partition."""
        self._arrivals.put_nowait(record)

    async def receive(self) -> Sequence[Incoming]:
        records = [await self._arrivals.get()]
        while not self._arrivals.empty():
            records.append(self._arrivals.get_nowait())
        return records

    async def close(self) -> None:
        self._reply_topic = None


def answered(request: Outgoing, text: str, sequence: int | None = None) -> Incoming:
    """The reply that answers `request` with `text`; `sequence` closes a stream of that many chunks."""
    facts = {"request_id": request_id(request), "state": State.ANSWERED, "sequence": sequence, "final": True}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return _reply(
        request, {**_completion(request), "object": "chat.completion", "choices": [choice], "heimdall": facts}
    )


def failed(request: Outgoing, code: FailureCode, message: str) -> Incoming:
    """The reply that says why `request` has no answer."""
    facts = {"request_id": request_id(request), "state": _STATES.get(code, State.FAILED)}
    return _reply(request, {"error": Failure(code, message).as_error(), "heimdall": facts})


def streamed(request: Outgoing, texts: Sequence[str]) -> list[Incoming]:
    """The chunks of a streamed answer, and the whole reply after them."""
    return [
        *(chunk(request, text, sequence) for sequence, text in enumerate(texts)),
        answered(request, "".join(texts), len(texts)),
    ]


def chunk(request: Outgoing, text: str, sequence: int) -> Incoming:
    """One chunk of a streamed answer."""
    facts = {"request_id": request_id(request), "sequence": sequence, "final": False}
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    body = {**_completion(request), "object": "chat.completion.chunk", "choices": [choice], "heimdall": facts}
    return _reply(request, body)


def request_id(request: Outgoing) -> str:
    """The id that the client gave the request."""
    return request.headers[h.CE_ID].decode()


def _completion(request: Outgoing) -> dict[str, Any]:
    return {"id": f"chatcmpl-{request_id(request)}", "created": 1_763_712_000, "model": "scripted/echo"}


def _reply(request: Outgoing, body: dict[str, Any]) -> Incoming:
    return Incoming(codec.encode(body), ((h.CORRELATION_ID, request.headers[h.CORRELATION_ID]),))
