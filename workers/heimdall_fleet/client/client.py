"""Ask a Heimdall fleet over Kafka and wait for its replies.

    async with HeimdallClient("localhost:9092") as client:
        reply = await client.complete(messages=[{"role": "user", "content": "Good morning!"}])
        print(reply.text, reply.heimdall.selected_model)

Replies come back to one partition of a reply topic, which is read from the end it has before the first request is sent.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Self, TypeVar, Unpack

from pydantic import BaseModel, ValidationError

from heimdall_fleet.client import outgoing
from heimdall_fleet.client.errors import CallerError, Closed, Expired, FleetError, Unreachable, from_failure
from heimdall_fleet.client.handle import Handle, Stream
from heimdall_fleet.client.kafka_transport import KafkaTransport
from heimdall_fleet.client.outgoing import Ask, Caller, CallOptions, Ids, Messages, ReturnAddress
from heimdall_fleet.client.replies import Router
from heimdall_fleet.client.transport import Outgoing, Transport
from heimdall_schemas import codec
from heimdall_schemas.control import Cancel, Feedback
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.faults import faults_of
from heimdall_schemas.ids import new_id
from heimdall_schemas.reply import Reply
from heimdall_schemas.text import rfc3339
from heimdall_schemas.topics import Topics

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Timing:
    """`default_deadline` holds for calls that name none; `patience` bounds every wait for the broker."""

    default_deadline: timedelta = timedelta(minutes=10)
    patience: timedelta = timedelta(seconds=15)
    now: Callable[[], datetime] = _utc_now


class HeimdallClient:
    """One connection to a fleet; share it between any number of concurrent calls.

    It takes one partition of the reply topic and resolves its end before anything is sent, so no reply is missed,
    however fast. Nothing is kept on disk: replies that come after the client has gone are in the reply topic, under
    the correlation id, for as long as that topic keeps them.

    `reply_topic` defaults to the fleet's own; another one must exist and be allowed by the fleet's configuration.
    `kafka` holds further fields of `heimdall_fleet.kafka.settings.KafkaSettings` (`security_protocol`, `ssl_cafile`,
    `sasl_mechanism` …). `transport`: another one than `KafkaTransport`, or one with other limits.
    """

    def __init__(
        self,
        bootstrap_servers: str = "localhost:9092",
        topic_prefix: str = "heimdall",
        reply_topic: str | None = None,
        *,
        kafka: Mapping[str, Any] | None = None,
        timing: Timing | None = None,
        transport: Transport | None = None,
    ) -> None:
        self._where = bootstrap_servers
        self._topics = Topics(topic_prefix)
        self._reply_topic = reply_topic or self._topics.replies
        self._timing = timing or Timing()
        self._transport = transport or KafkaTransport(
            {"bootstrap_servers": bootstrap_servers, **(kafka or {})}, self._timing.patience.total_seconds()
        )
        self._router = Router()
        self._reader: asyncio.Task[None] | None = None
        self._caller: Caller | None = None
        self._unusable: FleetError = Closed("the client is not open; use `async with HeimdallClient(...) as client:`")

    async def __aenter__(self) -> Self:
        try:
            partition = await self._bounded(self._transport.open(self._reply_topic), f"opening {self._reply_topic}")
        except BaseException:
            await self._close_transport()
            raise
        address = ReturnAddress(self._reply_topic, partition)
        self._caller = Caller(self._topics, address, self._timing.default_deadline, self._transport.limits)
        self._reader = asyncio.create_task(self._read(), name="heimdall-client-replies")
        self._reader.add_done_callback(self._reader_ended)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop_taking_calls(Closed("the client was closed before the reply came; the fleet works on"))
        self._unusable = Closed("the client is closed; open a new one with `async with HeimdallClient(…)`")
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])
        await self._close_transport()

    async def complete(
        self,
        body: Mapping[str, Any] | None = None,
        *,
        messages: Messages | None = None,
        model: str | None = None,
        deadline: timedelta | None = None,
        **options: Unpack[CallOptions],
    ) -> Reply:
        """Ask and wait for the answer.

        Give a whole Chat Completions body, or only its `messages`. `model` defaults to the body's own, else to "auto".
        Raises a HeimdallError: CallerError, PolicyError (Expired when the deadline passed), ProviderError, FleetError.
        """
        handle = await self.submit(body, messages=messages, model=model, deadline=deadline, **options)
        return await handle.result()

    async def submit(
        self,
        body: Mapping[str, Any] | None = None,
        *,
        messages: Messages | None = None,
        model: str | None = None,
        deadline: timedelta | None = None,
        **options: Unpack[CallOptions],
    ) -> Handle:
        """As `complete`, but returns as soon as the broker has the request."""
        return await self._send(Ask(body, messages, model, deadline, options))

    def stream(
        self,
        body: Mapping[str, Any] | None = None,
        *,
        messages: Messages | None = None,
        model: str | None = None,
        deadline: timedelta | None = None,
        **options: Unpack[CallOptions],
    ) -> Stream:
        """As `complete`, but chunk by chunk; the iteration raises the errors."""
        ask = Ask(body, messages, model, deadline, options, stream=True)
        return Stream(lambda: self._send(ask))

    async def cancel(self, request_id: str, reason: str | None = None) -> None:
        """Ask the fleet not to start a request, or to stop it; it may be one of another process."""
        await self._tell("cancel", request_id, Cancel, {"reason": reason})

    async def feedback(
        self,
        request_id: str,
        *,
        score: float | None = None,
        accepted: bool | None = None,
        label: Literal["cheap", "mid", "hard"] | None = None,
        comment: str | None = None,
    ) -> None:
        """Say what an answer was worth, at any time after it: the next classifier learns from it.

        `score` runs from 0 (useless) to 1 (perfect), `label` is the bucket that the request should have had. Raises
        CallerError unless one of `score`, `accepted` and `label` is given.
        """
        said = {"score": score, "accepted": accepted, "label": label, "comment": comment}
        await self._tell(
            "feedback", request_id, Feedback, {**said, "time": rfc3339(outgoing.unix_ms(self._timing.now()))}
        )

    async def _send(self, ask: Ask) -> Handle:
        caller = self._usable()
        now = self._timing.now()
        try:
            call = outgoing.call_of(ask, caller, Ids(new_id(), new_id()), now)
        except Failure as failure:
            raise from_failure(failure) from None
        late = Expired(FailureCode.POLICY_EXPIRED, f"no reply to {call.request_id} before its deadline")
        left = (call.expires_at - now).total_seconds()
        if left <= 0:
            raise late
        inbox = self._router.expect(call.correlation_id, left, late)
        try:
            await self._bounded(self._transport.send(call.record), f"sending {call.request_id}", left)
        except BaseException as error:
            expired = inbox.outcome is late
            self._router.end(call.correlation_id, Unreachable(f"{call.request_id} was not sent"))
            if expired and isinstance(error, Unreachable):
                raise late from error
            raise
        return Handle(call.request_id, call.expires_at, inbox, self.cancel)

    async def _tell(self, entity: str, request_id: str, message: type[BaseModel], fields: Mapping[str, Any]) -> None:
        """Send a message beside the path, keyed by the request id."""
        topics = self._usable().topics
        try:
            said = message(request_id=request_id, **fields)
        except ValidationError as error:
            raise CallerError(FailureCode.CALLER_BAD_REQUEST, faults_of(error, within=entity).text) from None
        record = Outgoing(
            topics.named(entity),
            request_id.encode(),
            codec.encode(said.model_dump(mode="json", exclude_none=True)),
            outgoing.cloud_event(entity, new_id(), None, self._timing.now()),
        )
        await self._bounded(self._transport.send(record), f"sending {entity} for {request_id}")

    def _usable(self) -> Caller:
        if self._caller is None:
            raise self._unusable
        return self._caller

    def _stop_taking_calls(self, why: FleetError) -> None:
        self._caller, self._unusable = None, why
        self._router.end_all(why)

    async def _read(self) -> None:
        while True:
            for record in await self._transport.receive():
                self._router.deliver(record)

    def _reader_ended(self, reader: asyncio.Task[None]) -> None:
        """Replies can no longer be read: no call may go on waiting for one."""
        if reader.cancelled():
            return
        error = reader.exception()
        _log.error("replies can no longer be read", exc_info=error, extra={"action": "client_reader_failed"})
        self._stop_taking_calls(
            Unreachable(f"replies can no longer be read from {self._reply_topic}: {error}; open a new client")
        )

    async def _close_transport(self) -> None:
        try:
            await self._bounded(self._transport.close(), "closing")
        except Unreachable as error:
            _log.warning("%s", error, extra={"action": "client_close_unreachable"})

    async def _bounded(self, work: Awaitable[_T], doing: str, at_most_s: float | None = None) -> _T:
        """The result of `work`. Raises Unreachable when the broker refuses or is silent for longer than patience."""
        patience_s = self._timing.patience.total_seconds()
        try:
            async with asyncio.timeout(min(patience_s, at_most_s or patience_s)):
                return await work
        except TimeoutError as error:
            why = f"the broker was silent for {patience_s:g} s"
            cause: OSError = error
        except OSError as error:
            why = str(error)
            cause = error
        raise Unreachable(
            f"{doing} at {self._where}: {why}; check that the address is right and the broker runs"
        ) from cause
