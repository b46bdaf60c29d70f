"""Where a bundle comes from: a directory, or a pointer that names an archive and its sha-256.

An archive is data from outside. It is bounded before and while it is read, nothing of it is used before its sha-256 is
the pointer's, and of its members only plain files without folders of their own are written, into a folder that is
deleted once the bundle is in memory.
"""

import hashlib
import io
import logging
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import urljoin

from pydantic import ValidationError

from heimdall_fleet.shown import shown_address
from heimdall_fleet.triage.download import Download, DownloadError
from heimdall_models.bundle import (
    MANIFEST,
    MAX_BUNDLE_BYTES,
    MAX_FILE_BYTES,
    OPTIONAL_FILES,
    REQUIRED_FILES,
    Bundle,
    BundleError,
    load_bundle,
    read_head,
)
from heimdall_schemas.control import Earlier, Pointer
from heimdall_schemas.faults import faults_of

log = logging.getLogger(__name__)

MAX_POINTER_BYTES = 64 * 1024
MAX_ARCHIVE_BYTES = 2 * MAX_BUNDLE_BYTES
MAX_MEMBERS = 64
KEPT_ARCHIVES = 4


class SourceError(ValueError):
    """A bundle cannot be had from its source: says which source, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a source names now. `marker` is another one exactly when the bundle is; `load` reads it.

    `load` raises BundleError or SourceError.
    """

    marker: str
    load: Callable[[], Bundle]


class Source(Protocol):
    """A place that is looked at again and again. `offer` raises SourceError; it reads files and may use the network."""

    def offer(self) -> Offer: ...


@dataclass(frozen=True, slots=True)
class Directory:
    """A bundle as a directory; marked by all its files, so that one which is spoiled under an old manifest is seen too."""

    path: Path

    def offer(self) -> Offer:
        try:
            manifest = read_head(self.path / MANIFEST, MAX_FILE_BYTES + 1)
        except OSError as error:
            raise SourceError(
                f"{self.path} is no bundle: {MANIFEST} cannot be read ({error.strerror}); "
                "name the directory of one, or a pointer as file:// or https://"
            ) from error
        marker = hashlib.sha256(manifest)
        for name in (*REQUIRED_FILES, *OPTIONAL_FILES):
            marker.update(_digest(self.path / name))
        return Offer(marker.hexdigest(), lambda: load_bundle(self.path))


def _digest(path: Path) -> bytes:
    """Of no more than a bundle's file may have; of nothing where there is no such file, which loading is to judge."""
    try:
        return hashlib.sha256(read_head(path, MAX_FILE_BYTES + 1)).digest()
    except OSError:
        return bytes(hashlib.sha256().digest_size)


@dataclass(frozen=True, slots=True)
class PointerFile:
    """A JSON `Pointer` at an address, read anew each time; its `url` may be relative to its own."""

    url: str
    archives: "Archives"

    def offer(self) -> Offer:
        return self.archives.offer(self.pointer())

    def pointer(self) -> Pointer:
        """With the whole address of its archive. Raises SourceError."""
        try:
            raw = self.archives.download(self.url, MAX_POINTER_BYTES)
        except DownloadError as error:
            raise SourceError(str(error)) from error
        pointer = read_pointer(raw, shown_address(self.url))
        try:
            whole = urljoin(self.url, pointer.url)
        except ValueError as error:
            shown = shown_address(pointer.url)[:200]
            raise SourceError(f"{shown_address(self.url)} points at {shown!r}, which is no address: {error}") from error
        return pointer.model_copy(update={"url": whole})


def read_pointer(raw: bytes, where: str) -> Pointer:
    """Raises SourceError for what is no pointer."""
    try:
        return Pointer.model_validate_json(raw)
    except ValidationError as error:
        raise SourceError(
            f'{where} is no pointer ({faults_of(error).text}); it must be {{"name": …, "url": …, "sha256": 64 hex digits}}'
        ) from error


