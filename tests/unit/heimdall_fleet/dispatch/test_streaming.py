"""Streaming replies: numbered chunks, then one record with the whole reply, and no other provider in between."""

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import httpx
import orjson

from heimdall_fleet.kafka.errors import ProducerFull
from heimdall_schemas import headers as h
from heimdall_schemas.reply import ErrorReply, Reply, ReplyChunk
from heimdall_schemas.topics import Topics

if TYPE_CHECKING:
    from tests.unit.heimdall_fleet.dispatch.conftest import Bench

REPLIES = Topics().replies


class Pieces(httpx.AsyncByteStream):
    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


def event(delta: dict[str, Any], finish: str | None = None, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **fields}
    return b"data: " + orjson.dumps(body) + b"\n\n"


WORDS = [event({"role": "assistant", "content": "one "}), event({"content": "two"})]
USAGE = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
END = [event({}, "stop", usage=USAGE), b"data: [DONE]\n\n"]


def streaming(*pieces: bytes) -> Callable[[httpx.Request], httpx.Response]:
    headers = {"content-type": "text/event-stream"}
    return lambda request: httpx.Response(200, headers=headers, stream=Pieces(*pieces))


async def run(bench: "Bench", *steps: str) -> list[dict[str, Any]]:
    await bench.worker.handle(bench.order(*steps, body={"stream": True}))
    return bench.replies()


async def test_chunks_are_numbered_from_zero_and_the_last_record_is_the_whole_reply(bench: "Bench") -> None:
    bench.upstream.on("openai", streaming(*WORDS, *END))
    *chunks, final = await run(bench, "openai/gpt-5")
    assert [chunk["heimdall"]["sequence"] for chunk in chunks] == list(range(len(chunks)))
    assert not any(chunk["heimdall"]["final"] for chunk in chunks)
    for chunk in chunks:
        assert ReplyChunk.model_validate(chunk).model == "openai/gpt-5"
    Reply.model_validate(final)
    assert final["choices"][0]["message"]["content"] == "one two"
    assert (final["heimdall"]["final"], final["heimdall"]["sequence"]) == (True, len(chunks))
    last = bench.producer.to(REPLIES)[-1]
    assert dict(last.headers)[h.FINAL] == b"true"


async def test_every_record_of_a_stream_carries_the_same_key_and_correlation_id(bench: "Bench") -> None:
    bench.upstream.on("openai", streaming(*WORDS, *END))
    await run(bench, "openai/gpt-5")
    records = bench.producer.to(REPLIES)
    assert {(record.key, dict(record.headers)[h.CORRELATION_ID]) for record in records} == {(b"corr-r1", b"corr-r1")}


async def test_another_provider_takes_over_before_the_first_chunk(bench: "Bench") -> None:
    bench.upstream.on("openai", lambda request: httpx.Response(503, json={"error": {"message": "busy"}}))
    bench.upstream.on("google", streaming(*WORDS, *END))
    *chunks, final = await run(bench, "openai/gpt-5", "google/gemini")
    assert final["heimdall"]["selected_provider"] == "google"
    assert chunks[0]["heimdall"]["sequence"] == 0


async def test_a_stream_cut_after_the_first_chunk_is_a_failure_and_nobody_else_goes_on(bench: "Bench") -> None:
    bench.upstream.on("openai", streaming(*WORDS))
    bench.upstream.on("google", streaming(*WORDS, *END))
    *chunks, final = await run(bench, "openai/gpt-5", "google/gemini")
    ErrorReply.model_validate(final)
    assert bench.upstream.called() == ["openai"]
    assert final["error"]["code"] == "provider_truncated"
    assert (final["heimdall"]["state"], final["heimdall"]["sequence"]) == ("failed", len(chunks))
    assert final["heimdall"]["attempts"][0]["cost_usd_micros"] > 0


async def test_a_stream_cut_before_the_first_chunk_is_answered_by_another_provider(bench: "Bench") -> None:
    bench.upstream.on("openai", streaming())
    bench.upstream.on("google", streaming(*WORDS, *END))
    *_, final = await run(bench, "openai/gpt-5", "google/gemini")
    assert [attempt["failure"] for attempt in final["heimdall"]["attempts"]] == ["provider_truncated", None]


async def test_a_chunk_that_cannot_be_sent_does_not_cost_the_answer(bench: "Bench") -> None:
    bench.upstream.on("openai", streaming(*WORDS, *END))
    bench.producer.once[REPLIES] = [ProducerFull("full")]
    replies = await run(bench, "openai/gpt-5")
    assert replies[-1]["choices"][0]["message"]["content"] == "one two"
    assert replies[0]["heimdall"]["sequence"] == 1
    assert len(bench.upstream.requests) == 1


def in_one(text: str, finish: str = "stop") -> Callable[[httpx.Request], httpx.Response]:
    """A server that ignores the wish for a stream."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": USAGE}
    return lambda request: httpx.Response(200, json=body)


async def test_a_whole_answer_in_the_place_of_a_stream_comes_as_one_chunk_and_the_reply(bench: "Bench") -> None:
    bench.upstream.on("openai", in_one("one two"))
    chunk, final = await run(bench, "openai/gpt-5", "google/gemini")
    assert bench.upstream.called() == ["openai"]
    ReplyChunk.model_validate(chunk)
    assert chunk["choices"][0]["delta"] == {"role": "assistant", "content": "one two"}
    assert (chunk["heimdall"]["sequence"], chunk["model"]) == (0, "openai/gpt-5")
    Reply.model_validate(final)
    assert final["choices"][0]["message"]["content"] == "one two"
    assert (final["heimdall"]["state"], final["heimdall"]["sequence"]) == ("answered", 1)
    assert final["usage"]["total_tokens"] == 12


async def test_half_a_whole_answer_in_the_place_of_a_stream_is_answered_by_another_provider(bench: "Bench") -> None:
    bench.upstream.on("openai", streaming(b'{"id": "c", "choices": [{"index": 0, "mess'))
    bench.upstream.on("google", streaming(*WORDS, *END))
    *chunks, final = await run(bench, "openai/gpt-5", "google/gemini")
    assert [attempt["failure"] for attempt in final["heimdall"]["attempts"]] == ["provider_truncated", None]
    assert chunks[0]["heimdall"]["sequence"] == 0


async def test_a_whole_answer_that_a_filter_cut_goes_to_the_models_chain_before_any_chunk_is_out(
    bench: "Bench",
) -> None:
    bench.failover(content_policy_fallbacks={"openai/gpt-5": ("google/gemini",)})
    bench.upstream.on("openai", in_one("one", "content_filter"))
    bench.upstream.on("google", in_one("one two"))
    chunk, final = await run(bench, "openai/gpt-5")
    assert [attempt["failure"] for attempt in final["heimdall"]["attempts"]] == ["provider_refused", None]
    assert chunk["choices"][0]["delta"]["content"] == final["choices"][0]["message"]["content"] == "one two"
