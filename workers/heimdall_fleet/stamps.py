"""What tells that a file is another one than when it was last looked at."""

from pathlib import Path
from typing import TypeAlias

Stamp: TypeAlias = tuple[int, int, int]


def stamp_of(file: Path) -> Stamp | None:
    """Time, size and inode (Kubernetes swaps a link); None for one that is not there."""
    try:
        status = file.stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)
