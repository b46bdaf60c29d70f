"""What the process itself weighs: memory, tasks, pauses of the garbage collector."""

import asyncio
import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STATM = Path("/proc/self/statm")


def resident_bytes() -> float:
    """Resident memory of this process; 0 on systems without /proc."""
    try:
        return int(_STATM.read_bytes().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def live_tasks() -> float:
    """Tasks of the running event loop; 0 outside of one."""
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return 0


@contextmanager
def gc_pauses(observe: Callable[[float], None], clock: Callable[[], float] = time.perf_counter) -> Iterator[None]:
    """Report the seconds of each garbage collection while the context is open.

    `observe` must take no lock: a collection can start inside of whatever holds it.
    """
    started = 0.0

    def callback(phase: str, info: dict[str, Any]) -> None:
        nonlocal started
        if phase == "start":
            started = clock()
        else:
            observe(clock() - started)

    gc.callbacks.append(callback)
    try:
        yield
    finally:
        gc.callbacks.remove(callback)