@dataclass(frozen=True, slots=True)
class Archives:
    """Archives by their sha-256: fetched once and kept in `folder` (None: not kept)."""

    folder: Path | None
    download: Download

    def offer(self, pointer: Pointer) -> Offer:
        return Offer(pointer.sha256, lambda: self.load(pointer))

    def load(self, pointer: Earlier) -> Bundle:
        """The bundle in the pointer's archive. Raises SourceError."""
        with self.opened(pointer) as path:
            try:
                return load_bundle(path)
            except BundleError as error:
                raise SourceError(
                    f"{shown_address(pointer.url)} is refused: {error.path.name}: {error.what}"
                ) from error

    @contextmanager
    def opened(self, pointer: Earlier) -> Iterator[Path]:
        """The bundle's files, in a folder for the length of the block. Raises SourceError."""
        with unpacked(self._archive(pointer), shown_address(pointer.url)) as path:
            yield path

    def _archive(self, pointer: Earlier) -> bytes:
        kept = self.folder / f"{pointer.sha256}.archive" if self.folder else None
        if kept and kept.exists():
            data = _head(kept, MAX_ARCHIVE_BYTES)
            if hashlib.sha256(data).hexdigest() == pointer.sha256:
                return data
        try:
            data = self.download(pointer.url, MAX_ARCHIVE_BYTES)
        except DownloadError as error:
            raise SourceError(str(error)) from error
        found = hashlib.sha256(data).hexdigest()
        if found != pointer.sha256:
            raise SourceError(
                f"{shown_address(pointer.url)} has the sha-256 {found}, its pointer says {pointer.sha256}; "
                "publish the pointer last, and never another archive at an old address"
            )
        if kept:
            try:
                _keep(kept, data)
            except OSError as error:
                log.warning("the archive is not kept in %s: %s", kept.parent, error, extra={"action": "cache_failed"})
        return data


def _head(path: Path, limit: int) -> bytes:
    try:
        return read_head(path, limit)
    except OSError as error:
        log.warning("%s cannot be read, it is fetched again: %s", path, error, extra={"action": "cache_failed"})
        return b""


def _keep(path: Path, data: bytes) -> None:
    """A file appears whole or not at all; the oldest go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            file.write(data)
            file.close()
            Path(file.name).replace(path)
        finally:
            Path(file.name).unlink(missing_ok=True)  # of a full disk, it would take what is left
    by_age = sorted(path.parent.glob("*.archive"), key=lambda each: each.stat().st_mtime)
    for old in by_age[:-KEPT_ARCHIVES]:
        old.unlink(missing_ok=True)


_UNREADABLE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error),
    *(EOFError, OSError, NotImplementedError, RuntimeError),
)
"""What the libraries raise over bytes that are no archive, ValueError aside."""


@contextmanager
def unpacked(archive: bytes, where: str) -> Iterator[Path]:
    """The bundle's files in a folder that lives as long as the block. Raises SourceError for an unsafe archive."""
    try:
        files = dict(_members(archive))
    except _UNREADABLE as error:
        raise SourceError(f"{where} is neither a .tar.gz nor a .zip that can be read ({error})") from error
    except ValueError as error:
        raise SourceError(f"{where} is refused: {error}") from error
    with ExitStack() as stack:
        try:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="heimdall-bundle-")))
            for name, data in files.items():
                (folder / name).write_bytes(data)
        except OSError as error:
            raise SourceError(f"{where} cannot be unpacked in {tempfile.gettempdir()}: {error}") from error
        yield folder


def _members(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file. Raises ValueError for anything that no bundle has."""
    found = _zipped(archive) if archive[:4] == b"PK\x03\x04" else _tarred(archive)
    count, total = 0, 0
    for name, data in found:
        count, total = count + 1, total + len(data)
        if count > MAX_MEMBERS or total > MAX_ARCHIVE_BYTES:
            raise ValueError(f"it holds more than {MAX_MEMBERS} files or {MAX_ARCHIVE_BYTES:,} bytes")
        yield _plain(name), data


def _plain(name: str) -> str:
    """The file's own name: all of a bundle lies in one folder, or in none."""
    path = PurePosixPath(name)
    parts = [part for part in path.parts if part != "."]
    if path.is_absolute() or ".." in parts or "\\" in name or "\0" in name or not 1 <= len(parts) <= 2:
        raise ValueError(f"it holds {name[:100]!r}; a bundle's files lie in one folder, without links and `..`")
    return parts[-1]


def _zipped(archive: bytes) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        for member in opened.infolist():
            mode = member.external_attr >> 16
            if (mode & 0o170000) not in (0, 0o100000, 0o040000):
                raise ValueError(f"{member.filename[:100]!r} is a link or a device")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{member.filename[:100]!r} is neither stored nor deflated")
            if not member.is_dir():
                with opened.open(member) as file:
                    yield member.filename, _bounded(file.read(MAX_FILE_BYTES + 1), member.filename)


def _tarred(archive: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as opened:
        for member in opened:
            if member.isdir():
                _plain(member.name)
                continue
            file = opened.extractfile(member) if member.isreg() else None
            if file is None:
                raise ValueError(f"{member.name[:100]!r} is a link or a device")
            yield member.name, _bounded(file.read(MAX_FILE_BYTES + 1), member.name)


def _bounded(data: bytes, name: str) -> bytes:
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"{name[:100]!r} is larger than {MAX_FILE_BYTES:,} bytes")
    return data
