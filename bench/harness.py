"""What the benchmarks share: an embedded broker, workers in processes of their own, requests that differ, percentiles.

The broker and everything that feeds it live in the process that measures nothing; a worker is a child that measures its
own CPU time between "go" and the last record finished (`measured.py`), and answers on its standard output.
"""

import argparse
import asyncio
import itertools
import random
import statistics
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from heimdall_fleet.config import Config
from heimdall_fleet.demo_data import prompts
from heimdall_fleet.kafka.embedded import EmbeddedBroker
from heimdall_fleet.kafka.producer import SupervisedProducer, open_producer
from heimdall_fleet.kafka.records import Outgoing
from heimdall_fleet.kafka.settings import ProducerSettings
from heimdall_fleet.system.threads import pin_threads
from heimdall_schemas.topics import Topics

MIB = 1024 * 1024
PATIENCE_S = 600.0
BATCH = 64
"""Records of one partition that the feeder sends together."""


@dataclass(slots=True)
class Child:
    """A worker process that takes one JSON object a line and answers each with one."""

    process: Process

    async def ask(self, **command: Any) -> dict[str, Any]:
        self.tell(**command)
        return await self.answer()

    def tell(self, **command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(orjson.dumps(command, option=orjson.OPT_APPEND_NEWLINE))

    async def answer(self) -> dict[str, Any]:
        """Raises RuntimeError when the child ended or says nothing for ten minutes."""
        assert self.process.stdout is not None
        try:
            line = await asyncio.wait_for(self.process.stdout.readline(), PATIENCE_S)
        except TimeoutError:
            raise RuntimeError(f"a worker of the benchmark said nothing for {PATIENCE_S:.0f} s") from None
        if not line:
            raise RuntimeError("a worker of the benchmark ended early; its error is above")
        answer: dict[str, Any] = orjson.loads(line)
        return answer


@asynccontextmanager
async def child(*arguments: str, python: str = sys.executable) -> AsyncIterator[Child]:
    """Start `python ARGUMENTS…`, wait for its first line, and close its input when the block ends."""
    pin_threads()  # the children inherit it, as the workers have it from the command line's entry
    process = await asyncio.create_subprocess_exec(python, *arguments, stdin=PIPE, stdout=PIPE, limit=MIB)
    started = Child(process)
    try:
        await started.answer()
        yield started
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 15)
        except TimeoutError:
            process.kill()
            await process.wait()


@dataclass(frozen=True, slots=True)
class Site:
    """A running broker, a producer that feeds it, and a folder for configurations."""

    broker: EmbeddedBroker
    producer: SupervisedProducer
    folder: Path

    def topics(self, prefix: str) -> Topics:
        """Create the topics of one fleet."""
        topics = Topics(prefix)
        for topic in topics.all():
            self.broker.create_topic(topic.name, topic.partitions)
        return topics

    def config(self, prefix: str, fetch_max_wait_ms: int, providers: Mapping[str, Any], **sections: Any) -> Path:
        """Write a configuration for the fleet of that prefix."""
        written = {
            "version": 1,
            "kafka": {
                "bootstrap_servers": self.broker.bootstrap,
                "topic_prefix": prefix,
                "fetch_max_wait_ms": fetch_max_wait_ms,
            },
            "providers": dict(providers),
            **sections,
        }
        file = self.folder / f"{prefix}.yaml"
        file.write_text(yaml.safe_dump(written))
        return file

    async def feed(self, topic: str, records: Sequence[Outgoing]) -> None:
        """Spread the records over the topic's partitions, in batches as a busy producer makes them."""
        partitions = await self.producer.partition_count(topic)
        batches = [records[start : start + BATCH] for start in range(0, len(records), BATCH)]
        sent = [self.producer.send_batch(topic, number % partitions, batch) for number, batch in enumerate(batches)]
        await asyncio.gather(*sent)


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    async with AsyncExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory()))
        broker = parts.enter_context(EmbeddedBroker())
        producer = open_producer(broker.settings("bench-feeder"), ProducerSettings(linger_ms=0))
        await producer.start()
        parts.push_async_callback(producer.stop)
        yield Site(broker, producer, folder)


def authors() -> list[str]:
    """The authors of the candidates that a fleet has by default."""
    return sorted({model.split("/")[0] for model in Config().router.candidates()})


class Texts:
    """Requests of a wished size that differ: paragraphs of prose, questions and source code in a seeded order.

    A benchmark that repeats one row trains the branch predictor and the allocator on it.
    """

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self._numbers = itertools.count(1)
        self._pieces = _pieces()

    def bodies(self, size_bytes: int, count: int) -> list[bytes]:
        """Chat bodies of `size_bytes` each (to a few bytes), no two alike."""
        return [self._body(size_bytes) for _ in range(count)]

    def _body(self, size_bytes: int) -> bytes:
        pieces: list[str] = [f"Case {next(self._numbers)}."]
        room = size_bytes - len(_wrapped(""))
        while sum(map(len, pieces)) + len(pieces) < room:
            pieces.append(self._draw.choice(self._pieces))
        text = "\n".join(pieces)
        body = _wrapped(text)
        while len(body) > size_bytes and text:
            text = text[: -max(1, (len(body) - size_bytes) // 2)]
            body = _wrapped(text)
        return body


def _wrapped(text: str) -> bytes:
    return orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": text}], "temperature": 0.2})


def _pieces() -> list[str]:
    """Prompts of the demo, paragraphs of the project's pages, and functions of its own source."""
    root = Path(__file__).resolve().parent.parent
    pages = "\n\n".join(page.read_text("utf-8") for page in sorted([*root.glob("*.md"), *root.glob("docs/*.md")]))
    source = "\n\n\n".join(file.read_text("utf-8") for file in sorted(root.glob("models/heimdall_models/*.py"))[:12])
    questions = [message["content"] for prompt in prompts() for message in prompt.body["messages"]]
    paragraphs = [part for part in pages.split("\n\n") if 80 < len(part) < 900]
    functions = [part[:900] for part in source.split("\n\n\n") if len(part) > 80]
    return [*(text for text in questions if isinstance(text, str) and len(text) < 900), *paragraphs, *functions]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile."""
    ordered = sorted(values)
    return {"p50": ordered[len(ordered) // 2], "p99": ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]}


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the rounds' ratios: what disturbs a round disturbs both of its sides."""
    return round(statistics.median(a / b for a, b in zip(above, below, strict=True)), 2)


def show(figures: Mapping[str, Any], output: str) -> None:
    if output == "json":
        print(orjson.dumps(figures).decode())
        return
    for name, value in figures.items():
        print(f"{name:32} {value:>12}")


def parser(text: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("-o", "--output", choices=("text", "json"), default="text")
    made.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, measures nothing")
    return made


def in_turn(names: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Every name once a round, the order turned round by one each time."""
    for number in range(rounds):
        turn = number % len(names)
        for name in (*names[turn:], *names[:turn]):
            yield number, name
