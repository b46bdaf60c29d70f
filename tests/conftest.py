"""Fixtures for every test: the brokers."""

pytest_plugins = ["tests.brokers.fixtures"]
