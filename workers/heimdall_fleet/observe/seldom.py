"""What libraries say again and again is told once in a while, with how often it was left out."""

import logging
import time
from collections.abc import Callable, Collection

EVERY_S = 10.0
_MOST_KNOWN = 1_000


class Seldom(logging.Filter):
    """Lets a library's message through once in 10 s; the next one carries `count`, those left out in between.

    A client whose broker refuses connections writes a hundred lines a second otherwise. Messages are told apart by logger and
    wording without its values; those of the loggers named `own` always pass.
    """

    def __init__(self, own: Collection[str], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._own = frozenset(own)
        self._clock = clock
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] in self._own:
            return True
        wording = record.getMessage() if record.msg == "%s" else str(record.msg)
        now = self._clock()
        at, left_out = self._told.get((record.name, wording), (now - EVERY_S, 0))
        if now - at < EVERY_S:
            self._told[record.name, wording] = (at, left_out + 1)
            return False
        if len(self._told) >= _MOST_KNOWN:
            self._told.clear()
        self._told[record.name, wording] = (now, 0)
        if left_out:
            vars(record)["count"] = left_out
        return True
