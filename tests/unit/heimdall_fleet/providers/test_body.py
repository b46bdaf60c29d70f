"""Bodies within bounds."""

import asyncio
import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.providers.body import SLICE_BYTES, BodyReader, whole
from heimdall_fleet.providers.dialect import AttemptError
from heimdall_schemas.failure import FailureCode as Code

MAX = 1000


def read(pieces: list[bytes], **headers: str) -> bytes:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    reader = BodyReader(200, named, max_bytes=MAX, max_decompressed_bytes=4 * MAX)
    body = b"".join(map(reader.feed, pieces))
    reader.finish()
    return body


@given(st.binary(max_size=300), st.integers(1, 50))
def test_a_compressed_body_is_unpacked_in_any_pieces(body: bytes, size: int) -> None:
    for encoding, packed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body)), ("identity", body)):
        pieces = [packed[at : at + size] for at in range(0, len(packed), size)]
        assert read(pieces, content_encoding=encoding) == body


@pytest.mark.parametrize(
    ("pieces", "headers", "code"),
    [
        ([b"x" * (MAX + 1)], {}, Code.PROVIDER_TOO_LARGE),
        ([b"x" * 600, b"x" * 600], {}, Code.PROVIDER_TOO_LARGE),
        ([], {"content_length": str(MAX + 1)}, Code.PROVIDER_TOO_LARGE),
        ([gzip.compress(b"0" * 500_000)], {"content_encoding": "gzip"}, Code.PROVIDER_TOO_LARGE),
        ([b"not gzip"], {"content_encoding": "gzip"}, Code.PROVIDER_MALFORMED),
        ([b"x"], {"content_encoding": "br"}, Code.PROVIDER_MALFORMED),
        ([gzip.compress(b"x" * 90)[:-12]], {"content_encoding": "GZip"}, Code.PROVIDER_TRUNCATED),
    ],
)
def test_a_body_out_of_bounds_is_a_failed_attempt(pieces: list[bytes], headers: dict[str, str], code: Code) -> None:
    with pytest.raises(AttemptError) as caught:
        read(pieces, **headers)
    assert caught.value.failure.code is code


async def test_a_large_body_is_unpacked_a_slice_at_a_time_with_turns_for_others_in_between() -> None:
    body = b"0" * (3 * SLICE_BYTES + 5)
    packed = gzip.compress(body)
    limit = len(body)
    reader = BodyReader(200, {"content-encoding": "gzip"}, max_bytes=limit, max_decompressed_bytes=limit)
    turns = 0

    async def another() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    neighbour = asyncio.create_task(another())
    assert await whole(reader, reader.feed(packed[:1000])) + await whole(reader, reader.feed(packed[1000:])) == body
    neighbour.cancel()
    reader.finish()
    assert turns >= 2
    assert len(BodyReader(200, {"content-encoding": "gzip"}, limit, limit).feed(packed)) == SLICE_BYTES


@given(st.binary(max_size=40), st.integers(1, 3000), st.integers(1, 60))
def test_slices_make_up_the_body_whatever_its_length(unit: bytes, times: int, size: int) -> None:
    body = unit * times * 40
    packed = gzip.compress(body)

    async def read_all() -> bytes:
        reader = BodyReader(200, {"content-encoding": "gzip"}, len(packed), len(body))
        found = [await whole(reader, reader.feed(packed[at : at + size])) for at in range(0, len(packed), size)]
        reader.finish()
        return b"".join(found)

    assert asyncio.run(read_all()) == body


def test_a_bomb_is_cut_at_the_limit_and_never_unpacked() -> None:
    bomb = gzip.compress(b"0" * 900_000)
    reader = BodyReader(200, {"content-encoding": "gzip"}, max_bytes=len(bomb), max_decompressed_bytes=100)
    with pytest.raises(AttemptError, match="after decompression; an answer may have 100 bytes"):
        reader.feed(bomb)
