"""Metrics of plain values by their labels: made once, kept by whoever counts often, written out when somebody looks."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class Series(Protocol):
    """What is counted under one set of label values."""

    def add_to(self, family: Any, labels: Sequence[str]) -> None:
        """Write it into the metric family of its kind."""
        ...


S = TypeVar("S", bound=Series)


class Family(Collector, Generic[S]):
    """One series for each set of label values. `blank` makes the metric family without any; all belong to one thread."""

    def __init__(
        self, labels: Sequence[str], blank: Callable[[], Metric], make: Callable[[], S], registry: CollectorRegistry
    ) -> None:
        self.label_names = tuple(labels)
        self._blank = blank
        self._make = make
        self._series: dict[tuple[str, ...], S] = {}
        registry.register(self)

    def labels(self, *values: str) -> S:
        """The series with these label values, to be kept by whoever counts often."""
        return self._series.setdefault(values, self._make())

    def collect(self) -> Iterable[Metric]:
        family = self._blank()
        for values, series in self._series.items():
            series.add_to(family, values)
        return [family]

    def describe(self) -> Iterable[Metric]:
        return [self._blank()]
