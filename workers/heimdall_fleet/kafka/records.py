"""The plain values that cross the Kafka border, and the two protocols the workers are written against.

Named tuples instead of frozen dataclasses: equally immutable, but built in a third of the time
(0.8 µs against 2.4 µs), and triage builds three for every request.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias

Header: TypeAlias = tuple[str, bytes | None]
Partition: TypeAlias = tuple[str, int]
"""A topic's name and a partition's number."""


class Record(NamedTuple):
    """A record as it was read."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]

    def size_bytes(self) -> int:
        """Bytes of key and value: what a record in flight costs, headers aside."""
        return len(self.value or b"") + len(self.key or b"")


class DamagedBatch(Record):
    """A batch that nobody can decode, as one record at its last offset, so that it has an end like any other.

    `value` is the batch as it stands in the log; the only header, `heimdall-dlq-damage`, says what is wrong and where.
    """

    __slots__ = ()

    @property
    def why(self) -> str:
        return (self.headers[0][1] or b"").decode()


class Outgoing(NamedTuple):
    """A record to be sent.

    `partition` None means: by the key as Kafka's default partitioner does (murmur2, 3 µs, so hot paths name the
    partition), and round-robin without a key. `timestamp_ms` None means now.
    """

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    headers: Sequence[Header] = ()
    timestamp_ms: int | None = None


Handler: TypeAlias = Callable[[Record], Awaitable[None]]
"""Processes one record to its end; see `intake` for what returning and raising mean."""


class Producer(Protocol):
    """Sends records; order within a partition is the order of the calls."""

    def send(self, record: Outgoing) -> Awaitable[int]:
        """Queue one record; the awaitable gives its offset (-1 if the broker confirmed but forgot it).

        Raises `NeverSent` at once, or `KafkaFailure` from the awaitable.
        """
        ...

    def send_batch(self, topic: str, partition: int, records: Sequence[Outgoing]) -> Awaitable[int]:
        """Queue many records for one partition; the awaitable gives the offset of the last one.

        `topic` and `partition` hold for all of them, whatever the records say.
        """
        ...

    async def partition_count(self, topic: str) -> int:
        """Partitions of a topic, from cached metadata if possible; raises `UnknownTopic` within seconds."""
        ...

    async def flush(self, timeout_s: float) -> bool:
        """Wait until everything queued is confirmed or failed; False if that took longer than `timeout_s`."""
        ...


class Batch(NamedTuple):
    """Records to be processed together and committed together; `number` is the source's own name for the batch."""

    number: int
    records: tuple[Record, ...]


class Consumer(Protocol):
    """A source of micro-batches; `batches.Batches` is the real one."""

    async def next_batch(self) -> Batch | None:
        """The next batch, or None once the source is stopped."""
        ...

    def commit(self, batch: Batch) -> None:
        """Say that everything the batch led to is confirmed; its offsets are committed soon after.

        Raises `ValueError` for a batch that was committed already.
        """
        ...
