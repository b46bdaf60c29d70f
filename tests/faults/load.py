"""Load from a plain aiokafka producer: what was acknowledged is written down, and nothing else is believed."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from tests.faults.fleet import Fleet
from tests.faults.history import Sent

from heimdall_fleet.demo_data import prompts
from heimdall_schemas import headers as h

SHORT_CHARS = 2_000
ACK_WITHIN_S = 60.0
MOST_BYTES = 2_000_000


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to be sent. `value` None: a readable body of the load's own."""

    request_id: str
    value: bytes | None
    ttl_s: float
    headers: tuple[tuple[str, bytes], ...] = ()
    key: bytes | None = None
    deaf: bool = False
    ceiling_usd_micros: int | None = None
    ahead_s: float = 0.0
    """How wrong the producer's clock is, which the time to live counts from."""


class Load:
    """Asks, as any producer in any language would. Requests are numbered; the fleet's seed picks their prompts."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._number = 0
        self._prompts = [each.body for each in prompts() if len(str(each.body)) < SHORT_CHARS]
        self._producer = AIOKafkaProducer(
            bootstrap_servers=fleet.cluster.bootstrap,
            acks="all",
            enable_idempotence=True,
            linger_ms=2,
            max_request_size=MOST_BYTES,
            max_batch_size=MOST_BYTES,
        )
        self.sent: list[Sent] = []

    async def __aenter__(self) -> "Load":
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.wait_for(self._producer.stop(), ACK_WITHIN_S)

    def ask(self, *, ttl_s: float = 90.0, options: Mapping[str, Any] | None = None, **body: Any) -> Ask:
        """A readable request; `options` go into its object `heimdall`, `body` over a prompt of the demo's."""
        self._number += 1
        request_id = f"r-{self._fleet.setup.seed}-{self._number}"
        chosen = self._prompts[self._fleet.random.randrange(len(self._prompts))]
        canary = {"role": "system", "content": f"Note {self._number}: {self._fleet.canaries.prompt}"}
        value = {**chosen, "messages": [canary, *chosen["messages"]], **body}
        value["heimdall"] = {**(options or {}), "ttl_ms": int(ttl_s * 1000)}
        ceiling_usd = (options or {}).get("max_cost_usd")
        ceiling = None if ceiling_usd is None else round(ceiling_usd * 1e6)
        return Ask(request_id, orjson.dumps(value), ttl_s, key=request_id.encode(), ceiling_usd_micros=ceiling)

    async def send(self, asks: Sequence[Ask], per_second: float | None = None) -> list[Sent]:
        """Send all, at Poisson times when a rate is given, and wait for every acknowledgement."""
        start, now, waiting = time.monotonic(), 0.0, []
        for ask in asks:
            if per_second is not None:
                now += self._fleet.random.expovariate(per_second)
                await asyncio.sleep(max(0.0, start + now - time.monotonic()))
            waiting.append(asyncio.create_task(self._send(ask)))
        return list(await asyncio.gather(*waiting))

    def raw(self, value: bytes | None, *headers: tuple[str, bytes], key: bytes | None = b"raw") -> Ask:
        """Any bytes as a request; its deadline is the fleet's own default."""
        self._number += 1
        return Ask(f"r-{self._fleet.setup.seed}-{self._number}", value, 300.0, headers, key)

    def deaf(self, value: bytes, *headers: tuple[str, bytes]) -> Ask:
        """A request whose headers name an address that no reply may go to."""
        return replace(self.raw(value, *headers), deaf=True)

    async def compressed(self, codec: str, asks: Sequence[Ask]) -> None:
        """Send all from a producer of their own that compresses."""
        plain = self._producer
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._fleet.cluster.bootstrap, acks="all", linger_ms=50, compression_type=codec
        )
        await self._producer.start()
        try:
            await self.send(asks)
        finally:
            await self._producer.stop()
            self._producer = plain

    async def many(self, count: int, per_second: float | None = None, **kinds: Any) -> list[Sent]:
        return await self.send([self.ask(**kinds) for _ in range(count)], per_second)

    async def _send(self, ask: Ask) -> Sent:
        canary = self._fleet.canaries.header.encode()
        headers = [
            (h.CE_ID, ask.request_id.encode()),
            (h.CORRELATION_ID, f"c-{ask.request_id}".encode()),
            ("authorization", b"Bearer " + canary),
            ("x-api-key", canary),
            *ask.headers,
        ]
        now_ms = int((time.time() + ask.ahead_s) * 1000)
        try:
            sending = await self._producer.send(
                self._fleet.topics.requests,
                ask.value,
                key=ask.key,
                headers=headers,
                timestamp_ms=now_ms,
            )
            found = await asyncio.wait_for(sending, ACK_WITHIN_S)
            place, acknowledged = (found.partition, found.offset), True
        except (KafkaError, TimeoutError):
            place, acknowledged = (-1, -1), False
        correlation_id = dict(headers)[h.CORRELATION_ID].decode("latin-1")
        deadline = now_ms / 1000 + ask.ttl_s
        sent = Sent(
            time.time(),
            ask.request_id,
            correlation_id,
            *place,
            deadline,
            acknowledged,
            ask.ceiling_usd_micros,
            ask.deaf,
        )
        self.sent.append(sent)
        self._fleet.events.append(sent)
        return sent
