"""The client against a fleet inside the test."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from heimdall_fleet.client import (
    BudgetExceeded,
    CallerError,
    Cancelled,
    Closed,
    Expired,
    FleetError,
    HeimdallClient,
    HeimdallError,
    PolicyError,
    ProviderError,
    StreamBroken,
    Timing,
)
from heimdall_fleet.client.testing import MemoryTransport, answered, chunk, failed, streamed
from heimdall_fleet.client.transport import Incoming, Outgoing
from heimdall_schemas.failure import FailureCode
from heimdall_schemas.request import read_request

HELLO = [{"role": "user", "content": "Hello!"}]
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SOON = timedelta(milliseconds=15)


def client_on(transport: MemoryTransport, **timing: Any) -> HeimdallClient:
    return HeimdallClient(transport=transport, timing=Timing(**{"patience": timedelta(seconds=2), **timing}))


def echo(request: Outgoing) -> list[Incoming]:
    content = orjson.loads(request.value)["messages"][-1]["content"]
    return [answered(request, f"You said: {content}")] if request.topic.endswith("requests.v1") else []


def failing(code: FailureCode) -> Callable[[Outgoing], list[Incoming]]:
    return lambda request: [failed(request, code, "no")]


async def text_of(client: HeimdallClient, content: str, **options: Any) -> str:
    reply = await client.complete(messages=[{"role": "user", "content": content}], **options)
    return reply.text


async def test_a_call_returns_the_reply_that_carries_its_correlation_id() -> None:
    async with client_on(MemoryTransport(echo)) as client:
        assert await text_of(client, "good morning") == "You said: good morning"


async def test_two_hundred_concurrent_calls_each_get_their_own_reply() -> None:
    async with client_on(MemoryTransport(echo)) as client:
        texts = await asyncio.gather(*(text_of(client, f"call {n}") for n in range(200)))
    assert texts == [f"You said: call {n}" for n in range(200)]


async def test_a_request_carries_the_headers_that_bring_its_reply_back() -> None:
    transport = MemoryTransport(echo)
    async with client_on(transport, now=lambda: NOW) as client:
        await client.complete(messages=HELLO, deadline=timedelta(seconds=30), service="billing")
    (sent,) = transport.sent
    headers = {name: value.decode() for name, value in sent.headers.items()}
    assert sent.topic == "heimdall.requests.v1"
    assert headers["reply-to"] == "heimdall.replies.v1"
    assert headers["reply-partition"] == "0"
    assert headers["ce_time"] == "2026-11-21T12:00:00.000Z"
    assert headers["ce_expirytime"] == "2026-11-21T12:00:30.000Z"
    assert headers["ce_type"] == "heimdall.request.v1"
    assert headers["ce_source"] == "billing"
    assert headers["ce_specversion"] == "1.0"
    assert headers["ce_id"][14] == "7"
    assert headers["correlation-id"] != headers["ce_id"]


async def test_the_key_is_the_session_else_the_request_id() -> None:
    transport = MemoryTransport(echo)
    async with client_on(transport) as client:
        await client.complete(messages=HELLO, session="chat-7")
        await client.complete(messages=HELLO, request_id="order-4711")
    assert [sent.key for sent in transport.sent] == [b"chat-7", b"order-4711"]
    assert transport.sent[1].headers["ce_id"] == b"order-4711"


async def test_what_the_call_names_goes_before_what_the_body_says() -> None:
    transport = MemoryTransport(echo)
    body = {"model": "a/b", "messages": HELLO, "seed": 5, "stream": True, "heimdall": {"alpha": 0.1, "ttl_ms": 5}}
    async with client_on(transport) as client:
        await client.complete(body, model="c/d", deadline=timedelta(minutes=1), alpha=0.9)
    options, sent = read_request(transport.sent[0].value)
    assert (sent["model"], options.alpha, options.ttl_ms) == ("c/d", 0.9, None)
    assert (sent["seed"], sent.get("stream")) == (5, None)
    assert body["heimdall"] == {"alpha": 0.1, "ttl_ms": 5}


async def test_the_body_alone_may_set_the_deadline() -> None:
    async with client_on(MemoryTransport(), now=lambda: NOW) as client:
        handle = await client.submit({"messages": HELLO, "heimdall": {"ttl_ms": 1500}})
    assert handle.expires_at == NOW + timedelta(milliseconds=1500)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (FailureCode.CALLER_UNKNOWN_MODEL, CallerError),
        (FailureCode.POLICY_CONTENT, PolicyError),
        (FailureCode.POLICY_EXPIRED, Expired),
        (FailureCode.POLICY_CANCELLED, Cancelled),
        (FailureCode.POLICY_BUDGET, BudgetExceeded),
        (FailureCode.PROVIDER_EXHAUSTED, ProviderError),
        (FailureCode.HEIMDALL_INTERNAL, FleetError),
    ],
)
async def test_an_error_reply_raises_the_error_of_its_domain(code: FailureCode, kind: type[HeimdallError]) -> None:
    async with client_on(MemoryTransport(failing(code))) as client:
        with pytest.raises(kind) as caught:
            await client.complete(messages=HELLO)
    assert type(caught.value) is kind
    assert caught.value.code == code
    assert caught.value.retryable is code.facts.retryable
    assert caught.value.heimdall is not None


async def test_a_code_of_a_newer_fleet_raises_the_error_of_its_domain() -> None:
    def newer(request: Outgoing) -> list[Incoming]:
        old = failed(request, FailureCode.PROVIDER_ERROR, "asleep")
        assert old.value is not None
        return [Incoming(old.value.replace(b"provider_error", b"provider_asleep"), old.headers)]

    async with client_on(MemoryTransport(newer)) as client:
        with pytest.raises(ProviderError, match="provider_asleep: asleep"):
            await client.complete(messages=HELLO)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({}, "messages="),
        ({"body": {"messages": HELLO}, "messages": HELLO}, "messages="),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, r"messages\[0\]\.role"),
        ({"messages": HELLO, "alpha": 2.0}, r"heimdall\.alpha"),
        ({"messages": HELLO, "tennant": "acme"}, r"heimdall\.tennant"),
        ({"messages": HELLO, "deadline": timedelta.max}, "deadline"),
        ({"body": {"messages": HELLO, "heimdall": "fast"}}, "heimdall: an object"),
        ({"body": {"messages": HELLO, "seed": {1, 2}}}, "JSON"),
    ],
)
async def test_a_request_that_breaks_its_schema_is_refused_before_it_is_sent(
    arguments: dict[str, Any], named: str
) -> None:
    transport = MemoryTransport(echo)
    async with client_on(transport) as client:
        with pytest.raises(CallerError, match=named):
            await client.complete(**arguments)
    assert transport.sent == []


async def test_the_call_ends_when_its_deadline_passes_and_a_late_reply_is_passed_over() -> None:
    transport = MemoryTransport()
    async with client_on(transport) as client:
        with pytest.raises(Expired) as caught:
            await client.complete(messages=HELLO, deadline=SOON)
        transport.deliver(answered(transport.sent[0], "too late"))
        again = await client.submit(messages=HELLO)
        transport.deliver(answered(transport.sent[1], "in time"))
        assert (await again.result()).text == "in time"
    assert caught.value.retryable
    assert caught.value.heimdall is None


async def test_a_deadline_in_the_past_sends_nothing() -> None:
    transport = MemoryTransport(echo)
    async with client_on(transport) as client:
        with pytest.raises(Expired):
            await client.complete(messages=HELLO, deadline=timedelta(seconds=-1))
    assert transport.sent == []


async def test_a_call_without_a_deadline_has_the_default_one() -> None:
    async with client_on(MemoryTransport(), default_deadline=SOON) as client:
        with pytest.raises(Expired):
            await client.complete(messages=HELLO)


async def test_a_reply_that_is_there_twice_is_seen_once() -> None:
    transport = MemoryTransport(lambda request: [answered(request, "one"), answered(request, "two")])
    async with client_on(transport) as client:
        handle = await client.submit(messages=HELLO)
        assert (await handle.result()).text == "one"
        assert (await handle.result()).text == "one"


async def test_replies_of_others_and_records_that_are_no_replies_disturb_nobody() -> None:
    noise = [Incoming(None, ()), Incoming(b"{", (("correlation-id", b"\xff\x00"),)), Incoming(b"x", (("a", None),))]
    transport = MemoryTransport(lambda request: [*noise, answered(request, "mine")])
    async with client_on(transport) as client:
        assert await text_of(client, "hi") == "mine"


async def test_an_unreadable_reply_ends_its_call() -> None:
    def broken(request: Outgoing) -> list[Incoming]:
        return [Incoming(b'{"object": "chat.completion"}', answered(request, "").headers)]

    async with client_on(MemoryTransport(broken)) as client:
        with pytest.raises(FleetError, match="no reply"):
            await client.complete(messages=HELLO)


async def test_a_result_can_be_waited_for_again_after_a_time_out() -> None:
    transport = MemoryTransport()
    async with client_on(transport) as client:
        handle = await client.submit(messages=HELLO)
        with pytest.raises(TimeoutError):
            await handle.result(timeout=timedelta(milliseconds=1))
        assert not handle.done()
        transport.deliver(answered(transport.sent[0], "here"))
        assert (await handle.result(timeout=timedelta(seconds=2))).text == "here"
        assert handle.done()


async def test_cancelling_sends_the_request_id_and_the_fleet_has_the_last_word() -> None:
    transport = MemoryTransport()
    async with client_on(transport) as client:
        handle = await client.submit(messages=HELLO)
        await handle.cancel("user left")
        assert not handle.done()
        transport.deliver(failed(transport.sent[0], FailureCode.POLICY_CANCELLED, "cancelled"))
        with pytest.raises(Cancelled):
            await handle.result()
    sent = transport.sent[1]
    assert (sent.topic, sent.key) == ("heimdall.cancel.v1", handle.request_id.encode())
    assert orjson.loads(sent.value) == {"request_id": handle.request_id, "reason": "user left"}


async def test_feedback_goes_out_under_the_request_id() -> None:
    transport = MemoryTransport()
    async with client_on(transport, now=lambda: NOW) as client:
        await client.feedback("r-1", score=0.75, label="hard")
    sent = transport.sent[0]
    assert (sent.topic, sent.key) == ("heimdall.feedback.v1", b"r-1")
    assert orjson.loads(sent.value) == {
        "request_id": "r-1",
        "score": 0.75,
        "label": "hard",
        "time": "2026-11-21T12:00:00.000Z",
    }


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "feedback: give score, accepted or label$"),
        ({"score": 1.5}, "feedback.score: Input should be less"),
        ({"comment": "nice"}, "feedback: give score"),
    ],
)
async def test_feedback_that_says_nothing_usable_is_refused_by_name(said: dict[str, Any], words: str) -> None:
    async with client_on(MemoryTransport()) as client:
        with pytest.raises(CallerError, match=words):
            await client.feedback("r-1", **said)


async def test_a_stream_yields_its_chunks_in_order_and_then_holds_the_whole_reply() -> None:
    transport = MemoryTransport(lambda request: streamed(request, ["Good ", "morning", "!"]))
    async with client_on(transport) as client:
        stream = client.stream(messages=HELLO)
        assert transport.sent == []
        texts = [part.choices[0]["delta"]["content"] async for part in stream]
    assert texts == ["Good ", "morning", "!"]
    assert stream.final is not None
    assert stream.final.text == "Good morning!"
    assert stream.final.heimdall.request_id == stream.request_id
    assert orjson.loads(transport.sent[0].value)["stream"] is True


def shuffled(request: Outgoing) -> list[Incoming]:
    first, second, third, final = streamed(request, ["a", "b", "c"])
    return [first, first, third, second, first, final]


def whole(request: Outgoing) -> list[Incoming]:
    return [answered(request, "abc")]


@pytest.mark.parametrize(("answer", "texts"), [(shuffled, ["a", "b", "c"]), (whole, [])])
async def test_chunks_are_sorted_and_repeated_ones_dropped(
    answer: Callable[[Outgoing], list[Incoming]], texts: Sequence[str]
) -> None:
    async with client_on(MemoryTransport(answer)) as client:
        stream = client.stream(messages=HELLO)
        assert [part.choices[0]["delta"]["content"] async for part in stream] == texts
    assert stream.final is not None
    assert stream.final.text == "abc"


async def test_a_missing_chunk_is_an_error_that_still_has_the_whole_reply() -> None:
    transport = MemoryTransport(lambda r: [chunk(r, "a", 0), chunk(r, "c", 2), answered(r, "abc", 3)])
    seen: list[Any] = []
    async with client_on(transport) as client:
        with pytest.raises(StreamBroken, match="chunk 1") as caught:
            seen.extend([part async for part in client.stream(messages=HELLO)])
    assert caught.value.reply is not None
    assert caught.value.reply.text == "abc"


async def test_a_stream_that_fails_half_way_yields_what_came_and_then_raises() -> None:
    transport = MemoryTransport(lambda r: [chunk(r, "a", 0), failed(r, FailureCode.PROVIDER_TRUNCATED, "cut")])
    async with client_on(transport) as client:
        stream = client.stream(messages=HELLO)
        assert (await anext(stream)).heimdall.sequence == 0
        with pytest.raises(ProviderError, match="cut"):
            await anext(stream)
    assert stream.final is None


async def test_a_stream_can_be_cancelled_while_it_runs() -> None:
    transport = MemoryTransport(lambda r: [chunk(r, "a", 0)] if r.topic.endswith("requests.v1") else [])
    async with client_on(transport) as client:
        stream = client.stream(messages=HELLO)
        await anext(stream)
        await stream.cancel()
        transport.deliver(failed(transport.sent[0], FailureCode.POLICY_CANCELLED, "stopped"))
        with pytest.raises(Cancelled):
            await anext(stream)
    assert transport.sent[1].topic == "heimdall.cancel.v1"


async def test_closing_ends_what_still_waits_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    async with client_on(MemoryTransport()) as client:
        handle = await client.submit(messages=HELLO)
        waiting = asyncio.create_task(handle.result())
    with pytest.raises(Closed, match="the fleet works on"):
        await waiting
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("opened_before", [False, True])
async def test_a_client_that_is_not_open_says_so(opened_before: bool) -> None:
    client = client_on(MemoryTransport(echo))
    if opened_before:
        async with client:
            pass
    with pytest.raises(Closed, match=r"open.* `async with"):
        await client.complete(messages=HELLO)
