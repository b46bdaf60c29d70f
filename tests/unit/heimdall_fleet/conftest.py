import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def logging_is_put_back() -> Iterator[None]:
    """For tests that set up the logging of the whole process."""
    root, fleet = logging.getLogger(), logging.getLogger("heimdall_fleet")
    handlers, level, fleet_level = list(root.handlers), root.level, fleet.level
    root.handlers = []
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers = handlers
    root.setLevel(level)
    fleet.setLevel(fleet_level)
    logging.captureWarnings(False)
