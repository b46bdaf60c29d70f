"""Histograms that take a whole batch in one call, without a lock.

prometheus_client's own takes one observation at a time, and a lock that is not re-entrant: a callback of the garbage
collector that runs inside an observation would wait for itself for ever. These belong to one thread.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from heimdall_fleet.observe.family import Family


class Distribution:
    """Counts of observations by upper bound (inclusive)."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        """Add `count` observations of the same value, such as one batch's time divided by its size."""
        self._counts[bisect_left(self._bounds, value)] += count
        self._sum += value * count

    def observe_each(self, values: Iterable[float]) -> None:
        """Add observations of different values."""
        bounds, counts, total = self._bounds, self._counts, 0.0
        for value in values:
            counts[bisect_left(bounds, value)] += 1
            total += value
        self._sum += total

    @property
    def count(self) -> int:
        return sum(self._counts)

    @property
    def mean(self) -> float:
        """Mean of all observations; 0 before the first."""
        return self._sum / self.count if self.count else 0.0

    def quantile(self, share: float) -> float:
        """An estimate from the buckets, linear inside of one, as PromQL's histogram_quantile; 0 before the first.

        What is above the highest bound counts as that bound.
        """
        rank, below, lower = share * self.count, 0, 0.0
        for bound, count in zip(self._bounds, self._counts, strict=False):
            if count and below + count >= rank:
                return lower + (bound - lower) * (rank - below) / count
            below, lower = below + count, bound
        return lower if self.count else 0.0

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Write the series with these label values."""
        bounds = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        family.add_metric(labels, list(zip(bounds, accumulate(self._counts), strict=True)), self._sum)


class BatchHistogram(Distribution, Collector):
    """One distribution, without labels."""

    def __init__(self, name: str, documentation: str, buckets: Sequence[float], registry: CollectorRegistry) -> None:
        super().__init__(buckets)
        self._name = name
        self._documentation = documentation
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._documentation)
        self.add_to(family, [])
        return [family]

    def describe(self) -> Iterable[Metric]:
        return [HistogramMetricFamily(self._name, self._documentation)]


class HistogramFamily(Family[Distribution]):
    """A distribution for each set of label values."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        blank = partial(HistogramMetricFamily, name, documentation, labels=labels)
        super().__init__(labels, blank, partial(Distribution, tuple(buckets)), registry)


def doubling(first: float, count: int = 15) -> tuple[float, ...]:
    """`first`, twice that, four times that …"""
    return tuple(first * 2**step for step in range(count))
