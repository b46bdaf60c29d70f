"""One thread for the linear algebra of small batches: more of them cost twice the CPU and save no time."""

import os

LIBRARIES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def pin_threads() -> None:
    """Has an effect only before numpy is imported; what the environment says already stays."""
    for library in LIBRARIES:
        os.environ.setdefault(library, "1")
