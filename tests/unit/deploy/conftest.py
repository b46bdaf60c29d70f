"""The files under test, read once."""

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def compose(root: Path) -> dict[str, Any]:
    """compose.yaml with anchors and merge keys resolved, variables not."""
    document: dict[str, Any] = yaml.safe_load((root / "compose.yaml").read_text())
    return document


@pytest.fixture(scope="session")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


@pytest.fixture(scope="session")
def fleet(services: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The services that run the project's own image."""
    return {name: service for name, service in services.items() if "build" in service}


@pytest.fixture(scope="session")
def operations(root: Path) -> str:
    """The operator's page."""
    return (root / "docs" / "operations.md").read_text()
