"""The worker with a real judge, and a broker in memory: what is written, and a bundle that changes under load."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from heimdall_fleet.addresses import ReplyRules
from heimdall_fleet.dlq import Undertaker
from heimdall_fleet.kafka.records import Batch, Outgoing, Record
from heimdall_fleet.report.proof import prove
from heimdall_fleet.triage.emit import Desk
from heimdall_fleet.triage.pipeline import Bench, Written
from heimdall_fleet.triage.question import Questions
from heimdall_fleet.triage.read import ReadRules
from heimdall_fleet.triage.worker import TriageWorker
from heimdall_models.asked import DecisionInput
from heimdall_models.bundle import Bundle, load_bundle
from heimdall_models.cache import Memory
from heimdall_models.decide import decide
from heimdall_models.judge import Judge
from heimdall_models.record import Decided, audit_json
from heimdall_models.shipped import shipped
from heimdall_schemas import headers as h
from heimdall_schemas.audit import AUDIT
from heimdall_schemas.codec import Limits
from heimdall_schemas.order import read_order
from heimdall_schemas.request import read_request
from heimdall_schemas.topics import Topics

TOPICS = Topics("heimdall")
NOW_MS = 1_800_000_000_000
TTL_MS = 300_000


class Source:
    """Batches as they are put in; remembers which were committed."""

    def __init__(self) -> None:
        self.batches: asyncio.Queue[Batch | None] = asyncio.Queue()
        self.committed: list[int] = []
        self.commits: asyncio.Queue[int] = asyncio.Queue()

    async def next_batch(self) -> Batch | None:
        return await self.batches.get()

    def commit(self, batch: Batch) -> None:
        self.committed.append(batch.number)
        self.commits.put_nowait(batch.number)


class Broker:
    """Confirms everything at once."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []

    def send(self, record: Outgoing) -> "asyncio.Future[int]":
        return self.send_batch(record.topic, 0, [record])

    def send_batch(self, topic: str, partition: int, records: Sequence[Outgoing]) -> "asyncio.Future[int]":
        self.sent.extend(records)
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        done.set_result(len(self.sent))
        return done

    async def partition_count(self, topic: str) -> int:
        return 24

    async def flush(self, timeout_s: float) -> bool:
        return True

    def values(self, topic: str) -> list[dict[str, Any]]:
        return [orjson.loads(record.value or b"") for record in self.sent if record.topic == topic]


class Silence:
    def __init__(self) -> None:
        self.batches: list[Written] = []
        self.told: asyncio.Queue[Written] = asyncio.Queue()

    def batch(self, written: Written, size: int, duration_s: float) -> None:
        self.batches.append(written)
        self.told.put_nowait(written)

    def unsendable(self, record: Outgoing, error: Exception) -> None:
        raise AssertionError(f"unsendable: {record}")


@pytest.fixture
def bench(make: Callable[[Bundle], Judge]) -> Bench:
    desk = Desk(TOPICS, "triage-test-1", Undertaker(TOPICS.dlq, "w", "g", max_value_bytes=1_000_000), 12, 24)
    return Bench(
        rules=ReadRules(Limits(), ReplyRules.from_patterns(TOPICS, []), TTL_MS),
        judge=make(load_bundle(shipped("bundles/default"))),
        memory=Memory(decisions=None),
        clock=time.perf_counter,
        desk=desk,
    )


def requests(*bodies: dict[str, Any], start: int = 0) -> tuple[Record, ...]:
    return tuple(
        Record(TOPICS.requests, 3, at, NOW_MS, None, orjson.dumps(body), ((h.CE_ID, f"r-{at}".encode()),))
        for at, body in enumerate(bodies, start)
    )


