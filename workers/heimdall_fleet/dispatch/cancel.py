"""Cancellations: ids from the cancel topic, read whole by every worker, for orders that wait and calls that run."""

import asyncio
from collections import OrderedDict
from collections.abc import Container

from heimdall_schemas.failure import Failure, FailureCode

MAX_KEPT = 100_000
MAX_AGE_MS = 24 * 3_600_000.0


class Cancellations:
    """Ids of cancelled requests, bounded in number and age, and the orders of this worker that run."""

    def __init__(self, max_kept: int = MAX_KEPT, max_age_ms: float = MAX_AGE_MS) -> None:
        self._max_kept = max_kept
        self._max_age_ms = max_age_ms
        self._cancelled: OrderedDict[str, float] = OrderedDict()
        self._running: dict[str, asyncio.Task[object]] = {}

    def __len__(self) -> int:
        return len(self._cancelled)

    def add(self, request_id: str, now_ms: float) -> bool:
        """Note a cancellation; true when it stopped an order that was running here."""
        self._cancelled[request_id] = now_ms
        self._cancelled.move_to_end(request_id)
        self._forget(now_ms)
        task = self._running.get(request_id)
        return task is not None and task.cancel()

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._cancelled

    def watching(self, request_id: str) -> "Watch":
        """Around the work on an order: Failure `policy_cancelled` when it is, or comes to be, cancelled.

        A cancellation of the task for any other reason, such as the end of the worker, passes through.
        """
        return Watch(self._cancelled, self._running, request_id)

    def _forget(self, now_ms: float) -> None:
        while self._cancelled:
            oldest = next(iter(self._cancelled))
            if len(self._cancelled) <= self._max_kept and now_ms - self._cancelled[oldest] <= self._max_age_ms:
                return
            del self._cancelled[oldest]


class Watch:
    """See `Cancellations.watching`. A class, since a generator costs three times as much and every order has one."""

    __slots__ = ("_cancelled", "_request_id", "_running")

    def __init__(self, cancelled: Container[str], running: dict[str, "asyncio.Task[object]"], request_id: str) -> None:
        self._cancelled = cancelled
        self._running = running
        self._request_id = request_id

    def __enter__(self) -> None:
        if self._request_id in self._cancelled:
            raise cancelled()
        task = asyncio.current_task()
        assert task is not None
        self._running[self._request_id] = task

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        task = self._running.pop(self._request_id)
        ours = kind is asyncio.CancelledError and self._request_id in self._cancelled
        if ours and task.uncancel() == 0:
            raise cancelled() from None


def cancelled() -> Failure:
    return Failure(FailureCode.POLICY_CANCELLED, "the caller cancelled the request")
