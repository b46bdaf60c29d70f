"""Waiting for a place: orders queue at the providers that are busy and are woken one at a time as places come free."""

import asyncio
from collections.abc import Iterable

from heimdall_fleet.dispatch.lanes import Lanes


class Turnstile:
    """The queues of one worker, one a provider. An order may stand in several and leaves all when it is woken.

    A place that came free is promised to whom was woken until he looks, so that no newcomer takes it in between.
    """

    def __init__(self) -> None:
        self._queues: dict[str, Lanes[asyncio.Future[str]]] = {}
        self._waiting: dict[str, int] = {}
        self._promised: dict[str, int] = {}

    def waiting(self, provider: str) -> int:
        """How many orders stand in the queue of a provider."""
        return self._waiting.get(provider, 0)

    def promised(self, provider: str) -> int:
        """Places at a provider that are free but not for newcomers."""
        return self._promised.get(provider, 0)

    async def wait(self, providers: Iterable[str], lane: str, deadline_ms: float, at_most_ms: float) -> None:
        """Until a place may be free at one of `providers`, at most `at_most_ms`. Take it before the next await."""
        names = tuple(providers)
        woken: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        for name in names:
            self._queues.setdefault(name, Lanes()).push(lane, deadline_ms, woken)
            self._waiting[name] = self._waiting.get(name, 0) + 1
        try:
            await asyncio.wait((woken,), timeout=max(0.0, at_most_ms) / 1_000)
        except asyncio.CancelledError:
            self._leave(names, woken)
            if not woken.cancelled():
                self.wake(woken.result())
            raise
        self._leave(names, woken)

    def wake(self, provider: str) -> None:
        """A place came free at `provider`: wake whoever is next."""
        queue = self._queues.get(provider)
        while queue is not None and (waiter := queue.pop()) is not None:
            if not waiter.done():
                self._promised[provider] = self._promised.get(provider, 0) + 1
                waiter.set_result(provider)
                return

    def _leave(self, names: Iterable[str], woken: asyncio.Future[str]) -> None:
        woken.cancel()
        for name in names:
            self._waiting[name] -= 1
            if not self._waiting[name]:
                del self._queues[name]  # whoever is in it has left
        if not woken.cancelled():
            self._promised[woken.result()] -= 1
