import platform
import resource

import numpy as np
import pytest

from heimdall_fleet.system.heap import KEPT_BYTES, settle_heap


def faults_of_a_batch() -> int:
    """Page faults of twenty arrays that live together, as those of one batch do."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(KEPT_BYTES // 40, np.uint8) for _ in range(20)]
    del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no such settings")
def test_the_memory_of_a_batch_is_kept_for_the_next_one() -> None:
    assert settle_heap()
    faults_of_a_batch()
    assert faults_of_a_batch() < 20
