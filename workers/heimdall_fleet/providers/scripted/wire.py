"""What the app needs to know about a wire format. A new one is a sibling file with one class and a line in `app.py`."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from heimdall_fleet.providers.scripted.answers import Asked, Scripted


class Wire(Protocol):
    """One family's format, as pure functions."""

    stream_type: bytes

    def serves(self, path: str) -> bool:
        """Whether this path, after `/{provider}`, is a call of this family."""
        ...

    def key(self, headers: Mapping[bytes, bytes]) -> str | None:
        """The credential in the headers."""
        ...

    def asked(self, provider: str, path: str, body: dict[str, Any]) -> Asked:
        """What the request asks for. Raises ValueError, KeyError or TypeError for a body that cannot be served."""
        ...

    def whole(self, asked: Asked, answer: Scripted, now_s: float) -> bytes:
        """The body of a plain answer."""
        ...

    def pieces(self, asked: Asked, answer: Scripted, now_s: float) -> Iterator[tuple[bytes, int]]:
        """The stream: bytes to send, each with the output tokens in it; the last one is the terminal marker."""
        ...

    def error(self, status: int, message: str) -> bytes:
        """The body that goes with an error status."""
        ...

    def error_inside(self, message: str, *, stream: bool) -> bytes:
        """An error that a 200 carries, as a body or as an event."""
        ...
