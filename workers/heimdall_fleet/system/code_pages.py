"""Code that only the start has run: its pages leave the process, and come back by themselves where it runs again.

Libraries run much of their code once: ONNX Runtime registers every operator there is, numpy its types. Such pages are
the files' own, so nothing is lost, and one that is wanted again comes from the system's cache of files.
"""

import ctypes
import mmap
import re
import sys
from collections.abc import Iterator
from pathlib import Path

_SMAPS = Path("/proc/self/smaps")
_CODE = re.compile(
    r"^([0-9a-f]+)-([0-9a-f]+) r-xp \S+ \S+ \S+ +/.*\n(?:[A-Z]\w+: .*\n)*?Anonymous: +0 kB$", re.MULTILINE
)


def give_back_code() -> int:
    """Let go of the resident code of every library; how many there were. 0 on systems other than Linux."""
    if sys.platform != "linux" or not _SMAPS.exists():
        return 0
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)
    spans = list(code_spans(_SMAPS.read_text()))
    return sum(advise(start, end - start, mmap.MADV_DONTNEED) == 0 for start, end in spans)


def code_spans(smaps: str) -> Iterator[tuple[int, int]]:
    """Beginning and end of each mapping of a file's code, from the text of proc(5) `smaps`.

    Only what is private, may be run and may not be written (`r-xp`), and of which no page was ever changed: of all else a
    process may hold pages that no file has.
    """
    for span in _CODE.finditer(smaps):
        yield int(span[1], 16), int(span[2], 16)
