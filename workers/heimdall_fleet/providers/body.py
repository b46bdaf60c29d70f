"""An answer's body within bounds: bytes on the wire, bytes after decompression.

A compressed bomb is cut at the limit while it is being unpacked; it never exists in memory. Unpacking is done in slices,
between which everybody else has a turn.
"""

import asyncio
import zlib
from collections.abc import Mapping

from heimdall_fleet.providers.dialect import Action, AttemptError, AttemptFailure
from heimdall_fleet.providers.failures import malformed, truncated
from heimdall_schemas.failure import FailureCode

_ANY_ZLIB_OR_GZIP_HEADER = zlib.MAX_WBITS | 32
SLICE_BYTES = 1024 * 1024
"""Unpacked at once: about two milliseconds."""


class BodyReader:
    """Checks and unpacks the pieces of one body.

    Raises AttemptError: `provider_too_large` at a limit (at once when `content-length` is over it),
    `provider_malformed` for an encoding that cannot be read, `provider_truncated` for half a compressed body.
    """

    __slots__ = ("_max", "_max_unpacked", "_seen", "_status", "_unpacked", "_unpacker", "more")

    def __init__(self, status: int, headers: Mapping[str, str], max_bytes: int, max_decompressed_bytes: int) -> None:
        self._status = status
        self._max = max_bytes
        self._max_unpacked = max_decompressed_bytes
        self._seen = 0
        self._unpacked = 0
        encoding = headers.get("content-encoding")
        self._unpacker = _unpacker(status, encoding) if encoding else None
        self.more = False
        """Whether there may be more of the pieces so far; feed it nothing to get it."""
        announced = headers.get("content-length")
        if announced and announced.isdigit() and int(announced) > max_bytes:
            raise self._too_large(f"announced are {int(announced):,} bytes", max_bytes)

    def feed(self, piece: bytes) -> bytes:
        """What `piece` unpacks to, at most a slice at once."""
        self._seen += len(piece)
        if self._seen > self._max:
            raise self._too_large("the body goes on", self._max)
        if self._unpacker is None:
            return piece
        return self._unpack(self._unpacker, piece)

    def finish(self) -> None:
        if self._unpacker is not None and self._seen and not self._unpacker.eof:
            raise truncated("the compressed body ended in the middle", status=self._status)

    def _unpack(self, unpacker: "zlib._Decompress", piece: bytes) -> bytes:
        at_most = min(SLICE_BYTES, self._max_unpacked - self._unpacked + 1)
        try:
            unpacked = unpacker.decompress(unpacker.unconsumed_tail + piece, at_most)
        except zlib.error as error:
            raise malformed(f"the body cannot be decompressed: {error}", status=self._status) from error
        self._unpacked += len(unpacked)
        self.more = len(unpacked) == at_most
        if self._unpacked > self._max_unpacked:
            raise self._too_large("the body goes on after decompression", self._max_unpacked)
        return unpacked

    def _too_large(self, found: str, limit_bytes: int) -> AttemptError:
        return AttemptError(
            AttemptFailure(
                FailureCode.PROVIDER_TOO_LARGE,
                Action.OTHER_PROVIDER,
                f"{found}; an answer may have {limit_bytes:,} bytes, ask for fewer max_tokens",
                self._status,
                counts_for_breaker=True,
            )
        )


async def whole(reader: BodyReader, first: bytes) -> bytes:
    """All that a piece unpacks to, with a turn for others between slices; `first` is what feeding it gave. Raises as the
    reader does."""
    slices = [first]
    while reader.more:
        await asyncio.sleep(0)
        slices.append(reader.feed(b""))
    return b"".join(slices)


def _unpacker(status: int, encoding: str) -> "zlib._Decompress | None":
    encoding = encoding.strip().lower()
    if encoding in {"", "identity"}:
        return None
    if encoding in {"gzip", "x-gzip", "deflate"}:
        return zlib.decompressobj(_ANY_ZLIB_OR_GZIP_HEADER)
    raise malformed(f"the body has the encoding {encoding}, which was not asked for", status=status)
