"""Where a reply goes that no record can hold: a directory that all readers share, or S3."""

import asyncio
import os
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname


class ObjectStoreError(Exception):
    """The object was not stored: what, where, why."""


class ObjectStore(Protocol):
    """Keeps objects under names. A name that is put again is replaced, so putting twice is safe."""

    async def put(self, name: str, value: bytes) -> str:
        """Store `value`; returns the URL it is found at. Raises ObjectStoreError."""
        ...


class FileStore:
    """Objects as files of a directory, such as a volume that workers and readers mount at the same path."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def put(self, name: str, value: bytes) -> str:
        path = self._directory / name
        try:
            await asyncio.to_thread(_write_whole, path, value)
        except OSError as error:
            raise ObjectStoreError(f"{path} cannot be written: {error}") from error
        return path.absolute().as_uri()


def _write_whole(path: Path, value: bytes) -> None:
    """A reader sees the whole file or none, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("wb") as file:
        file.write(value)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def open_store(url: str) -> ObjectStore:
    """The store at `file://` or `s3://bucket/prefix`. Raises ObjectStoreError for S3 without the extra `s3`."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return FileStore(Path(url2pathname(parts.path)))
    try:
        from heimdall_fleet.dispatch.s3 import S3Objects  # noqa: PLC0415 - its library is an extra
    except ImportError as error:
        raise ObjectStoreError(f"{url} needs a library: pip install 'heimdall-fleet[s3]'") from error
    return S3Objects.at(url)
