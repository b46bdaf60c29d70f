"""Counters that are added to several times for every request: plain numbers, which belong to one thread.

prometheus_client's own checks its arguments and takes a lock at each step, a microsecond and more; a request takes eight.
"""

from collections.abc import Sequence
from functools import partial

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily

from heimdall_fleet.observe.family import Family


class Tally:
    """One series. Whoever counts adds to `value`, never a negative amount."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def add_to(self, family: CounterMetricFamily, labels: Sequence[str]) -> None:
        """Write the series with these label values."""
        family.add_metric(labels, self.value)


class TallyFamily(Family[Tally]):
    """A tally for each set of label values."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        super().__init__(labels, partial(CounterMetricFamily, name, documentation, labels=labels), Tally, registry)
