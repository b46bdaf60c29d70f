"""For every test: the brokers, and hypothesis profiles that no slow machine can fail.

A run of the tests says the same whoever makes it, so examples are derived from the test. To look for new ones:
`pytest --hypothesis-profile=search`; what it finds becomes an `@example`.
"""

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
