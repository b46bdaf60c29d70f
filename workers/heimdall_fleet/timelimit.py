"""Time limits of many tasks on one timer. `asyncio.timeout` makes, sorts and throws away a timer for each, which at
hundreds of calls a second costs more than parsing their answers."""

import asyncio
import math
from functools import cached_property
from types import TracebackType
from typing import Self


class TimeLimits:
    """Limits of one event loop. The timer stands at the earliest of them; it is moved only for an earlier one."""

    def __init__(self) -> None:
        self.running: set[TimeLimit] = set()
        self.rings_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    @cached_property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the first who asked: asking asyncio each time is a call of the system."""
        return asyncio.get_running_loop()

    def within(self, span_s: float) -> "TimeLimit":
        """As `until`, that long from now."""
        return TimeLimit(self, self.loop.time() + span_s)

    def until(self, at: float) -> "TimeLimit":
        """`with limits.until(at):` raises TimeoutError in the task that is in the block then; `at` is the loop's time."""
        return TimeLimit(self, at)

    def expect(self, at: float) -> None:
        """Some limit ends at `at`, before the timer rings."""
        if self._timer is not None:
            self._timer.cancel()
        self.rings_at = at
        self._timer = self.loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._timer, self.rings_at = None, math.inf
        now = self.loop.time()
        for limit in [limit for limit in self.running if limit.at <= now]:
            self.running.discard(limit)
            limit.end()
        if self.running:
            self.expect(min(limit.at for limit in self.running))


class TimeLimit:
    """One limit; see `TimeLimits.until`. A cancellation from elsewhere passes through as one."""

    __slots__ = ("_cancelled_before", "_limits", "_task", "at", "over")

    def __init__(self, limits: TimeLimits, at: float) -> None:
        self._limits = limits
        self.at = at
        self.over = False

    def move(self, at: float) -> None:
        """End at another time."""
        self.at = at
        if at < self._limits.rings_at:
            self._limits.expect(at)

    def end(self) -> None:
        """The time is over."""
        self.over = True
        self._task.cancel()

    def __enter__(self) -> Self:
        task = asyncio.current_task(self._limits.loop)
        assert task is not None
        self._task: asyncio.Task[object] = task
        self._cancelled_before = task.cancelling()
        self._limits.running.add(self)
        if self.at < self._limits.rings_at:
            self._limits.expect(self.at)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._limits.running.discard(self)
        if self.over and self._task.uncancel() <= self._cancelled_before and kind is asyncio.CancelledError:
            raise TimeoutError from error
