"""What runs showed, printed at the end of a session: seeds, requests, faults, extra calls."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import orjson
import pytest

Tell: TypeAlias = Callable[[Mapping[str, object]], None]
_FIGURES = "figures"
_PRINTED = pytest.StashKey[bool]()


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """`tell(figures)` has them printed beside the test's name, also where tests run in several processes."""
    return lambda told: request.node.user_properties.append((_FIGURES, orjson.dumps(told).decode()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Of two conftests that bring this hook the first one prints."""
    ended = [each for kind in ("passed", "failed") for each in terminalreporter.stats.get(kind, [])]
    lines = [f"{each.nodeid} {told}" for each in ended for name, told in each.user_properties if name == _FIGURES]
    if lines and not config.stash.get(_PRINTED, False):
        config.stash[_PRINTED] = True
        terminalreporter.section("runs")
        for line in lines:
            terminalreporter.write_line(line)
