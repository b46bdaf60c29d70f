"""AWS event-stream frames: botocore reads what ours writes, ours reads what the standard allows."""

import struct
import zlib
from itertools import pairwise
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.providers.dialect import AttemptError
from heimdall_fleet.providers.eventstream import FrameParser, frame
from heimdall_schemas.failure import FailureCode as Code

HEADERS = {":message-type": "event", ":event-type": "metadata", "ä": "ö" * 200}
names = st.text(min_size=1, max_size=20)
frames = st.lists(st.tuples(st.dictionaries(names, st.text(max_size=30), max_size=4), st.binary(max_size=200)))


@given(frames=frames, cuts=st.lists(st.integers(0, 5000), max_size=6))
def test_frames_survive_any_chunking(frames: list[tuple[dict[str, str], bytes]], cuts: list[int]) -> None:
    data = b"".join(frame(headers, payload) for headers, payload in frames)
    marks = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    parser = FrameParser()
    found = [each for a, b in pairwise(marks) for each in parser.feed(data[a:b])]
    assert [(dict(each.headers), each.payload) for each in found] == frames


def test_botocore_reads_what_is_written() -> None:
    buffer: Any = EventStreamBuffer()
    buffer.add_data(frame(HEADERS, b"payload") + frame({}, b""))
    first, second = list(buffer)
    assert (first.headers, first.payload) == (HEADERS, b"payload")
    assert (second.headers, second.payload) == ({}, b"")


def sealed(headers: bytes, payload: bytes = b"", total: int | None = None) -> bytes:
    lengths = struct.pack(">II", total or 16 + len(headers) + len(payload), len(headers))
    head = lengths + struct.pack(">I", zlib.crc32(lengths)) + headers + payload
    return head + struct.pack(">I", zlib.crc32(head))


def header(name: bytes, kind: int, value: bytes) -> bytes:
    return bytes([len(name)]) + name + bytes([kind]) + value


def test_headers_of_every_type_are_skipped_over() -> None:
    sizes = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
    headers = b"".join(header(b"x", kind, bytes(size)) for kind, size in sizes.items())
    headers += header(b"y", 6, b"\x00\x02ab") + header(b"z", 7, b"\x00\x01v")
    (found,) = FrameParser().feed(sealed(headers, b"p"))
    assert (found.headers, found.payload) == ({"z": "v"}, b"p")


WHOLE = frame(HEADERS, b"payload")


@pytest.mark.parametrize(
    "data",
    [
        WHOLE[:8] + b"\0\0\0\0" + WHOLE[12:],
        WHOLE[:-1] + bytes([WHOLE[-1] ^ 1]),
        WHOLE[:20] + b"\xff" + WHOLE[21:],
        sealed(header(b"x", 42, b"")),
        sealed(header(b"x", 7, b"\x00")),
        sealed(header(b"\xff", 7, b"\x00\x00")),
        sealed(b"", total=8),
        sealed(b"", total=100 * 1024 * 1024),
    ],
)
def test_what_is_no_frame_is_malformed(data: bytes) -> None:
    with pytest.raises(AttemptError) as caught:
        FrameParser().feed(data)
    assert caught.value.failure.code is Code.PROVIDER_MALFORMED
