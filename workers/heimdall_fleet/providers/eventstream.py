"""Frames of `application/vnd.amazon.eventstream`, read from bytes and written. All numbers are big-endian.

    total_length u32 | headers_length u32 | crc32 of these 8 bytes u32 | headers | payload | crc32 of all before u32

A header is `name_length u8 | name | type u8 | value`.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from heimdall_fleet.providers.failures import malformed

MAX_HEADERS_BYTES = 128 * 1024
MAX_PAYLOAD_BYTES = 24 * 1024 * 1024
_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_LENGTH = struct.Struct(">H")
_STRING = 7
_BYTES = 6
# Sizes of the values that have one: booleans are their own type number.
_FIXED_BYTES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}


@dataclass(frozen=True, slots=True)
class Frame:
    """`headers` has the string headers only: the protocol uses no others."""

    headers: Mapping[str, str]
    payload: bytes


class FrameParser:
    """Feed it bytes in any chunking; the frames are the same. Raises AttemptError for what is not a frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        self._buffer += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        buffer = self._buffer
        if len(buffer) < _PRELUDE.size:
            return None
        total, headers_length, prelude_crc = _PRELUDE.unpack_from(buffer)
        if zlib.crc32(buffer[:8]) != prelude_crc:
            raise malformed("the checksum of a frame's beginning is wrong")
        payload_bytes = total - headers_length - _PRELUDE.size - _CRC.size
        if not (headers_length <= MAX_HEADERS_BYTES and 0 <= payload_bytes <= MAX_PAYLOAD_BYTES):
            raise malformed(f"a frame of {total:,} bytes, {headers_length:,} of them headers, is out of bounds")
        if len(buffer) < total:
            return None
        frame = bytes(buffer[:total])
        del buffer[:total]
        if zlib.crc32(frame[: -_CRC.size]) != _CRC.unpack_from(frame, total - _CRC.size)[0]:
            raise malformed("the checksum of a frame is wrong")
        headers_end = _PRELUDE.size + headers_length
        return Frame(_headers(frame[_PRELUDE.size : headers_end]), frame[headers_end : -_CRC.size])


def _headers(data: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    at = 0
    try:
        while at < len(data):
            name_end = at + 1 + data[at]
            name, kind = data[at + 1 : name_end].decode(), data[name_end]
            at = name_end + 1
            if kind in (_STRING, _BYTES):
                (length,) = _LENGTH.unpack_from(data, at)
                value, at = data[at + 2 : at + 2 + length], at + 2 + length
                if kind == _STRING:
                    headers[name] = value.decode()
            else:
                at += _FIXED_BYTES[kind]
    except (IndexError, KeyError, UnicodeDecodeError, struct.error) as error:
        raise malformed(f"the headers of a frame cannot be read: {error!r}") from error
    return headers


def frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One frame with string headers."""
    packed = b"".join(_packed(name.encode(), value.encode()) for name, value in headers.items())
    total = _PRELUDE.size + len(packed) + len(payload) + _CRC.size
    lengths = struct.pack(">II", total, len(packed))
    head = lengths + _CRC.pack(zlib.crc32(lengths)) + packed + payload
    return head + _CRC.pack(zlib.crc32(head))


def _packed(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + bytes([_STRING]) + _LENGTH.pack(len(value)) + value
