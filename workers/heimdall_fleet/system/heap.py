"""When the C library gives memory back to the system: what a batch takes is kept for the next one."""

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h."""

KEPT_BYTES = 16 * 1024 * 1024
MAPPED_FROM_BYTES = 8 * 1024 * 1024


def settle_heap() -> bool:
    """Give back what the start has left, and from now on keep up to 16 MiB that are free. False without glibc.

    As it comes, glibc gives the arrays of a batch back at its end and takes them page by page for the next one: a quarter
    of what the features of a batch cost.
    """
    library = ctypes.CDLL(None)
    if not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        return False
    library.malloc_trim(0)
    return bool(library.mallopt(TRIM_THRESHOLD, KEPT_BYTES) and library.mallopt(MMAP_THRESHOLD, MAPPED_FROM_BYTES))
