import mmap
import platform
import re
from pathlib import Path

import pytest

from heimdall_fleet.system.huge_pages import aligned, use_huge_pages

HUGE = 2 * 1024 * 1024
MAPS = """\
00400000-00c00000 r-xp 00000000 fe:00 123    /usr/bin/python3
00c00000-01000000 rw-p 00800000 fe:00 123    /usr/bin/python3
01300000-01a00000 rw-p 00000000 00:00 0      [heap]
7f0000100000-7f0000300000 rw-p 00000000 00:00 0
7f0000400000-7f0000800000 rw-p 00000000 00:00 0
7f0000800000-7f0000c00000 ---p 00000000 00:00 0
7f0000c00000-7f0001000000 rw-s 00000000 00:01 9  /memfd:shared (deleted)
7ffc00000000-7ffc00400000 rw-p 00000000 00:00 0  [stack]
"""


def test_a_huge_page_lies_in_private_memory_of_no_file() -> None:
    heap, arena = [0x01400000, 0x01600000, 0x01800000], [0x7F0000400000, 0x7F0000600000]
    assert list(aligned(MAPS, HUGE)) == heap + arena


def told(name: str) -> int:
    """KiB of that line of proc(5) `smaps_rollup`."""
    found = re.search(rf"^{name}: +(\d+) kB$", Path("/proc/self/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def makes_huge_pages() -> bool:
    """Linux 6.1 and later, unless an administrator has said never."""
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    release = tuple(map(int, re.findall(r"\d+", platform.release())[:2])) if platform.system() == "Linux" else (0, 0)
    return release >= (6, 1) and setting.exists() and "[never]" not in setting.read_text()


@pytest.mark.skipif(not makes_huge_pages(), reason="this system makes no huge pages")
def test_what_is_full_becomes_huge_and_what_is_empty_takes_no_memory() -> None:
    with mmap.mmap(-1, 64 * HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as nearly_empty:
        nearly_empty[: 4 * HUGE] = b"x" * (4 * HUGE)
        huge_before, resident_before = told("AnonHugePages"), told("Rss")
        assert use_huge_pages() >= 3
        assert told("AnonHugePages") - huge_before >= 3 * HUGE // 1024
        assert told("Rss") - resident_before < 20 * HUGE // 1024
        assert nearly_empty[: 4 * HUGE] == b"x" * (4 * HUGE)
