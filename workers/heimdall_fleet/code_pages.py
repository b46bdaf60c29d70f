"""Code that only the start has run: its pages leave the process, and come back by themselves where it runs again.

Libraries run much of their code once: ONNX Runtime registers every operator there is, numpy its types. Such pages are
the files' own, so nothing is lost, and one that is wanted again comes from the system's cache of files.
"""

import ctypes
import mmap
import sys
from collections.abc import Iterator
from pathlib import Path

_MAPS = Path("/proc/self/maps")


def give_back_code() -> int:
    """Let go of the resident code of every library; how many there were. 0 on systems other than Linux."""
    if sys.platform != "linux" or not _MAPS.exists():
        return 0
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)
    spans = list(code_spans(_MAPS.read_text()))
    return sum(advise(start, end - start, mmap.MADV_DONTNEED) == 0 for start, end in spans)


def code_spans(maps: str) -> Iterator[tuple[int, int]]:
    """Beginning and end of each mapping of a file's code, from the text of proc(5) `maps`.

    Only what is private, may be run and may not be written (`r-xp`): of all else a process may hold pages that no file has.
    """
    for line in maps.splitlines():
        span, access, _, _, _, *path = line.split(maxsplit=5)
        if access == "r-xp" and path and path[0].startswith("/"):
            start, end = (int(edge, 16) for edge in span.split("-"))
            yield start, end
