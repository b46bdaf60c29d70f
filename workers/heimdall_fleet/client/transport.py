"""The way to the broker, as the client needs it: send a record, read one partition from its end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from heimdall_schemas.codec import Limits
from heimdall_schemas.headers import Headers


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to write. The broker picks the partition by the key."""

    topic: str
    key: bytes
    value: bytes
    headers: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Incoming:
    """A record that was read from the reply partition."""

    value: bytes | None
    headers: Headers


class Transport(Protocol):
    """One connection to a broker. Waits are bounded by the client, not here.

    Every method raises `OSError` (`ConnectionError` included) when the broker cannot be reached or refuses.
    `limits`: what a request may weigh, as the fleet behind it is configured.
    """

    limits: Limits

    async def open(self, reply_topic: str) -> int:
        """Connect and take one partition of `reply_topic`, from its present end. Returns the partition.

        Whatever is written to that partition after this call returned will be received.
        """
        ...

    async def send(self, record: Outgoing) -> None:
        """Returns when the broker has the record."""
        ...

    async def receive(self) -> Sequence[Incoming]:
        """The next records of the reply partition, in order; may be empty after a while without any."""
        ...

    async def close(self) -> None:
        """Gives everything back; safe to call when `open` failed half way, and to call twice."""
        ...
