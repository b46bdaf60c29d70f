import sys

import numpy as np
import pytest

from heimdall_fleet.observe.process import resident_bytes
from heimdall_fleet.system.code_pages import code_spans, give_back_code

MAPPINGS = (
    ("55e0c8a00000-55e0c8a2c000 r--p 00000000 fe:00 1311 /usr/bin/python3.11", 0),
    ("55e0c8a2c000-55e0c8cc1000 r-xp 0002c000 fe:00 1311 /usr/bin/python3.11", 0),
    ("55e0ca1f4000-55e0cb0f1000 rw-p 00000000 00:00 0    [heap]", 900),
    ("7f30c0000000-7f30c0021000 r-xp 00000000 00:00 0", 0),
    ("7f30dc000000-7f30dc200000 r-xs 00000000 fe:00 2718 /opt/with a space/shared.so", 0),
    ("7f30e0000000-7f30e0400000 r-xp 00001000 fe:00 3141 /opt/with a space/library.so (deleted)", 0),
    ("7f30e0400000-7f30e0410000 rwxp 00401000 fe:00 3141 /opt/with a space/library.so (deleted)", 0),
    ("7f30e0500000-7f30e0600000 r-xp 00000000 fe:00 1618 /opt/relocated.so", 4),
    ("7ffd5c5e2000-7ffd5c5e4000 r-xp 00000000 00:00 0    [vdso]", 0),
)


def test_only_code_that_is_a_files_own_is_given_back() -> None:
    smaps = "".join(
        f"{head}\nSize: 64 kB\nAnonymous: {changed:8} kB\nSwap: 0 kB\nVmFlags: rd\n" for head, changed in MAPPINGS
    )
    assert list(code_spans(smaps)) == [(0x55E0C8A2C000, 0x55E0C8CC1000), (0x7F30E0000000, 0x7F30E0400000)]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no /proc/self/maps")
def test_a_process_is_smaller_without_the_code_of_its_start_and_still_runs_it() -> None:
    before = resident_bytes()
    assert give_back_code() > 0
    assert resident_bytes() < before
    assert np.linalg.det(np.eye(3)) == 1.0
