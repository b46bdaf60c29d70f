"""The tree is read once for all house tests."""

import pytest
from tests.house.tree import Tree, read_tree


@pytest.fixture(scope="session")
def tree() -> Tree:
    return read_tree()
