"""A worker whose clock is wrong: `python -m tests.faults.shifted AHEAD_S JUMP_S ARGUMENTS…` is `heimdall ARGUMENTS…`.

The whole process reads the clock that is wrong, its libraries too. Each SIGUSR1 lets it jump by JUMP_S, there and back.
Only the clock that people share is shifted; the one that never jumps is left alone, as it is on a real machine.
"""

import signal
import sys
import time
from collections.abc import Callable


class Shifted:
    """The two readings of a clock, `ahead_s` in front of the machine's; negative is behind."""

    def __init__(self, ahead_s: float, jump_s: float, clock_ns: Callable[[], int]) -> None:
        self._ahead_s = ahead_s
        self._jump_s = jump_s
        self._clock_ns = clock_ns

    def time_ns(self) -> int:
        return self._clock_ns() + int(self._ahead_s * 1e9)

    def time(self) -> float:
        return self.time_ns() / 1e9

    def jump(self) -> None:
        self._ahead_s, self._jump_s = self._ahead_s + self._jump_s, -self._jump_s


def main() -> None:
    clock = Shifted(float(sys.argv[1]), float(sys.argv[2]), time.time_ns)
    vars(time).update(time=clock.time, time_ns=clock.time_ns)  # before anything that keeps a clock is imported
    signal.signal(signal.SIGUSR1, lambda *_: clock.jump())
    from heimdall_fleet.cli import main as heimdall  # noqa: PLC0415  # the clock is set first

    sys.argv = ["heimdall", *sys.argv[3:]]
    heimdall()


if __name__ == "__main__":
    main()
