"""One small file from an address, for bundle pointers and archives: bounded in bytes and time, TLS always checked.

Seldom used and small, so the standard library in a thread does; calls to providers have a client of their own.
"""

import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import certifi

from heimdall_fleet import __version__
from heimdall_fleet.shown import shown_address
from heimdall_models.bundle import read_head

Download = Callable[[str, int], bytes]
"""Address and most bytes → the bytes. Raises DownloadError."""

TIMEOUT_S = 30.0
_CHUNK_BYTES = 64 * 1024


class DownloadError(ValueError):
    """A file could not be had: says which, and why."""


def download(url: str, limit_bytes: int) -> bytes:
    """The file at a `file://` or `https://` address; `http://` only from this machine. Blocks for up to 30 seconds.

    Raises DownloadError when it is not there, larger than `limit_bytes`, slower than that, or not to be trusted.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise DownloadError(f"{shown_address(url)[:200]!r} is no address: {error}") from error
    if parts.scheme == "file":
        return _read(Path(url2pathname(parts.path)), limit_bytes)
    refuse_unsafe(url)
    handlers: list[urllib.request.BaseHandler] = [
        _Redirects(), urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=certifi.where()))
    ]  # fmt: skip
    if parts.scheme == "http":
        handlers.append(urllib.request.ProxyHandler({}))
    opener = urllib.request.build_opener(*handlers)
    request = urllib.request.Request(url, headers={"User-Agent": f"heimdall-fleet/{__version__}"})
    deadline_s = time.monotonic() + TIMEOUT_S
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            data = b""
            while chunk := answer.read1(_CHUNK_BYTES):
                data += chunk
                if len(data) > limit_bytes:
                    raise DownloadError(f"{shown_address(url)} is larger than {limit_bytes:,} bytes")
                if time.monotonic() > deadline_s:
                    raise DownloadError(f"{shown_address(url)} did not arrive within {TIMEOUT_S:.0f} s")
            return data
    except DownloadError:
        raise
    except (urllib.error.URLError, HTTPException, OSError, ValueError) as error:  # ValueError: a name that is no host's
        why = str(error).replace(parts.query, "***") if parts.query else str(error)
        raise DownloadError(f"{shown_address(url)} cannot be fetched: {why}") from error


def refuse_unsafe(url: str) -> None:
    """Raises DownloadError for an address whose answer anyone on the way could have written, or that holds a secret: it would
    stand in logs and health."""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise DownloadError(
            f"{parts.scheme}://***@{parts.hostname} holds credentials, which are not sent; name an address without"
        )
    if parts.scheme == "https" or (parts.scheme == "http" and _is_here(parts.hostname or "")):
        return
    raise DownloadError(f"{shown_address(url)} is not safe; use https://, or file:// (http:// only from this machine)")


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class _Redirects(urllib.request.HTTPRedirectHandler):
    """A redirect leads nowhere that could not have been asked in the first place."""

    def redirect_request(  # urllib's own signature
        self, req: urllib.request.Request, fp: object, code: int, msg: str, headers: object, newurl: str
    ) -> urllib.request.Request | None:
        refuse_unsafe(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type] # as typed there


def _read(path: Path, limit_bytes: int) -> bytes:
    try:
        data = read_head(path, limit_bytes + 1)
    except OSError as error:
        raise DownloadError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DownloadError(f"{str(path)!r} is no file's name: {error}") from error
    if len(data) > limit_bytes:
        raise DownloadError(f"{path} is larger than {limit_bytes:,} bytes")
    return data
