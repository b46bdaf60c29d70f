"""A request travels the whole way, asked in every way that users ask."""

import asyncio
import json
import uuid
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from heimdall_fleet.client import CallerError, Cancelled, Expired, HeimdallClient, ProviderError
from heimdall_fleet.kafka.driver.reading import TopicReader
from heimdall_fleet.kafka.records import Record
from heimdall_fleet.kafka.settings import KafkaSettings
from heimdall_fleet.stack.local import Stack
from heimdall_schemas import headers as h
from heimdall_schemas.audit import AUDIT, DecisionRecord, OutcomeRecord
from heimdall_schemas.topics import Bucket

pytestmark = pytest.mark.asyncio(loop_scope="session")

HELLO = [{"role": "user", "content": "Hello, how are you?"}]
H44 = {
    "selected_model", "selected_provider", "bucket", "bucket_probabilities", "alpha_scores", "quality_score", "cost_score",
    "final_score", "decision_latency_ms", "cache_hit", "fallback_used", "fallback_reason", "guardrail_triggered",
    "decision_version",
}  # fmt: skip


async def everything(stack: Stack, *topics: str) -> list[Record]:
    settings = KafkaSettings(bootstrap_servers=stack.bootstrap, fetch_max_wait_ms=10)
    async with TopicReader(settings) as reader:
        return [record async for record in reader.read(topics)]


async def audit_of(stack: Stack, request_id: str, patience_s: float = 5.0) -> dict[str, Any]:
    """Decision and outcome of a request; the outcome comes after the reply."""
    found: dict[str, Any] = {}
    deadline = asyncio.get_running_loop().time() + patience_s
    while "outcome" not in found and asyncio.get_running_loop().time() < deadline:
        records = [AUDIT.validate_json(r.value or b"") for r in await everything(stack, stack.topics.audit)]
        found = {record.kind: record for record in records if record.request_id == request_id}
    return found


async def ask_raw(
    stack: Stack, value: bytes | None, headers: Sequence[tuple[str, bytes]] = (), patience_s: float = 10.0
) -> dict[str, Any]:
    """What a producer in any language does: a record in, the reply found by its correlation id."""
    mine = uuid.uuid4().bytes
    consumer = AIOKafkaConsumer(stack.topics.replies, bootstrap_servers=stack.bootstrap, fetch_max_wait_ms=10)
    async with consumer as replies, AIOKafkaProducer(bootstrap_servers=stack.bootstrap) as producer:
        await replies.seek_to_end()
        named = [(h.CORRELATION_ID, mine), *headers]
        await producer.send_and_wait(stack.topics.requests, value, key=b"k", headers=named)
        async with asyncio.timeout(patience_s):
            async for record in replies:
                if (h.CORRELATION_ID, mine) in record.headers:
                    reply: dict[str, Any] = json.loads(record.value)
                    return reply
    raise AssertionError("the replies ended")


async def test_a_plain_kafka_producer_gets_its_reply_by_correlation_id(stack: Stack) -> None:
    reply = await ask_raw(stack, json.dumps({"messages": HELLO}).encode())
    assert reply["object"] == "chat.completion"
    assert reply["choices"][0]["message"]["content"]
    assert reply["heimdall"]["state"] == "answered"
    assert reply["heimdall"]["decision"].keys() == H44
    assert reply["metadata"].keys() == {"bucket", "selected_model", "alpha_score", "cache_hit", "decision_latency_ms"}


async def test_the_client_gets_an_answer_and_the_audit_tells_how(stack: Stack, client: HeimdallClient) -> None:
    reply = await client.complete(messages=HELLO, tenant="acme", session="s-1")
    assert reply.text
    records = await audit_of(stack, reply.heimdall.request_id)
    decision, outcome = records["decision"], records["outcome"]
    assert isinstance(decision, DecisionRecord)
    assert isinstance(outcome, OutcomeRecord)
    assert decision.selected_model == outcome.selected_model == reply.model
    assert decision.model_dump().keys() >= H44
    assert outcome.cost_usd_micros == sum(attempt.cost_usd_micros for attempt in outcome.attempts) > 0
    assert outcome.tokens.completion == (reply.usage.completion_tokens if reply.usage else None)
    assert (decision.tenant, decision.session) == ("acme", "s-1")


async def test_an_order_carries_the_requests_own_bytes(stack: Stack) -> None:
    body = b'{ "messages" :[{"role":"user","content":"spaces stay"}],  "unknown_field": {"kept": [1, 2.50]} }'
    reply = await ask_raw(stack, body)
    orders = await everything(stack, *(stack.topics.dispatch(bucket) for bucket in Bucket))
    mine = [o for o in orders if h.last(o.headers)[h.REQUEST_ID].decode() == reply["heimdall"]["request_id"]]
    assert [order.value for order in mine] == [body]


async def test_a_stream_is_numbered_chunks_and_then_the_whole_reply(client: HeimdallClient) -> None:
    stream = client.stream(messages=HELLO)
    chunks = [chunk async for chunk in stream]
    said = "".join(chunk.text for chunk in chunks)
    assert [chunk.heimdall.sequence for chunk in chunks] == list(range(len(chunks)))
    assert stream.final is not None
    assert said == stream.final.text
    assert stream.final.heimdall.final


