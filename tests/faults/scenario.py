"""A run from its setup to its verdict: what a test of a fault is written in."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from tests.brokers.clusters import Reachable
from tests.faults.checker import check
from tests.faults.fleet import Fleet, Setup, Worker, open_fleet
from tests.faults.history import History, read, write
from tests.faults.load import Load
from tests.faults.peek import fetch, gauge
from tests.faults.recorder import record

from heimdall_fleet.kafka.driver.admin import RawAdmin
from heimdall_fleet.kafka.driver.reading import PartitionReader, TopicReader
from heimdall_fleet.kafka.errors import KafkaFailure
from heimdall_schemas.topics import Delay


@dataclass(slots=True)
class Scenario:
    """A running fleet, its load, and what the reply topic has said so far (request id to states)."""

    fleet: Fleet
    load: Load
    told: dict[str, list[str]] = field(default_factory=dict)

    async def settled(self, timeout_s: float = 60.0) -> None:
        """Wait until every request that can be answered has a reply, and the groups have committed to the ends.

        Gives up after the time: what is missing is for the checker to say.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while self.unanswered():  # noqa: ASYNC110  # the wire has no event for it
                    await asyncio.sleep(0.05)
                while not await self._committed():  # noqa: ASYNC110  # nor for this
                    await asyncio.sleep(0.3)
        except TimeoutError:
            return

    async def until(self, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Wait for a condition; raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110  # what is waited for knows nothing of tests
                await asyncio.sleep(0.02)

    async def answers(self, count: int, timeout_s: float = 60.0) -> None:
        await self.until(lambda: len(self.told) >= count, timeout_s)

    async def under_load(self, what: Coroutine[Any, Any, None], per_second: float = 30.0) -> None:
        """Ask at a steady rate for as long as it takes, and wait until all is settled."""
        doing = asyncio.create_task(what)
        while not doing.done():
            await self.load.many(round(per_second), per_second)
        await doing
        await self.settled()

    async def calls(self, at_least: int, timeout_s: float = 30.0) -> None:
        """Wait until the providers have seen so many calls."""
        async with asyncio.timeout(timeout_s):
            while len(await self.fleet.calls()) < at_least:  # noqa: ASYNC110  # asked over HTTP
                await asyncio.sleep(0.05)

    def unanswered(self) -> set[str]:
        asked = {sent.request_id for sent in self.load.sent if sent.acknowledged and not sent.deaf}
        return asked - self.told.keys()

    async def _committed(self) -> bool:
        fleet = self.fleet
        groups = {"triage": [fleet.topics.requests]}
        groups["dispatch"] = [topic.name for topic in fleet.topics.all() if topic.entity.startswith("dispatch.")]
        groups["retry"] = [fleet.topics.retry(Delay.SHORT)]
        reader = PartitionReader(fleet.kafka, 10.0)
        try:
            await reader.start()
            async with RawAdmin(fleet.kafka) as admin:
                for group, topics in groups.items():
                    places = [place for topic in topics for place in await reader.partitions(topic)]
                    at = await admin.group_offsets(f"{fleet.topics.prefix}.{group}")
                    for place, end in (await reader.ends(places)).items():
                        if end and (place not in at or at[place].position < end):
                            return False
        except KafkaFailure:
            return False
        finally:
            await reader.stop()
        return True

    async def replies(self) -> dict[str, dict[str, Any]]:
        """The last whole reply for each request id, as the fleet's own reply topic has them now."""
        async with TopicReader(self.fleet.kafka) as reader:
            bodies = [orjson.loads(each.value or b"{}") async for each in reader.read([self.fleet.topics.replies])]
        return {body["heimdall"]["request_id"]: body for body in bodies if "state" in body["heimdall"]}

    async def in_flight(self, worker: Worker) -> float:
        return gauge(await fetch(worker.port, "/metrics"), "heimdall_dispatch_in_flight")

    def _reply_topics(self) -> list[str]:
        topics = self.fleet.topics
        return [topics.replies, *(f"{topics.prefix}.{name}" for name in self.fleet.setup.extra_topics)]

    async def listen(self) -> None:
        """Follow the reply topic until cancelled; begin again when the broker went away."""
        while True:
            try:
                async with TopicReader(self.fleet.kafka) as reader:
                    async for record_ in reader.read(self._reply_topics(), follow=True):
                        facts = orjson.loads(record_.value or b"{}").get("heimdall", {})
                        if "state" in facts:
                            self.told.setdefault(facts["request_id"], []).append(facts["state"])
            except KafkaFailure:
                self.told.clear()
                await asyncio.sleep(0.5)

    async def verdict(self) -> "Verdict":
        """Stop the fleet, write the history, and let the checker read it back. Fails with what it finds."""
        await self.fleet.stop()
        path = self.fleet.setup.directory / "history.jsonl"
        write([*self.fleet.events, *await record(self.fleet)], path)
        history = read(path)
        found = check(history)
        head = f"seed {self.fleet.setup.seed}; history and logs in {path.parent}"
        assert not found, "\n".join([head, f"{len(found)} violations", *found[:25]])
        return Verdict(history)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A history that holds every invariant, and its figures."""

    history: History

    @property
    def states(self) -> Counter[str]:
        """Terminal states, a request once."""
        return Counter({reply.request_id: reply.state for reply in self.history.reply}.values())

    @property
    def extra_calls(self) -> int:
        """Calls for a request by another worker than the one that called first."""
        first: dict[str, str] = {}
        return sum(first.setdefault(call.request_id, call.worker) != call.worker for call in self.history.call)

    @property
    def copies(self) -> int:
        """Reply records beyond one a request."""
        return len(self.history.reply) - len({reply.request_id for reply in self.history.reply})

    def figures(self) -> dict[str, object]:
        faults = Counter(fault.kind for fault in self.history.fault if fault.kind != "rebalance")
        return {
            "seed": self.history.run.seed,
            "requests": sum(sent.acknowledged for sent in self.history.sent),
            "states": dict(self.states),
            "faults": dict(faults),
            "calls": len(self.history.call),
            "extra_calls": self.extra_calls,
            "copies": self.copies,
        }


@asynccontextmanager
async def scenario(cluster: Reachable, setup: Setup) -> AsyncIterator[Scenario]:
    async with open_fleet(cluster, setup) as fleet, Load(fleet) as load:
        running = Scenario(fleet, load)
        listening = asyncio.create_task(running.listen())
        try:
            yield running
        finally:
            listening.cancel()
            await asyncio.wait({listening})
