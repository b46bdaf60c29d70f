"""Time, as an argument. Deadlines are wall-clock on the wire; inside a worker they run on the monotonic clock."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one that people and other machines share, one that never jumps."""

    def unix_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        ...

    def mono_ms(self) -> float:
        """Milliseconds that only ever grow, from an arbitrary start."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def unix_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def mono_ms(self) -> float:
        return time.monotonic() * 1_000
