"""The same request twice in one worker: the copy joins the call that runs, or gets the answer that was published."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from heimdall_fleet.dispatch.run import Ending, Parked
from heimdall_schemas.order import Address

MAX_KEPT = 250
MAX_BYTES = 1024 * 1024
"""A copy comes right behind its original, or much later: then the shared state knows the answer."""


class Published(NamedTuple):
    """An ending, and the address that has it."""

    ending: Ending
    address: Address


class InFlight:
    """Orders that run here, and the last ones that ended; bounded in number and bytes."""

    def __init__(self, max_kept: int = MAX_KEPT, max_bytes: int = MAX_BYTES) -> None:
        self._max_kept = max_kept
        self._max_bytes = max_bytes
        self._running: dict[str, asyncio.Future[Published | None] | None] = {}
        """What runs, with a future once somebody waits for it."""
        self._ended: OrderedDict[str, Published] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._running)

    async def once(
        self, request_id: str, address: Address, work: Callable[[], Awaitable[Ending | Parked]]
    ) -> Published | Parked:
        """What `work` comes to, run once for all copies that are here at the same time or shortly after.

        A copy whose twin failed or was parked does the work itself.
        """
        while request_id in self._running:
            twin = self._running[request_id] or asyncio.get_running_loop().create_future()
            self._running[request_id] = twin
            published: Published | None = await asyncio.shield(twin)
            if published is not None:
                return published
        if (known := self._ended.get(request_id)) is not None:
            return known
        self._running[request_id] = None
        published = None
        try:
            result = await work()
            if isinstance(result, Parked):
                return result
            published = Published(result, address)
            self._keep(request_id, published)
            return published
        finally:
            awaited = self._running.pop(request_id)
            if awaited is not None:
                awaited.set_result(published)

    def _keep(self, request_id: str, published: Published) -> None:
        self._ended[request_id] = published
        self._bytes += len(published.ending.reply)
        while len(self._ended) > self._max_kept or self._bytes > self._max_bytes:
            _, dropped = self._ended.popitem(last=False)
            self._bytes -= len(dropped.ending.reply)
