"""The authorities that a provider's certificate must lead to."""

import logging
import ssl
from functools import lru_cache
from pathlib import Path

import certifi

from heimdall_fleet.stamps import Stamp, stamp_of

_log = logging.getLogger(__name__)


class Roots:
    """Those in `ca_file`, else the public ones. A file that changed is read again, since authorities are rotated; while what
    is there cannot be read, those that were read before hold."""

    def __init__(self, ca_file: str | None) -> None:
        self._file = None if ca_file is None else Path(ca_file)
        self._stamp: Stamp | None = None
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """Raises ValueError for a file without certificates."""
        if self._file is None:
            return _public()
        if self._context is None:
            self._stamp = stamp_of(self._file)
            self._context = _in(self._file)
        return self._context

    def renewed(self) -> bool:
        """Whether `context` is another one than before, since the file is."""
        if self._file is None or self._context is None:
            return False
        stamp = stamp_of(self._file)
        if stamp is None or stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self._context = _in(self._file)
        except ValueError as error:
            _log.warning("%s; those that were read before stay in use", error, extra={"action": "ca_file_refused"})
            return False
        _log.info("the certificates of %s were read again", self._file, extra={"action": "ca_file_read"})
        return True


@lru_cache(maxsize=1)
def _public() -> ssl.SSLContext:
    """They weigh 5 MiB: once for all, when somebody asks over TLS."""
    return ssl.create_default_context(cafile=certifi.where())


def _in(file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(file))
    except OSError as error:
        raise ValueError(f"no certificates in network.ca_file {file}: {error}") from error
