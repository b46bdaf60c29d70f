"""For every test: the brokers, and hypothesis profiles that no slow machine can fail.

A run of the tests says the same whoever makes it, so examples are derived from the test. To look for new ones:
`pytest --hypothesis-profile=search`; what it finds becomes an `@example`.
"""

import gc

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.brokers.fixtures"]

settings.register_profile(
    "house",
    derandomize=True,
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.register_profile("search", settings.get_profile("house"), derandomize=False, max_examples=400)
settings.load_profile("house")


def pytest_configure(config: pytest.Config) -> None:
    """While modules are imported and thousands of tests are made, hardly anything dies: looking for it took a quarter."""
    gc.disable()


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is there now stays to the end, so that no later collection looks at it again."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_unconfigure(config: pytest.Config) -> None:
    """As the interpreter expects it: what is left at its end is torn down like anything else."""
    gc.unfreeze()
