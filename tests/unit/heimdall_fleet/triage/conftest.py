"""A real bundle without training: the shipped one, and copies of it that differ or are spoiled."""

import datetime as dt
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from tests.bundles import dated

from heimdall_models.bundle import Bundle
from heimdall_models.catalogue import load_catalogue
from heimdall_models.judge import Judge, make_judge
from heimdall_models.rules import Rules


def archived(folder: Path) -> bytes:
    """A .tar.gz of the folder, its files in one folder."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        archive.add(folder, arcname="bundle")
    return stream.getvalue()


def pointer(url: str, archive: bytes) -> bytes:
    return orjson.dumps({"name": "bundle", "url": url, "sha256": hashlib.sha256(archive).hexdigest()})


@pytest.fixture(scope="session")
def make() -> Callable[[Bundle], Judge]:
    catalogue = load_catalogue(dt.date(2026, 11, 21))
    rules = Rules(
        served={model: facts.author for model, facts in catalogue.models.items()},
        config_hash="test",
        timeout_ms=60_000.0,
        feature_timeout_ms=60_000.0,
    )
    return lambda bundle: make_judge(bundle, catalogue, rules)


@pytest.fixture
def bundle_copy(tmp_path: Path) -> Callable[[int], Path]:
    return lambda number: dated(tmp_path / f"bundle-{number}", number)


@pytest.fixture(scope="session")
def archive_of() -> Callable[[Path], bytes]:
    return archived


@pytest.fixture(scope="session")
def pointer_to() -> Callable[[str, bytes], bytes]:
    return pointer
