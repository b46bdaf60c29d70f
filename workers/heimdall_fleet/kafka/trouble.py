"""Records that cannot be decoded: how often they are tried again, and how carefully what stands before them is read."""

import math

_TRIES = 3
_RETRY_S = 5.0
_CAREFUL_S = 30.0


class Trouble:
    """Of a partition, or of all that a reader has: how often in a row, when again, and how careful we are with it.

    While we are careful records are read one at a time, or the good ones before the bad one would never be seen.
    """

    __slots__ = ("_careful_until", "_tries", "retry_at")

    def __init__(self) -> None:
        self._tries = 0
        self.retry_at = self._careful_until = -math.inf

    def again(self, now: float) -> bool:
        """Reading failed once more; true when it was tried often enough."""
        self._tries += 1
        self.retry_at, self._careful_until = now + _RETRY_S, now + _CAREFUL_S
        return self._tries >= _TRIES

    def careful(self, now: float) -> bool:
        return now < self._careful_until

    def calm(self) -> None:
        """Something was read, or passed over."""
        self._tries = 0
