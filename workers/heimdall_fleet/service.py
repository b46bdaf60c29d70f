"""The life of a worker process: start, answer health checks, stop gracefully, and when to leave at once."""

import asyncio
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol

from heimdall_fleet.config import Watcher
from heimdall_fleet.observe.server import ObserveServer
from heimdall_fleet.system.code_pages import give_back_code
from heimdall_fleet.system.heap import settle_heap
from heimdall_fleet.system.huge_pages import use_huge_pages

log = logging.getLogger(__name__)

ABORTED = 1
WATCH_EVERY_S = 5.0
GROWN_AFTER_S = 5.0
GC_THRESHOLDS = (50_000, 20, 100)


class Service(Protocol):
    """A worker. `run` returns after `stop` was called and everything in flight has ended, or its grace has."""

    async def run(self) -> None: ...

    def stop(self) -> None: ...


async def serve(
    service: Service, server: ObserveServer, watcher: Watcher, leave: Callable[[int], None] = os._exit
) -> None:
    """Run `service` until SIGTERM or SIGINT. A second signal leaves at once, with a code that is not zero.

    SIGHUP reads the configuration again; so does a change of its files. The server answers health checks from before the
    first record until after the last.
    """
    loop = asyncio.get_running_loop()
    stopping = False

    def on_signal(name: str) -> None:
        nonlocal stopping
        if stopping:
            log.error("%s again: leaving at once, calls in flight are read again", name, extra={"action": "abort"})
            leave(ABORTED)
        stopping = True
        log.info("%s: no new work, finishing what runs", name, extra={"action": "stopping"})
        service.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number.name)
    loop.add_signal_handler(signal.SIGHUP, watcher.reload)
    loop.set_exception_handler(told_unless_a_connection)
    _settle_memory()
    port = await server.start()
    log.info("serving health and metrics on port %d", port, extra={"action": "started"})
    try:
        async with beside([watcher.run(WATCH_EVERY_S), _follow_growth()], service.stop):
            await service.run()
    finally:
        await server.close()
        log.info("stopped", extra={"action": "stopped"})


def told_unless_a_connection(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What asyncio says of errors that nobody asked for, but for the end of a broken connection.

    Each stream has a future of its own for that end. asyncio means nobody to hear of it, and forgets so where the collector
    takes the future before the stream. Who read or wrote there has heard of it.
    """
    if type(context.get("future")) is asyncio.Future and isinstance(context.get("exception"), ConnectionError):
        return
    loop.default_exception_handler(context)


@asynccontextmanager
async def beside(work: Iterable[Coroutine[Any, Any, None]], stop: Callable[[], None]) -> AsyncIterator[None]:
    """Run side tasks for as long as the block lasts, and cancel them then.

    They have no end of their own, so one that raises is a bug: `stop` asks the worker to finish in good order, and the
    error is raised after the block, so that the process leaves with a code that is not zero and is started again.
    """
    tasks = [asyncio.create_task(each) for each in work]
    for task in tasks:
        task.add_done_callback(partial(_note_failure, stop))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for each in ended:
        if isinstance(each, Exception):
            raise each


def _note_failure(stop: Callable[[], None], task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error(
            "a side task failed: finishing what runs, then leaving",
            exc_info=error,
            extra={"action": "side_task_failed"},
        )
        stop()


def _settle_memory() -> None:
    """What was made at the start stays for good: the collector need not look at it again, and may come less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    settle_heap()
    give_back_code()


async def _follow_growth() -> None:
    """Huge pages for what the start has filled and for what comes later; ends at once where the system makes none."""
    while await asyncio.to_thread(use_huge_pages):  # noqa: ASYNC110  # memory tells nobody that it has grown
        await asyncio.sleep(GROWN_AFTER_S)
