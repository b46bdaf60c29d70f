"""Faults 13, 14, 15, 16, 24 and 25: records that come twice, cannot be read, are too large, or ask for too much."""

import asyncio
import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from tests.brokers.clusters import ApacheCluster
from tests.brokers.redis import redis_server
from tests.faults.faults import offsets_to_the_beginning
from tests.faults.figures import Tell
from tests.faults.fleet import PLAIN, Setup
from tests.faults.history import Reply, Sent
from tests.faults.scenario import scenario

from heimdall_schemas import headers as h
from heimdall_schemas.topics import Bucket

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

HELLO = [{"role": "user", "content": "Hello, how are you?"}]
LONGEST_LOG_LINE = 16_000


async def test_the_same_record_twice_is_called_once_and_answered_alike(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    async with scenario(apache_broker, Setup(313, tmp_path, dispatch=2)) as run:
        asks = [run.load.ask() for _ in range(50)]
        await run.load.send([twin for ask in asks for twin in (ask, ask)])
        await run.answers(50)
        await run.load.send(asks[:20])
        await run.settled()
        verdict = await run.verdict()
        tell(verdict.figures())
        assert verdict.states == {"answered": 50}
        assert len(verdict.history.call) == 50


async def test_offsets_that_an_operator_moved_to_the_beginning_repeat_the_answers_and_call_nobody(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    with redis_server() as redis:
        async with scenario(apache_broker, Setup(318, tmp_path, settings={"state": {"url": redis.url}})) as run:
            await run.load.many(40)
            await run.settled()
            await run.fleet.terminate(run.fleet.alive("dispatch")[0])
            orders = [run.fleet.topics.dispatch(bucket) for bucket in Bucket]
            await offsets_to_the_beginning(run.fleet, "dispatch", orders)
            await run.fleet.start("dispatch")
            await run.load.many(5)
            await run.settled()
            verdict = await run.verdict()
            tell(verdict.figures())
            assert verdict.states == {"answered": 45}
            assert len(verdict.history.call) == 45
            assert verdict.copies >= 40


async def test_requests_may_be_compressed_with_any_codec_that_kafka_knows(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    async with scenario(apache_broker, Setup(319, tmp_path)) as run:
        for codec in ("gzip", "snappy", "lz4", "zstd"):
            await run.load.compressed(codec, [run.load.ask() for _ in range(5)])
        await run.settled()
        verdict = await run.verdict()
        tell(verdict.figures())
        assert verdict.states == {"answered": 20}


async def test_no_chain_of_attempts_costs_more_than_its_request_allows(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    dear = {"price": {"input": 1_000, "output": 10_000}, "context_window": 100_000}
    behaviours = {"*": {**PLAIN, "output_tokens": {"median": 400}}, "hangs": {"hang": 1.0}}
    settings: dict[str, dict[str, Any]] = {
        "models": {"hangs/one": dear, "dear/one": dear},
        "dispatch": {"fallbacks": {"hangs/one": ["dear/one"]}},
        "provider_defaults": {"network": {"timeout": "5s", "max_retries": 0}},
    }
    setup = Setup(322, tmp_path, behaviours=behaviours, more_authors=("hangs", "dear"), settings=settings)
    async with scenario(apache_broker, setup) as run:
        for ceiling_usd in (0.0001, 0.05, 1.0, 20.0):
            await run.load.many(10, model="hangs/one", options={"max_cost_usd": ceiling_usd})
        await run.settled()
        verdict = await run.verdict()
        tell(verdict.figures())
        assert verdict.states["failed"] >= 10
        assert verdict.states["answered"] >= 10


BAD_VALUES: dict[str, bytes | None] = {
    "not json": b"hello",
    "not utf-8": b'{"messages":[{"role":"user","content":"\xff"}]}',
    "deep": b'{"messages":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "no messages": b'{"messages":[]}',
    "unknown role": b'{"messages":[{"role":"wizard","content":"hi"}]}',
    "empty": b"",
    "no value": None,
    "an array": b"[1, 2, 3]",
    "a huge number": b'{"messages":[{"role":"user","content":"x"}],"max_tokens":' + b"9" * 4_000 + b"}",
}


async def test_poison_is_buried_once_each_and_its_neighbours_do_not_feel_it(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    async with scenario(apache_broker, Setup(314, tmp_path)) as run:
        alone = await run.load.many(100, 50)
        await run.answers(100)
        poison = [run.load.raw(value) for value in BAD_VALUES.values() for _ in range(5)]
        poison += [run.load.raw(b"{}", *(("x", b"y"),) * 100), run.load.raw(b"{}", ("x", b"y" * 30_000))]
        among, _ = await asyncio.gather(run.load.many(100, 50), run.load.send(poison, 25))
        fine = await run.load.send(
            [run.load.raw(body(), key=None), run.load.raw(body(), (h.CORRELATION_ID, b"\x00\xff"))]
        )
        await run.settled()
        verdict = await run.verdict()
        tell(verdict.figures() | {"poison": len(poison)})
        letters = Counter(letter.request_id for letter in verdict.history.letter)
        assert letters == {ask.request_id: 1 for ask in poison}
        assert {letter.reason for letter in verdict.history.letter} <= {"caller_bad_request", "caller_too_large"}
        assert verdict.states == {"answered": 200 + len(fine), "dead_lettered": len(poison)}
        assert latency_s(verdict.history.reply, among) < 2 * latency_s(verdict.history.reply, alone) + 0.3


def body(**more: object) -> bytes:
    return orjson.dumps({"messages": HELLO, **more})


def latency_s(replies: list[Reply], sent: list[Sent]) -> float:
    """Median of reply minus acknowledgement."""
    at = {reply.request_id: reply.at for reply in replies}
    return statistics.median(at[each.request_id] - each.at for each in sent)


async def test_at_the_size_limits_there_is_an_answer_or_an_error_and_the_partition_goes_on(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    settings = {"models": {"vast/one": {"price": {"input": 1, "output": 1}, "context_window": 4_000_000}}}
    behaviours = {"*": PLAIN, "vast": {"output_tokens": {"median": 400_000}}}
    setup = Setup(315, tmp_path, behaviours=behaviours, more_authors=("vast",), settings=settings)
    async with scenario(apache_broker, setup) as run:
        key = b"one partition for all"
        large = run.load.raw(sized(1_499_000, model="google/gemini-3.5-flash-lite"), key=key)
        over = run.load.raw(sized(1_600_000), key=key)
        reply_over = run.load.raw(body(model="vast/one"), key=key)
        after = [run.load.raw(body(), key=key) for _ in range(5)]
        await run.load.send([large, over, reply_over, *after])
        await run.settled()
        found = await run.replies()
        verdict = await run.verdict()
        tell(verdict.figures())
        assert found[large.request_id]["heimdall"]["state"] == "answered"
        assert found[over.request_id]["error"]["code"] == "caller_too_large"
        assert found[reply_over.request_id]["error"]["code"] == "heimdall_reply_too_large"
        assert all(found[ask.request_id]["heimdall"]["state"] == "answered" for ask in after)


def sized(size_bytes: int, **more: object) -> bytes:
    """A readable request of so many bytes."""
    empty = orjson.dumps({"messages": [{"role": "user", "content": ""}], **more})
    text = ("the quick brown fox " * (size_bytes // 20 + 1))[: size_bytes - len(empty)]
    return orjson.dumps({"messages": [{"role": "user", "content": text}], **more})


async def test_one_broken_order_among_good_ones_is_the_only_dead_letter(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    async with scenario(apache_broker, Setup(316, tmp_path)) as run:
        asking = asyncio.create_task(run.load.many(100, 50))
        await run.answers(20)
        headers = [(h.REQUEST_ID, b"broken"), (h.CORRELATION_ID, b"c-broken")]
        async with AIOKafkaProducer(bootstrap_servers=apache_broker.bootstrap) as producer:
            topic = run.fleet.topics.dispatch(Bucket.CHEAP)
            found = await producer.send_and_wait(topic, b"{}", headers=headers, partition=1)
        run.fleet.events.append(Sent(found.timestamp / 1000, "broken", "c-broken", -1, -1, 1e12, False))
        await asking
        await run.settled()
        verdict = await run.verdict()
        tell(verdict.figures())
        assert verdict.states == {"answered": 100, "dead_lettered": 1}
        assert [letter.request_id for letter in verdict.history.letter] == ["broken"]


NASTY = ['a"b\\c', "two\r\nlines", "\x1b[31mred\x1b[0m", '{"level":"info"}', "\u2028\u202e", "\x00", "x" * 1_000_000]


async def test_nasty_text_in_every_field_never_breaks_a_log_line(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    async with scenario(apache_broker, Setup(324, tmp_path)) as run:
        asks = [run.load.raw(body(heimdall={field: text})) for text in NASTY for field in ("tenant", "session", "user")]
        asks += [run.load.raw(body(model=text)) for text in NASTY]
        asks += [run.load.deaf(body(), (h.REPLY_TO, text.encode()[:500_000])) for text in NASTY]
        asks += [run.load.raw(body(), ("x", text.encode()[:500_000])) for text in NASTY]
        await run.load.send(asks)
        await run.load.many(20)
        await run.settled()
        verdict = await run.verdict()
        tell(verdict.figures())
        for worker in run.fleet.workers:
            lines = worker.child.log.read_bytes().split(b"\n")[:-1]
            assert all(isinstance(orjson.loads(line), dict) for line in lines)
            assert max(map(len, lines)) <= LONGEST_LOG_LINE
            assert not any(byte < 0x20 for line in lines for byte in line)


async def test_a_reply_goes_only_where_replies_may_go(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell, unique: Callable[[str], str]
) -> None:
    prefix = unique("fault")
    settings = {"kafka": {"reply_topics": [f"{prefix}.mine*"]}}
    extra = ("mine.orders", "theirs")
    async with scenario(
        apache_broker, Setup(325, tmp_path, settings=settings, extra_topics=extra, prefix=prefix)
    ) as run:
        topics = run.fleet.topics
        forbidden = [topics.audit, topics.dlq, topics.requests, topics.dispatch(Bucket.MID), topics.cancel,
                     "__consumer_offsets", f"{prefix}.theirs", f"{prefix}.mine.missing", f"{prefix}.mine" + "x" * 300,
                     f"{prefix}.mi.*", ".*", "../etc/passwd", " "]  # fmt: skip
        refused = [run.load.deaf(body(), (h.REPLY_TO, name.encode())) for name in forbidden]
        beyond = run.load.deaf(body(), (h.REPLY_TO, f"{prefix}.mine.orders".encode()), (h.REPLY_PARTITION, b"99"))
        allowed = run.load.raw(body(), (h.REPLY_TO, f"{prefix}.mine.orders".encode()))
        await run.load.send([*refused, beyond, allowed])
        await run.settled()
        verdict = await run.verdict()
        tell(verdict.figures())
        told = {reply.request_id: reply.topic for reply in verdict.history.reply}
        assert told == {allowed.request_id: f"{prefix}.mine.orders"}
        outcomes = {outcome.request_id: outcome.failure for outcome in verdict.history.outcome}
        assert {outcomes[ask.request_id] for ask in (*refused, beyond)} == {"caller_reply_topic"}
