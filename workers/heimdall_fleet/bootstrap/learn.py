"""What the learning loop needs of a fleet: the bundle that decides, a place for the next one, and the fleet's word on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heimdall_fleet.bootstrap.edges import open_store, reader_for
from heimdall_fleet.bootstrap.triage import archives_for, judge_maker
from heimdall_fleet.config import Config
from heimdall_fleet.learn.aliases import read_aliases
from heimdall_fleet.learn.archive import Shelf
from heimdall_fleet.settings import directory_at
from heimdall_fleet.triage.sources import PointerFile
from heimdall_fleet.triage.tuning import try_out
from heimdall_models.bundle import Bundle, BundleError, load_bundle
from heimdall_schemas.control import Pointer


def shelf_for(config: Config) -> Shelf | None:
    """Where promoted bundles are kept; None where no place is configured. Raises ObjectStoreError."""
    learning = config.learning
    return None if learning.bundle_store is None else Shelf(open_store(learning.bundle_store), learning.bundle_address)


@contextmanager
def champion_of(config: Config, pointer: Pointer | None) -> Iterator[Path]:
    """The directory of the bundle that decides while `pointer` stands on the control topic. Raises SourceError, and
    BundleError where this version cannot use it."""
    archives = archives_for(config)
    if pointer is None:
        url = config.tuning.artifact_url
        directory = directory_at(url)
        if directory is not None:
            yield _readable(directory)
            return
        pointer = PointerFile(url, archives).pointer()
    with archives.opened(pointer) as path:
        yield _readable(path)


def _readable(directory: Path) -> Path:
    try:
        load_bundle(directory)
    except BundleError as error:
        fix = "it is the one that decides: point tuning.artifact_url at one of this version, or promote one"
        raise BundleError(error.path, error.what, fix) from error
    return directory


async def promoted_bundle(config: Config, bundle_hash: str) -> Bundle | None:
    """The bundle of this hash, if it is one of the control topic's or was before. Raises KafkaFailure, SourceError."""
    async with reader_for(config) as reader:
        standing = await read_aliases(reader, config.kafka.topics.control)
    for pointer in standing.values():
        for each in (pointer, *pointer.earlier):
            if each.bundle == bundle_hash:
                return archives_for(config).load(each)
    return None


def refuse_unusable(bundle: Bundle, config: Config) -> None:
    """Make a judge of the bundle and let it decide, as each worker would. Raises one of triage's `REFUSALS`.

    Without a provider nothing would be decided, so every model counts as served.
    """
    try_out(judge_maker(config, everything_served=not config.providers)(bundle))
