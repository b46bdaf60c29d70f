"""Counters that are added to several times for every request: plain numbers, which belong to one thread.

prometheus_client's own checks its arguments and takes a lock at each step, a microsecond and more; a request takes eight.
"""

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class Tally:
    """One series. Whoever counts adds to `value`, never a negative amount."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class TallyFamily(Collector):
    """A tally for each set of label values."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._named = name, documentation
        self.label_names = tuple(labels)
        self._children: dict[tuple[str, ...], Tally] = {}
        registry.register(self)

    def labels(self, *values: str) -> Tally:
        """The tally with these label values, to be kept by whoever counts often."""
        return self._children.setdefault(values, Tally())

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(*self._named, labels=self.label_names)
        for values, tally in self._children.items():
            family.add_metric(values, tally.value)
        return [family]

    def describe(self) -> Iterable[Metric]:
        return [CounterMetricFamily(*self._named, labels=self.label_names)]