def saying(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": [{"role": "user", "content": text}], **fields}


BODIES = (
    saying("hi"),
    saying("Prove that there are infinitely many primes.", heimdall={"alpha": 0.2, "tenant": "acme", "session": "s"}),
    saying("def f(x): return x", model="anthropic/claude-haiku-5.5", reasoning_effort="low"),
    saying("Look this up", tools=[{"type": "function", "function": {"name": "f"}}], max_tokens=100),
    saying("¿Qué hora es?", heimdall={"exclude": ["openai/"], "max_cost_usd": 0.01, "tags": {"team": "a"}}),
    saying("Again, in the same session", heimdall={"session": "s", "tenant": "acme", "ttl_ms": 1_500}),
)


async def finished(task: "asyncio.Task[None]", source: Source, batches: int) -> None:
    await task
    async with asyncio.timeout(5):
        for _ in range(batches):
            await source.commits.get()


async def running(bench: Bench, broker: Broker, source: Source) -> tuple[TriageWorker, "asyncio.Task[None]", Silence]:
    told = Silence()
    worker = TriageWorker(source, broker, bench, told, lambda: NOW_MS)
    return worker, asyncio.create_task(worker.run()), told


async def test_what_the_worker_records_is_byte_for_byte_what_decide_gives(bench: Bench) -> None:
    source, broker = Source(), Broker()
    source.batches.put_nowait(Batch(0, requests(*BODIES)))
    source.batches.put_nowait(None)
    _, task, _ = await running(bench, broker, source)
    await finished(task, source, 1)
    recorded = broker.values(TOPICS.audit)
    inputs = [
        DecisionInput(f"r-{at}", *read_request(orjson.dumps(body)), body.get("heimdall", {}).get("ttl_ms", TTL_MS))
        for at, body in enumerate(BODIES)
    ]
    answers = decide(inputs, bench.judge, Memory(decisions=None), time.perf_counter)
    given = [orjson.loads(audit_json(each, {})) for each in answers if isinstance(each, Decided)]
    assert len(recorded) == len(given) == len(BODIES)
    for one, other in zip(recorded, given, strict=True):
        AUDIT.validate_python(one)
        assert orjson.dumps(comparable(one)) == orjson.dumps(comparable(other))


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    """The record without what triage adds and without latencies."""
    left_out = ("correlation_id", "time", "worker", "tags", "decision_latency_ms")
    kept = {name: value for name, value in record.items() if name not in left_out}
    return {**kept, "features": {**kept["features"], "extraction_latency_ms": None}}


async def test_the_order_carries_the_decision_and_the_chain(bench: Bench) -> None:
    source, broker = Source(), Broker()
    source.batches.put_nowait(Batch(0, requests(*BODIES)))
    source.batches.put_nowait(None)
    _, task, _ = await running(bench, broker, source)
    await finished(task, source, 1)
    records = {value["request_id"]: value for value in broker.values(TOPICS.audit)}
    orders = [read_order(r.value, h.last(r.headers)) for r in broker.sent if r.topic.startswith("heimdall.dispatch.")]
    assert sorted(order.request_id for order in orders) == sorted(records)
    for order in orders:
        record = records[order.request_id]
        assert order.decision.items() <= record.items()
        assert [step.model for step in order.plan.steps] == record["chain"]
        assert (order.plan.tenant, order.plan.session) == (record["tenant"], record["session"])
        assert order.plan.pinned == (record["decision_type"] == "pinned")
    capped = next(order.plan for order in orders if order.request_id == "r-4")
    assert capped.max_cost_usd_micros == 10_000


async def test_another_bundle_serves_from_the_next_batch_on_and_no_request_fails(
    bench: Bench, make: Callable[[Bundle], Judge], bundle_copy: Callable[[int], Path]
) -> None:
    source, broker = Source(), Broker()
    worker, task, told = await running(replace(bench, memory=Memory()), broker, source)
    bodies = [saying(f"question {number}: why is {number} prime?") for number in range(640)]
    judges = [bench.judge, make(load_bundle(bundle_copy(2)))]
    for number in range(10):
        source.batches.put_nowait(Batch(number, requests(*bodies[64 * number : 64 * number + 64], start=64 * number)))
        await told.told.get()
        worker.judge_with(judges[number >= 4])
    source.batches.put_nowait(None)
    await finished(task, source, 10)
    served = [{orjson.loads(each.record_json)["bundle"] for each in written.decided} for written in told.batches]
    assert served == [{judges[0].bundle.hash}] * 5 + [{judges[1].bundle.hash}] * 5
    assert [len(written.decided) for written in told.batches] == [64] * 10
    assert not any(written.refused for written in told.batches)
    assert source.committed == list(range(10))


async def test_a_repeated_request_is_answered_from_the_cache_and_its_record_names_the_first(bench: Bench) -> None:
    source, broker = Source(), Broker()
    for number in range(2):
        source.batches.put_nowait(Batch(number, requests(BODIES[0], start=number)))
    source.batches.put_nowait(None)
    _, task, told = await running(replace(bench, memory=Memory()), broker, source)
    await finished(task, source, 2)
    first, copy = broker.values(TOPICS.audit)
    assert (copy["decision_type"], copy["cached_from"], copy["cache_hit"]) == ("cached", "r-0", True)
    assert copy["chain"] == first["chain"]
    assert [written.times.rows for written in told.batches] == [1, 0]
    AUDIT.validate_python(copy)


async def test_the_record_tells_of_the_question_what_the_fleet_was_told_to(bench: Bench) -> None:
    source, broker = Source(), Broker()
    worker, task, told = await running(bench, broker, source)
    bodies = [saying("Why so?", heimdall={"tenant": tenant}) for tenant in ("acme", "other")]
    for number in range(2):
        source.batches.put_nowait(Batch(number, requests(*bodies, start=2 * number)))
        await told.told.get()
        worker.tell_of(Questions(b"a secret of the fleet", frozenset({"acme"})))
    source.batches.put_nowait(None)
    await finished(task, source, 2)
    silent, _, kept, hashed = broker.values(TOPICS.audit)
    assert "question" not in silent
    assert "text" not in silent
    assert kept["text"] == "Why so?"
    assert "text" not in hashed
    assert kept["question"] == hashed["question"]
    assert "Why so?" not in orjson.dumps(hashed).decode()


async def test_a_challenger_changes_nothing_but_the_record(
    bench: Bench, make: Callable[[Bundle], Judge], bundle_copy: Callable[[int], Path]
) -> None:
    alone, beside = Broker(), Broker()
    challenger = make(load_bundle(bundle_copy(2)))
    for broker, second in ((alone, None), (beside, challenger)):
        source = Source()
        source.batches.put_nowait(Batch(0, requests(*BODIES)))
        source.batches.put_nowait(None)
        worker, task, _ = await running(replace(bench, memory=Memory(decisions=None)), broker, source)
        worker.judge_with(bench.judge, second)
        await finished(task, source, 1)
    recorded = beside.values(TOPICS.audit)
    assert {each["challenger"]["bundle"] for each in recorded} == {challenger.bundle.hash}
    for one, other in zip(recorded, alone.values(TOPICS.audit), strict=True):
        AUDIT.validate_python(one)
        said = one.pop("challenger")
        assert (said["bucket"], said["selected_model"]) == (one["bucket"], one["selected_model"])
        assert comparable(one) == comparable(other)


async def test_a_challenger_that_fails_is_dropped_and_the_batch_decided_without_it(bench: Bench) -> None:
    source, broker = Source(), Broker()
    worker, task, told = await running(bench, broker, source)
    worker.judge_with(bench.judge, replace(bench.judge, reader=None))  # type: ignore[arg-type]  # what a bug would do
    source.batches.put_nowait(Batch(0, requests(*BODIES)))
    source.batches.put_nowait(None)
    await finished(task, source, 1)
    assert worker.bench.challenger is None
    assert [len(written.decided) for written in told.batches] == [len(BODIES)]
    assert not any(written.refused for written in told.batches)


async def test_a_copy_beside_a_challenger_still_proves_to_be_the_first_decision(bench: Bench) -> None:
    source, broker = Source(), Broker()
    worker, task, told = await running(replace(bench, memory=Memory()), broker, source)
    worker.judge_with(bench.judge, bench.judge)
    for number in range(2):
        source.batches.put_nowait(Batch(number, requests(BODIES[0], start=number)))
        await told.told.get()
        worker.tell_of(Questions(b"a secret of the fleet"))
    source.batches.put_nowait(None)
    await finished(task, source, 2)
    first, copy = broker.values(TOPICS.audit)
    assert copy["decision_type"] == "cached"
    assert prove(first, bench.judge, copy)["differences"] == []
