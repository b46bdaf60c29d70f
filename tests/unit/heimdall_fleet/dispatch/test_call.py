import pytest

from heimdall_fleet.dispatch.call import within
from heimdall_fleet.providers.http import CallLimits

LIMITS = CallLimits(total_timeout_ms=60_000, connect_timeout_ms=5_000)


@pytest.mark.parametrize(
    ("left_ms", "total_ms", "connect_ms"),
    [
        (90_000.0, 60_000, 5_000),
        (60_000.0, 60_000, 5_000),
        (30_000.0, 30_000, 5_000),
        (1_499.3, 1_500, 1_500),
        (0.2, 1, 1),
    ],
)
def test_a_call_ends_with_the_deadline_and_not_a_moment_before_it_that_would_do_for_another(
    left_ms: float, total_ms: int, connect_ms: int
) -> None:
    limits = within(LIMITS, left_ms)
    assert (limits.total_timeout_ms, limits.connect_timeout_ms) == (total_ms, connect_ms)
    assert limits.total_timeout_ms >= min(left_ms, LIMITS.total_timeout_ms)
