"""For every test: the brokers, and a hypothesis profile that no slow machine can fail."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.brokers.fixtures"]

settings.register_profile(
    "house", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("house")
