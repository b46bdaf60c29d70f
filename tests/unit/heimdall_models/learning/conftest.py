"""The shipped bundle, which began every log here, and one learned from such a log."""

from datetime import UTC, datetime

import pytest
from tests.unit.heimdall_models.learning.made import POOLS, log

from heimdall_models.bundle import Bundle, load_bundle
from heimdall_models.learning.train import Options, Trained, train_logged
from heimdall_models.shipped import shipped


@pytest.fixture(scope="session")
def serving() -> Bundle:
    return load_bundle(shipped("bundles/default"))


@pytest.fixture(scope="session")
def options() -> Options:
    return Options(datetime(2026, 11, 21, tzinfo=UTC), pools=POOLS)


@pytest.fixture(scope="session")
def learned(serving: Bundle, options: Options, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train_logged(log(3000, serving), serving.path, tmp_path_factory.mktemp("learned"), options)
