"""Champion and challenger: the pointers on the control topic, how one follows another, and the way back."""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal, Protocol

from heimdall_fleet.kafka.records import Outgoing, Producer, Record
from heimdall_fleet.triage.sources import SourceError, read_pointer
from heimdall_schemas.codec import encode
from heimdall_schemas.control import CHALLENGER, CHAMPION, MOST_EARLIER, Earlier, Pointer

log = logging.getLogger(__name__)

Alias = Literal["champion", "challenger"]

KEYS: Mapping[Alias, str] = {"champion": CHAMPION, "challenger": CHALLENGER}


class Reader(Protocol):
    def read(self, topics: Sequence[str]) -> AsyncIterator[Record]: ...


class NothingEarlier(Exception):
    """There is no way back: says why, and what to do instead."""


def succeeding(current: Pointer | None, fresh: Pointer) -> Pointer:
    """`fresh`, with what it replaces first among the earlier ones. Promoting again what is there changes nothing."""
    if current is None:
        return fresh
    if current.sha256 == fresh.sha256:
        return current
    before = Earlier.model_validate(current.model_dump(exclude={"name", "earlier"}))
    return fresh.model_copy(update={"earlier": (before, *current.earlier)[:MOST_EARLIER]})


def stepping_back(current: Pointer | None) -> Pointer | None:
    """The pointer before `current`; None: back to the bundle that the configuration names. Raises NothingEarlier."""
    if current is None:
        raise NothingEarlier(
            "nothing was promoted: the control topic names no bundle, so the one of tuning.artifact_url decides; promote "
            "another with `heimdall promote`"
        )
    if not current.earlier:
        return None
    before, *rest = current.earlier
    return Pointer.model_validate({**before.model_dump(), "name": current.name, "earlier": rest})


async def read_aliases(reader: Reader, control: str) -> dict[Alias, Pointer]:
    """What the control topic points at now; what is no pointer is left out, as workers do. Raises KafkaFailure."""
    latest: dict[bytes | None, bytes | None] = {}
    async for record in reader.read([control]):
        latest[record.key] = record.value
    found: dict[Alias, Pointer] = {}
    for alias, key in KEYS.items():
        if value := latest.get(key.encode()):
            try:
                found[alias] = read_pointer(value, f"the key {key} of the control topic")
            except SourceError as error:
                log.warning("%s; promote a bundle to replace it", error, extra={"action": "pointer_refused"})
    return found


async def point(producer: Producer, control: str, alias: Alias, pointer: Pointer | None) -> None:
    """Every worker takes it up between two batches. None takes the pointer away. Raises KafkaFailure."""
    value = None if pointer is None else encode(pointer.model_dump(exclude_defaults=True))
    await producer.send(Outgoing(control, value, key=KEYS[alias].encode(), partition=0))
