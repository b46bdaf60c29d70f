"""Figures of the runs are printed when the session ends."""

from tests.faults.figures import pytest_terminal_summary, tell

__all__ = ["pytest_terminal_summary", "tell"]
