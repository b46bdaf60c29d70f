"""What the fleet's control topic points at, for the commands that read it or move it."""

import asyncio

from heimdall_fleet.bootstrap.edges import producing, reader_for
from heimdall_fleet.config import Config
from heimdall_fleet.learn.aliases import Alias, point, read_aliases
from heimdall_schemas.control import Pointer


def standing_champion(config: Config) -> Pointer | None:
    """The promoted champion; None where there is none, or where nothing can be promoted for want of a store: then no
    broker is asked. Raises KafkaFailure."""
    return asyncio.run(pointers(config)).get("champion") if config.learning.bundle_store else None


async def pointers(config: Config) -> dict[Alias, Pointer]:
    """What the fleet's control topic points at. Raises KafkaFailure."""
    async with reader_for(config) as reader:
        return await read_aliases(reader, config.kafka.topics.control)


async def write(config: Config, changes: dict[Alias, Pointer | None]) -> None:
    """Move these pointers. Raises KafkaFailure."""
    async with producing(config, "heimdall-pointers") as producer:
        for alias, pointer in changes.items():
            await point(producer, config.kafka.topics.control, alias, pointer)
