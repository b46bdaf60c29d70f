"""Objects as files of a directory that all readers share."""

import asyncio
import os
from pathlib import Path

from heimdall_fleet.objects.base import ObjectStoreError


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
    try:
        with draft.open("wb") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)  # of a full disk, it would take what is left