async def test_a_failing_model_is_followed_by_the_next_one(stack: Stack, client: HeimdallClient) -> None:
    reply = await client.complete(messages=HELLO, candidates=["sick/one", "openai/gpt-6-luna"], alpha=0.0)
    assert reply.heimdall.state == "answered"
    assert reply.model == "openai/gpt-6-luna" or not reply.heimdall.attempts[0].failure


async def test_a_pinned_model_that_fails_ends_with_every_attempt_listed(client: HeimdallClient) -> None:
    """It fails at once while its provider is tried, and waits for the provider while the circuit is open."""
    with pytest.raises((ProviderError, Expired)) as failed:
        await client.complete(messages=HELLO, model="sick/one", deadline=timedelta(seconds=6))
    if failed.value.heimdall is not None:
        assert {attempt.provider for attempt in failed.value.heimdall.attempts} <= {"sick"}


async def test_a_call_that_failed_is_told_in_the_log_that_the_addresses_name(
    stack: Stack, client: HeimdallClient
) -> None:
    with pytest.raises((ProviderError, Expired)):
        await client.complete(messages=HELLO, model="sick/one", deadline=timedelta(seconds=6))
    log = Path(stack.addresses()["logs"]["dispatch"])
    told = [json.loads(line) for line in log.read_text().splitlines()]
    assert ("sick", "provider_error", 500) in {
        (line["provider"], line["failure"], line["status"]) for line in told if line["action"] == "attempt_failed"
    }


async def test_an_unknown_model_is_refused_by_name(client: HeimdallClient) -> None:
    with pytest.raises(CallerError, match="nobody/nothing"):
        await client.complete(messages=HELLO, model="nobody/nothing")


async def test_a_deadline_ends_a_slow_call_and_is_not_paid_twice(stack: Stack, client: HeimdallClient) -> None:
    handle = await client.submit(messages=HELLO, model="slow/one", deadline=timedelta(seconds=1.5))
    with pytest.raises(Expired):
        await handle.result()
    outcome = (await audit_of(stack, handle.request_id))["outcome"]
    assert outcome.state == "expired"
    assert len(outcome.attempts) <= 1


async def test_a_running_request_can_be_cancelled(stack: Stack, client: HeimdallClient) -> None:
    handle = await client.submit(messages=HELLO, model="slow/one", deadline=timedelta(seconds=15))
    await asyncio.sleep(0.3)
    await handle.cancel()
    with pytest.raises(Cancelled):
        await handle.result(timedelta(seconds=20))
    assert (await audit_of(stack, handle.request_id))["outcome"].state == "cancelled"


BAD = {
    "not json": b"hello",
    "not utf-8": b'{"messages":[{"role":"user","content":"\xff"}]}',
    "deep": b'{"messages":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "no messages": b'{"messages":[]}',
    "unknown role": b'{"messages":[{"role":"wizard","content":"hi"}]}',
    "empty": b"",
    "no value": None,
}


@pytest.mark.parametrize("value", BAD.values(), ids=BAD.keys())
async def test_a_record_that_is_no_request_is_answered_and_kept_as_a_dead_letter(
    stack: Stack, value: bytes | None
) -> None:
    reply = await ask_raw(stack, value, [(h.CE_ID, b"bad-" + uuid.uuid4().hex.encode())])
    assert reply["error"]["code"].startswith("caller_")
    assert reply["heimdall"]["state"] == "dead_lettered"
    letters = [h.last(r.headers) for r in await everything(stack, stack.topics.dlq)]
    mine = [letter for letter in letters if letter[h.REQUEST_ID].decode() == reply["heimdall"]["request_id"]]
    assert len(mine) == 1
    assert mine[0][h.DLQ_REASON].decode() == reply["error"]["code"]


async def test_a_bad_record_does_not_disturb_its_neighbours(stack: Stack, client: HeimdallClient) -> None:
    asks = [client.complete(messages=HELLO) for _ in range(10)]
    bad = [ask_raw(stack, b"{broken") for _ in range(3)]
    replies = await asyncio.gather(*asks, *bad)
    assert sum(isinstance(reply, dict) for reply in replies) == 3


async def test_a_reply_topic_that_is_not_allowed_is_refused_and_never_written(stack: Stack) -> None:
    before = len(await everything(stack, stack.topics.dlq))
    async with AIOKafkaProducer(bootstrap_servers=stack.bootstrap) as producer:
        headers = [(h.REPLY_TO, stack.topics.audit.encode()), (h.CE_ID, b"wrong-topic")]
        await producer.send_and_wait(stack.topics.requests, json.dumps({"messages": HELLO}).encode(), headers=headers)
    found = await audit_of(stack, "wrong-topic")
    assert found["outcome"].failure == "caller_reply_topic"
    assert len(await everything(stack, stack.topics.dlq)) == before + 1
