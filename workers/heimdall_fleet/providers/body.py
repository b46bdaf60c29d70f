"""An answer's body within bounds: bytes on the wire, bytes after decompression.

A compressed bomb is cut at the limit while it is being unpacked; it never exists in memory.
"""

import zlib
from collections.abc import Mapping

from heimdall_fleet.providers.dialect import Action, AttemptError, AttemptFailure
from heimdall_fleet.providers.failures import malformed, truncated
from heimdall_schemas.failure import FailureCode

_ANY_ZLIB_OR_GZIP_HEADER = zlib.MAX_WBITS | 32


class BodyReader:
    """Checks and unpacks the pieces of one body.

    Raises AttemptError: `provider_too_large` at a limit (at once when `content-length` is over it),
    `provider_malformed` for an encoding that cannot be read, `provider_truncated` for half a compressed body.
    """

    def __init__(self, status: int, headers: Mapping[str, str], max_bytes: int, max_decompressed_bytes: int) -> None:
        self._status = status
        self._max = max_bytes
        self._max_unpacked = max_decompressed_bytes
        self._seen = 0
        self._unpacked = 0
        self._unpacker = _unpacker(status, headers.get("content-encoding", "identity"))
        announced = headers.get("content-length", "")
        if announced.isdigit() and int(announced) > max_bytes:
            raise self._too_large(f"announced are {int(announced):,} bytes", "max_bytes", max_bytes)

    def feed(self, piece: bytes) -> bytes:
        self._seen += len(piece)
        if self._seen > self._max:
            raise self._too_large("the body goes on", "max_bytes", self._max)
        if self._unpacker is None:
            return piece
        return self._unpack(self._unpacker, piece)

    def finish(self) -> None:
        if self._unpacker is not None and self._seen and not self._unpacker.eof:
            raise truncated("the compressed body ended in the middle", status=self._status)

    def _unpack(self, unpacker: "zlib._Decompress", piece: bytes) -> bytes:
        room = self._max_unpacked - self._unpacked
        try:
            unpacked = unpacker.decompress(piece, room + 1)
        except zlib.error as error:
            raise malformed(f"the body cannot be decompressed: {error}", status=self._status) from error
        self._unpacked += len(unpacked)
        if self._unpacked > self._max_unpacked:
            raise self._too_large("the body goes on after decompression", "max_decompressed_bytes", self._max_unpacked)
        return unpacked

    def _too_large(self, found: str, limit: str, limit_bytes: int) -> AttemptError:
        return AttemptError(
            AttemptFailure(
                FailureCode.PROVIDER_TOO_LARGE,
                Action.OTHER_PROVIDER,
                f"{found}; the limit of an answer is {limit_bytes:,} bytes ({limit})",
                self._status,
                counts_for_breaker=True,
            )
        )


def _unpacker(status: int, encoding: str) -> "zlib._Decompress | None":
    encoding = encoding.strip().lower()
    if encoding in {"", "identity"}:
        return None
    if encoding in {"gzip", "x-gzip", "deflate"}:
        return zlib.decompressobj(_ANY_ZLIB_OR_GZIP_HEADER)
    raise malformed(f"the body has the encoding {encoding}, which was not asked for", status=status)
