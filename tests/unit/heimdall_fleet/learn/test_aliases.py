"""How one pointer follows another, the way back, and a bundle as one file."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from heimdall_fleet.kafka.records import Record
from heimdall_fleet.learn.aliases import NothingEarlier, read_aliases, stepping_back, succeeding
from heimdall_fleet.learn.archive import CARD, Shelf, digest_of, packed
from heimdall_fleet.triage.sources import unpacked
from heimdall_models.bundle import load_bundle
from heimdall_models.shipped import shipped
from heimdall_schemas.control import CHALLENGER, CHAMPION, MOST_EARLIER, Pointer


def pointer(name: str) -> Pointer:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return Pointer(
        name="bundle", url=f"file:///store/{name}", sha256=digest, bundle=digest, time="2026-11-21T12:00:00Z"
    )


def test_a_promotion_keeps_the_way_back_newest_first() -> None:
    third = succeeding(succeeding(succeeding(None, pointer("a")), pointer("b")), pointer("c"))
    assert [each.url for each in third.earlier] == ["file:///store/b", "file:///store/a"]


def test_stepping_back_walks_the_whole_way_and_ends_at_the_configured_bundle() -> None:
    second = succeeding(pointer("a"), pointer("b"))
    assert stepping_back(second) == pointer("a")
    assert stepping_back(stepping_back(second)) is None
    with pytest.raises(NothingEarlier, match="nothing was promoted"):
        stepping_back(None)


def test_promoting_what_is_there_changes_nothing() -> None:
    second = succeeding(pointer("a"), pointer("b"))
    assert succeeding(second, pointer("b")) == second


def test_the_way_back_does_not_grow_for_ever() -> None:
    current = pointer("0")
    for number in range(1, 3 * MOST_EARLIER):
        current = succeeding(current, pointer(str(number)))
    assert len(current.earlier) == MOST_EARLIER
    assert Pointer.model_validate_json(current.model_dump_json()) == current


class Topic:
    """A reader of what the control topic holds."""

    def __init__(self, *records: tuple[str, bytes | None]) -> None:
        self._records = records

    async def read(self, topics: Sequence[str], *, follow: bool = False) -> AsyncIterator[Record]:
        for offset, (key, value) in enumerate(self._records):
            yield Record(topics[0], 0, offset, 1, key.encode(), value, ())


async def aliases(*records: tuple[str, bytes | None]) -> dict[Any, Pointer]:
    return await read_aliases(Topic(*records), "control")


async def test_the_latest_record_of_a_key_counts_and_an_empty_one_takes_it_away() -> None:
    first, second = (pointer(name).model_dump_json().encode() for name in "ab")
    assert await aliases((CHAMPION, first), (CHALLENGER, first), (CHAMPION, second), (CHALLENGER, b"")) == {
        "champion": pointer("b")
    }


async def test_what_is_no_pointer_is_left_out_as_workers_do() -> None:
    good = pointer("a").model_dump_json().encode()
    assert (await aliases((CHAMPION, b"{}"), (CHALLENGER, good))).keys() == {"challenger"}


async def test_an_archive_is_the_same_bundle_again_and_the_same_bytes_each_time() -> None:
    bundle = load_bundle(shipped("bundles/default"))
    archive = packed(bundle)
    assert packed(bundle) == archive
    with unpacked(archive, "here") as folder:
        assert load_bundle(folder).hash == bundle.hash
        assert (folder / CARD).exists()


async def test_the_address_of_an_archive_is_the_one_that_workers_use() -> None:
    class Store:
        async def put(self, name: str, value: bytes) -> str:
            return f"s3://bucket/{name}"

    digest = digest_of(b"x")
    assert await Shelf(Store()).put(b"x", digest) == f"s3://bucket/bundle-{digest[:16]}.tar.gz"
    address = "https://artifacts.example.com/bundles/"
    assert await Shelf(Store(), address).put(b"x", digest) == f"{address}bundle-{digest[:16]}.tar.gz"
