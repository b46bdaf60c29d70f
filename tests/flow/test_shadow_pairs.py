"""From a request to a training set with both arms: a whole fleet, every request shadowed, every pair judged."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from heimdall_fleet.client import HeimdallClient
from heimdall_fleet.kafka.driver.reading import TopicReader
from heimdall_fleet.kafka.settings import KafkaSettings
from heimdall_fleet.learn.dataset import Layout, read_manifest
from heimdall_fleet.learn.replay import Job, open_dataset, replay
from heimdall_fleet.learn.rewards import SIGNALS
from heimdall_fleet.learn.settle import Terms
from heimdall_fleet.learn.sources import FileSource
from heimdall_fleet.stack.local import Stack, StackOptions, local_stack
from heimdall_models.learning.logged import read_logged
from heimdall_models.learning.pairs import with_shadows
from heimdall_schemas.audit import AUDIT, ShadowRecord

pytestmark = pytest.mark.slow

SMALL, LARGE = "small/one", "large/one"
PRICE = {"context_window": 100_000, "price": {"input": 1, "output": 1}}
PATIENCE_S = 20.0
REQUESTS = 12


@asynccontextmanager
async def judge() -> AsyncIterator[str]:
    """A provider that finds the answer it sees first bad and the other one good; its address."""
    message = {"role": "assistant", "content": '{"a": 0.25, "b": 0.75}'}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    body = orjson.dumps(
        {"id": "j", "object": "chat.completion", "created": 1, "model": "one", "choices": [choice], "usage": usage}
    )
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        sizes = [line.split(b":")[1] for line in request.splitlines() if line.lower().startswith(b"content-length:")]
        await reader.readexactly(int(sizes[0]))
        writer.write(head % len(body) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


def settings(judge_url: str) -> dict[str, Any]:
    return {
        "models": {SMALL: PRICE, LARGE: PRICE, "arbiter/one": PRICE},
        "providers": {
            "arbiter": {"type": "custom", "base_url": judge_url, "keys": [{"name": "k", "value": "sk-judge"}]}
        },
        "router": {"cheap_candidates": [SMALL], "mid_candidates": [SMALL, LARGE], "hard_candidates": [LARGE, SMALL]},
        "learning": {"shadow": {"share": 1.0, "budget_usd_per_day": 1}, "judge": {"model": "arbiter/one"}},
    }


async def audit_of(stack: Stack) -> list[bytes]:
    """The whole audit, once every request has its shadow there."""
    async with asyncio.timeout(PATIENCE_S), TopicReader(KafkaSettings(bootstrap_servers=stack.bootstrap)) as reader:
        found: list[bytes] = []
        async for record in reader.read([stack.topics.audit], follow=True):
            found.append(record.value or b"")
            if sum(b'"kind":"shadow"' in value for value in found) == REQUESTS:
                return found
    raise AssertionError("the audit ended")


async def test_every_request_has_two_answers_in_the_training_set_and_its_asker_one(tmp_path: Path) -> None:
    async with judge() as judge_url:
        options = StackOptions(tmp_path / "stack", settings=settings(judge_url), more_authors=("small", "large"))
        async with local_stack(options) as stack, HeimdallClient(stack.bootstrap) as client:
            asked = [
                await client.submit(messages=[{"role": "user", "content": f"Name {n} fish"}]) for n in range(REQUESTS)
            ]
            replies = await asyncio.gather(*(handle.result() for handle in asked))
            values = await audit_of(stack)
            async with TopicReader(KafkaSettings(bootstrap_servers=stack.bootstrap)) as reader:
                told = [record.value async for record in reader.read([stack.topics.replies])]
    assert len(told) == REQUESTS
    shadows = [found for value in values if isinstance(found := AUDIT.validate_json(value), ShadowRecord)]
    served = {reply.heimdall.request_id: reply.model for reply in replies}
    assert {each.request_id: each.served_model for each in shadows} == served
    assert all(each.state == "answered" and {each.model, each.served_model} == {SMALL, LARGE} for each in shadows)

    audit = tmp_path / "audit.jsonl"
    audit.write_bytes(b"\n".join(values) + b"\n")
    dataset = tmp_path / "data"
    job = Job(dataset, Terms(dict.fromkeys(SIGNALS, 1.0), retry_within=timedelta(minutes=10)))
    await replay(job, FileSource([audit], {}), open_dataset(dataset, resume=False))
    counted = read_manifest(Layout(dataset))["shadows"]
    assert (counted["paired"], counted["judged"]) == (REQUESTS, REQUESTS)
    logged = read_logged(dataset)
    both = sorted(zip(logged.shadows.beside.tolist(), logged.shadows.reward.tolist(), strict=True))
    assert set(both) <= {(0.25, 0.75), (0.75, 0.25)}
    rows = with_shadows(logged)
    assert len(rows) == 2 * REQUESTS
    assert sorted(rows.served_model.tolist()) == [LARGE] * REQUESTS + [SMALL] * REQUESTS
