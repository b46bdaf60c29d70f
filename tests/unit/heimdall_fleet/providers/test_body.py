"""Bodies within bounds."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.providers.body import BodyReader
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


def test_a_bomb_is_cut_at_the_limit_and_never_unpacked() -> None:
    bomb = gzip.compress(b"0" * 900_000)
    reader = BodyReader(200, {"content-encoding": "gzip"}, max_bytes=len(bomb), max_decompressed_bytes=100)
    with pytest.raises(AttemptError, match="max_decompressed_bytes"):
        reader.feed(bomb)
