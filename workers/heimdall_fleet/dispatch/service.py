"""A dispatch worker as a process runs it: its intakes, and the side tasks that keep it honest."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from heimdall_fleet.broker import RETRY_S, Seen, broker_check, show_group, until_possible
from heimdall_fleet.dispatch.capacity.account import Account, reread
from heimdall_fleet.dispatch.capacity.pool import KeysOut
from heimdall_fleet.dispatch.capacity.probe import ask, is_up, models_request
from heimdall_fleet.dispatch.room import Room
from heimdall_fleet.dispatch.settings import ProviderSettings
from heimdall_fleet.dispatch.worker import DispatchWorker
from heimdall_fleet.kafka.driver.reading import TopicReader
from heimdall_fleet.kafka.errors import KafkaFailure
from heimdall_fleet.kafka.facts import GroupFacts
from heimdall_fleet.kafka.intake import Intake
from heimdall_fleet.kafka.producer import SupervisedProducer
from heimdall_fleet.observe.health import Check, Health
from heimdall_fleet.observe.metrics import Metrics
from heimdall_fleet.providers.http import HttpClient
from heimdall_fleet.service import beside
from heimdall_fleet.state.base import StateUnavailable
from heimdall_schemas.topics import Bucket

log = logging.getLogger(__name__)

TEND_EVERY_S = 1.0
REREAD_KEYS_EVERY_S = 300.0
RENEWALS_PER_LEASE = 4
NOT_ALONE = (
    "state.url is memory:// and this worker is not the only one: after a crash or a pause of a worker its requests may be "
    "called and answered twice, and its calls are not in the audit; set state.url to a Redis that all workers share"
)


@dataclass(frozen=True, slots=True)
class Wires:
    """What connects the worker to the outside. `cancels` opens a reader of the cancel topic."""

    orders: Intake
    resting: Intake
    producer: SupervisedProducer
    cancels: Callable[[], AbstractAsyncContextManager[TopicReader]]


@dataclass(slots=True)
class DispatchService:
    worker: DispatchWorker
    wires: Wires
    account: Account
    metrics: Metrics
    _order_partitions: int = 0
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _reread_now: asyncio.Event = field(default_factory=asyncio.Event)
    _configured: asyncio.Event = field(default_factory=asyncio.Event)
    _replaced: list[HttpClient] = field(default_factory=list)
    """Clients that calls under way may still use."""

    def check_into(self, health: Health) -> None:
        """What `/readyz` and `/health` say of this worker."""
        health.add("kafka", lambda: broker_check(self._group(), self.wires.producer.facts()))
        health.add("providers", self._providers_check)
        health.add("keys", lambda: keys_check(self._keys_out()))
        health.add("state", self._state_check)

    async def run(self) -> None:
        await until_possible(self.wires.producer.start, "connecting to the broker", self._stopping)
        await until_possible(self._count_partitions, "looking for the fleet's topics", self._stopping)
        await reread(self.account, self.worker.room.pool)
        intakes = [asyncio.create_task(each.run()) for each in (self.wires.orders, self.wires.resting)]
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            async with beside(self._side_tasks(), self.stop):
                await asyncio.wait({*intakes, stopped}, return_when=asyncio.FIRST_COMPLETED)
                self.wires.orders.stop()
                self.wires.resting.stop()
                await asyncio.wait(intakes)
        finally:
            stopped.cancel()
            await self.wires.producer.stop()
            clients = (*self.worker.room.clients.values(), *self._replaced)
            await asyncio.gather(*(client.aclose() for client in clients))
            await self.worker.room.state.close()
        for task in intakes:
            task.result()

    def stop(self) -> None:
        self._stopping.set()

    def configure(self, account: Account, providers: Iterable[ProviderSettings], room: Room) -> None:
        """The configuration has changed: new orders are answered in the new room, with the keys that there are now.

        Orders under way go on in the old one; the pool is the same.
        """
        kept = room.clients.values()
        self._replaced += [client for client in self.worker.room.clients.values() if client not in kept]
        room.pool.configure(providers)
        self.worker.room = room
        self.account = account
        self._reread_now.set()
        self._configured.set()

    def _side_tasks(self) -> tuple[Coroutine[Any, Any, None], ...]:
        follow = (self._follow_cancels(), self._reread_keys(), self._probe_providers())
        return self._tend(), self._renew_reservations(), *follow

    async def _count_partitions(self) -> None:
        room = self.worker.room
        count = await room.producer.partition_count(room.topics.audit)
        self.worker.room = replace(room, settings=replace(room.settings, audit_partitions=count))
        orders = [await room.producer.partition_count(room.topics.dispatch(bucket)) for bucket in Bucket]
        self._order_partitions = sum(orders)

    async def _tend(self) -> None:
        """Stop intake while nearly everything fails, and keep the gauges true."""
        seen, warned = Seen(), False
        while True:
            await asyncio.sleep(TEND_EVERY_S)
            orders = self.wires.orders
            if not warned and (warned := self._state_check().state == "degraded"):
                log.warning("%s", NOT_ALONE, extra={"action": "state_not_shared"})
            if self.worker.accepts():
                orders.resume()
            else:
                orders.pause()
            facts = orders.facts()
            seen = show_group(self.metrics, facts.group, self.wires.producer.facts(), seen)
            self.metrics.dispatch.in_flight.set(facts.in_flight)
            self.metrics.dispatch.in_flight_bytes.set(facts.in_flight_bytes)
            self._show_providers()

    def _group(self) -> GroupFacts:
        """The group of the orders, with the partitions of the resting ones that cannot be read as well."""
        orders, resting = self.wires.orders.facts().group, self.wires.resting.facts().group
        return replace(orders, unreadable=orders.unreadable | resting.unreadable)

    def _show_providers(self) -> None:
        room = self.worker.room
        for provider, state in room.pool.health(room.clock.mono_ms()).items():
            self.metrics.dispatch.breaker(provider, "", state["breaker"])
            for key, key_state in state["keys"].items():
                self.metrics.dispatch.breaker(provider, key, key_state["breaker"])
        out = self._keys_out()
        self.metrics.dispatch.keys_out(out.reasons, out.bare)

    def _keys_out(self) -> KeysOut:
        room = self.worker.room
        return room.pool.keys_out(room.clock.mono_ms())

    async def _renew_reservations(self) -> None:
        """What is in work here is not taken over. With the state down, a second call is the lesser evil."""
        lease_ms = self.worker.room.settings.lease_ms
        while True:
            await asyncio.sleep(lease_ms / 1_000 / RENEWALS_PER_LEASE)
            room = self.worker.room
            try:
                await room.state.renew_calls(room.leases.all(), lease_ms)
            except StateUnavailable as error:
                log.warning("reservations are not renewed: %s", error, extra={"action": "reservations_not_renewed"})

    async def _probe_providers(self) -> None:
        """Probe those that want it, and look who does whenever the configuration has changed."""
        while True:
            room = self.worker.room
            probed = [name for name in room.clients if room.pool.provider(name).settings.probe_every_ms]
            async with asyncio.TaskGroup() as probes:
                running = [probes.create_task(self._probe(name)) for name in probed]
                await self._configured.wait()
                self._configured.clear()
                for probe in running:
                    probe.cancel()

    async def _probe(self, name: str) -> None:
        """Ask a provider for its list of models again and again, and tell the pool what came of it."""
        room = self.worker.room
        provider = room.pool.provider(name)
        settings = provider.settings
        while True:
            await asyncio.sleep((settings.probe_every_ms or 0) / 1_000)
            asked = (models_request(settings, key.settings, room.dialects[settings.type]) for key in provider.keys)
            if (request := next(asked, None)) is None:
                continue
            answer = await ask(room.clients[name], request, settings.probe_timeout_ms)
            if room.pool.probe(name, is_up(answer)):
                state = "back" if is_up(answer) else "out"
                log.warning("%s is %s: its probe says %s", name, state, answer, extra={"action": "provider_probed"})

    async def _follow_cancels(self) -> None:
        """Read the cancel topic whole, and then as it grows; begin again when the broker went away."""
        topic = self.worker.room.topics.cancel
        while True:
            try:
                async with self.wires.cancels() as reader:
                    async for record in reader.read([topic], follow=True):
                        self.worker.cancel(record.value)
            except KafkaFailure as error:
                log.warning("cancellations cannot be read: %s", error, extra={"action": "cancels_wait"})
                await asyncio.sleep(RETRY_S)

    async def _reread_keys(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._reread_now.wait(), REREAD_KEYS_EVERY_S)
            self._reread_now.clear()
            await reread(self.account, self.worker.room.pool)

    def _state_check(self) -> Check:
        return state_check(
            self.worker.room.settings.shared_state, self.wires.orders.facts().group, self._order_partitions
        )

    def _providers_check(self) -> Check:
        room = self.worker.room
        return providers_check(room.pool.health(room.clock.mono_ms()), accepts=self.worker.accepts())


def providers_check(health: Mapping[str, dict[str, Any]], *, accepts: bool) -> Check:
    """Degraded while a provider is taken out, unhealthy while nearly everything fails: no new work comes then.

    `health`: of `Pool.health`. A key that is closed for a while, or whose circuit is open, is told of; that alone is an
    ordinary limit.
    """
    details: dict[str, Any] = {"providers": {name: state["breaker"] for name, state in health.items()}}
    closed = {
        f"{name}/{key}": {"breaker": state["breaker"], "closed_for_ms": state["closed_for_ms"]}
        for name, provider in health.items()
        for key, state in provider["keys"].items()
        if state["breaker"] == "open" or state["closed_for_ms"]
    }
    if closed:
        details["keys_closed"] = closed
    if not accepts:
        return Check("unhealthy", {**details, "reason": "nearly every call fails; intake is paused"})
    return Check("degraded" if "open" in details["providers"].values() else "healthy", details)


def keys_check(out: KeysOut) -> Check:
    """Degraded while a key is out of use: its neighbours, and other providers, go on."""
    if not out.reasons:
        return Check("healthy")
    reason = "give the key another value where it comes from; it is also tried again every five minutes"
    named = {f"{provider}/{key}": why for (provider, key), why in out.reasons.items()}
    return Check("degraded", {"out": named, "providers_without_a_key": list(out.bare), "reason": reason})


def state_check(shared: bool, group: GroupFacts, partitions: int) -> Check:
    """Degraded where other workers have some of the `partitions` of the orders and do not see what is reserved here."""
    if not shared and group.joined and len(group.assigned) < partitions:
        return Check("degraded", {"shared": False, "reason": NOT_ALONE})
    return Check("healthy", {"shared": shared})
