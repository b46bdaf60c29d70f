"""Open-loop load: requests leave at their own times, whether or not earlier ones were answered."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from heimdall_fleet.client import Handle, HeimdallClient, HeimdallError
from heimdall_schemas.reply import Reply


@dataclass(slots=True)
class Progress:
    """What the callers have seen so far. Latencies are in milliseconds, from submit to reply."""

    total: int
    sent: int = 0
    answered: dict[str, list[float]] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    replied: set[str] = field(default_factory=set)
    cost_usd_micros: int = 0

    @property
    def done(self) -> int:
        return len(self.replied)

    def reply(self, reply: Reply, latency_ms: float) -> None:
        facts = reply.heimdall
        self.replied.add(facts.request_id)
        self.answered.setdefault(str(facts.bucket), []).append(latency_ms)
        self.cost_usd_micros += facts.cost_usd_micros

    def error(self, request_id: str, error: HeimdallError) -> None:
        self.replied.add(request_id)
        self.errors[error.code] = self.errors.get(error.code, 0) + 1


def arrival_times(count: int, per_second: float, seed: int) -> list[float]:
    """Seconds after the start at which each request leaves: a Poisson process."""
    draw = random.Random(seed)
    now, times = 0.0, []
    for _ in range(count):
        now += draw.expovariate(per_second)
        times.append(now)
    return times


async def drive(
    client: HeimdallClient,
    bodies: Sequence[Mapping[str, Any]],
    times: Sequence[float],
    *,
    deadline: timedelta,
    progress: Progress,
    on_change: Callable[[Progress], None],
) -> None:
    """Send every body at its time and wait for every reply, or for its deadline."""
    start = time.monotonic()

    async def follow(handle: Handle, sent: float) -> None:
        try:
            progress.reply(await handle.result(), (time.monotonic() - sent) * 1000)
        except HeimdallError as error:
            progress.error(handle.request_id, error)
        on_change(progress)

    async with asyncio.TaskGroup() as following:
        for body, leaves in zip(bodies, times, strict=True):
            await asyncio.sleep(max(0.0, start + leaves - time.monotonic()))
            sent = time.monotonic()
            handle = await client.submit(body, deadline=deadline)
            progress.sent += 1
            following.create_task(follow(handle, sent))
            on_change(progress)
