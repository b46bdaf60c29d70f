"""A data set to replay into."""

from pathlib import Path

import pytest
from tests.unit.heimdall_fleet.learn.made import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)
