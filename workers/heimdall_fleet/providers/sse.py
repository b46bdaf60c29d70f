"""Server-sent events, read from bytes.

Lines end at CR, LF or CRLF only: JSON may carry U+2028, U+2029 and U+0085 unescaped, and `str.splitlines` would cut an
event in two there. An event is complete at its blank line; the last one may lack it.
"""

from typing import NamedTuple

from heimdall_fleet.providers.dialect import Action, AttemptError, AttemptFailure
from heimdall_schemas.failure import FailureCode

MAX_EVENT_BYTES = 8 * 1024 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """`name` is empty for an unnamed event; `data` holds the `data` lines joined with LF."""

    name: str
    data: bytes


class SseParser:
    """Feed it bytes in any chunking; the events are the same.

    Raises AttemptError (`provider_too_large`) once a line, or the data of one event, is over `max_event_bytes`.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._tail = bytearray()
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._name = ""
        self._after_cr = False
        self._at_start = True

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete."""
        if not data:
            return []
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
        self._after_cr = data.endswith(b"\r")
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first, *rest = data.split(b"\n")
        self._tail += first
        self._check(len(self._tail))
        if not rest:
            return []
        lines = [bytes(self._tail), *rest[:-1]]
        self._tail = bytearray(rest[-1])
        self._check(len(self._tail))
        return self._events(lines)

    def close(self) -> list[Event]:
        """The event that was open when the stream ended, if any."""
        line = bytes(self._tail)
        self._tail.clear()
        return self._events([line, b""] if line else [b""])

    def _events(self, lines: list[bytes]) -> list[Event]:
        if self._at_start:
            self._at_start = False
            lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)
        events = []
        for line in lines:
            if line:
                self._field(line)
            else:
                if self._data:
                    events.append(Event(self._name, b"\n".join(self._data)))
                    self._data = []
                    self._data_bytes = 0
                self._name = ""
        return events

    def _field(self, line: bytes) -> None:
        self._check(len(line))
        name, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if name == b"data":
            self._data.append(value)
            self._data_bytes += len(value) + 1
            self._check(self._data_bytes)
        elif name == b"event":
            self._name = value.decode("utf-8", "replace")

    def _check(self, size_bytes: int) -> None:
        if size_bytes > self._max:
            raise AttemptError(
                AttemptFailure(
                    FailureCode.PROVIDER_TOO_LARGE,
                    Action.OTHER_PROVIDER,
                    f"one event of the stream has more than {self._max:,} bytes",
                    counts_for_breaker=True,
                )
            )
