"""Huge pages for the memory that a worker works in.

A processor remembers where some two thousand pages are. The objects of a worker fill ten times as many of 4 KiB, so that it
keeps looking them up, and inside a virtual machine in tables of two layers; of 2 MiB they are a few dozen. The system makes
one of what is full already, by copying it: no more memory is taken.
"""

import ctypes
import mmap
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

_SYSTEM = Path("/sys/kernel/mm/transparent_hugepage")
_MAPS = Path("/proc/self/maps")
_OWN = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) rw-p 0+ 00:00 0 *(?:\[heap\])?$", re.MULTILINE)
_COLLAPSE = 25
"""MADV_COLLAPSE of madvise(2), since Linux 6.1; an older kernel refuses it, and nothing changes."""
_MOST_OF_IT = 0.9


def use_huge_pages() -> int:
    """Make huge pages of what this process has filled; how many it has now. 0 where the system makes none, or shall not.

    Takes some milliseconds for each new one. What is filled later needs another call.
    """
    size = _page_bytes()
    if not size:
        return 0
    library = ctypes.CDLL(None)
    resident = _resident_in(library, size)
    advise = library.madvise
    advise.argtypes = (ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)
    full = [start for start in aligned(_MAPS.read_text(), size) if resident(start) >= _MOST_OF_IT]
    return sum(advise(start, size, _COLLAPSE) == 0 for start in full)


def _page_bytes() -> int:
    """How large a huge page is; 0 where there are none, or an administrator wants none."""
    if sys.platform != "linux":
        return 0
    try:
        wanted = "[never]" not in (_SYSTEM / "enabled").read_text()
        return int((_SYSTEM / "hpage_pmd_size").read_text()) if wanted else 0
    except OSError:  # another kernel, or a sandbox that shows nothing of it
        return 0


def aligned(maps: str, size: int) -> Iterator[int]:
    """Where a huge page could begin, from the text of proc(5) `maps`: in private memory of no file, the heap included."""
    for span in _OWN.finditer(maps):
        start, end = int(span[1], 16), int(span[2], 16)
        yield from range(-(-start // size) * size, end - size + 1, size)


def _resident_in(library: ctypes.CDLL, size: int) -> Callable[[int], float]:
    """How much of the memory from an address on is there, 0 to 1."""
    pages = ctypes.create_string_buffer(size // mmap.PAGESIZE)
    look = library.mincore
    look.argtypes = (ctypes.c_size_t, ctypes.c_size_t, ctypes.c_char_p)

    def share(start: int) -> float:
        return pages.raw.count(1) / len(pages) if look(start, size, pages) == 0 else 0.0

    return share
