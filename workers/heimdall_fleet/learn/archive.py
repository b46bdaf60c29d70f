"""A bundle as one file, and the place where promoted bundles are kept."""

import gzip
import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

from heimdall_fleet.objects.base import ObjectStore
from heimdall_models.bundle import MANIFEST, Bundle

CARD = "MODEL_CARD.md"


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where archives are put, and the address at which workers fetch them; None: the one that the store gives."""

    store: ObjectStore
    address: str | None = None

    async def put(self, archive: bytes, digest: str) -> str:
        """Store under a name of its own; the address. Raises ObjectStoreError."""
        name = f"bundle-{digest[:16]}.tar.gz"
        stored = await self.store.put(name, archive)
        return stored if self.address is None else f"{self.address.rstrip('/')}/{name}"


def packed(bundle: Bundle) -> bytes:
    """A .tar.gz of what the manifest names, and of the card. The same bundle gives the same bytes."""
    names = [MANIFEST, *sorted(bundle.manifest["files"])]
    if (bundle.path / CARD).exists():
        names.append(CARD)
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            _add(archive, bundle.path, name)
    return gzip.compress(tarred.getvalue(), mtime=0)


def _add(archive: tarfile.TarFile, folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    member = tarfile.TarInfo(f"bundle/{name}")
    member.size, member.mode = len(data), 0o644
    archive.addfile(member, io.BytesIO(data))


def digest_of(archive: bytes) -> str:
    return hashlib.sha256(archive).hexdigest()
