"""What is said again and again is told once in a while, with how often it was left out."""

import logging
import time
from collections.abc import Callable, Collection, Hashable

EVERY_S = 10.0
_MOST_KNOWN = 1_000


class Spaced:
    """Whether something is due to be told: once in 10 s for each name."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[Hashable, tuple[float, int]] = {}

    def left_out(self, name: Hashable) -> int | None:
        """How often this was not told since it last was, now that it is due; None when it is not."""
        now = self._clock()
        at, left_out = self._told.get(name, (now - EVERY_S, 0))
        if now - at < EVERY_S:
            self._told[name] = (at, left_out + 1)
            return None
        if len(self._told) >= _MOST_KNOWN:
            self._told.clear()
        self._told[name] = (now, 0)
        return left_out


class Seldom(logging.Filter):
    """Lets a library's message through once in 10 s; the next one carries `count`, those left out in between.

    A client whose broker refuses connections writes a hundred lines a second otherwise. Messages are told apart by logger and
    wording without its values; those of the loggers named `own` always pass.
    """

    def __init__(self, own: Collection[str], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._own = frozenset(own)
        self._spaced = Spaced(clock)

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] in self._own:
            return True
        wording = record.getMessage() if record.msg == "%s" else str(record.msg)
        left_out = self._spaced.left_out((record.name, wording))
        if left_out is None:
            return False
        if left_out:
            vars(record)["count"] = left_out
        return True
