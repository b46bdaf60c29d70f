"""What runs showed, printed at the end of a session: seeds, requests, faults, extra calls."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import orjson
import pytest

Tell: TypeAlias = Callable[[Mapping[str, object]], None]
_FIGURES = pytest.StashKey[list[tuple[str, Mapping[str, object]]]]()


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """`tell(figures)` has them printed beside the test's name."""
    figures = request.config.stash.setdefault(_FIGURES, [])
    return lambda told: figures.append((request.node.name, told))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Of two conftests that bring this hook the first one prints."""
    figures = config.stash.get(_FIGURES, [])
    if figures:
        terminalreporter.section("runs")
    while figures:
        name, told = figures.pop(0)
        terminalreporter.write_line(f"{name} {orjson.dumps(told).decode()}")
