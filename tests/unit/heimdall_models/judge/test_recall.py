"""What is judged together."""

from collections.abc import Callable

import pytest

from heimdall_models.asked import DecisionInput
from heimdall_models.cache import Memory
from heimdall_models.judge import Judge
from heimdall_models.recall import hear, unanswered


@pytest.mark.parametrize(
    ("size_bytes", "together"),
    [(0, [128, 72]), (600, [128, 72]), (4_000, [64, 64, 64, 8]), (20_000, [32, 32, 32, 32, 32, 32, 8])],
)
def test_the_longer_requests_are_the_fewer_are_judged_together(
    judge: Judge, make_input: Callable[..., DecisionInput], size_bytes: int, together: list[int]
) -> None:
    batch = [make_input()._replace(size_bytes=size_bytes) for _ in range(200)]
    heard = hear(batch, judge, Memory(decisions=None), 0.0)
    pieces = list(unanswered(heard, [None] * 200))
    assert [len(rows) for rows in pieces] == together
    assert [row for rows in pieces for row, _ in rows] == list(range(200))
