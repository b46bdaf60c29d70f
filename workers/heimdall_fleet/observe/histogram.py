"""A histogram that takes a whole batch in one call, without a lock.

prometheus_client's own takes one observation at a time, and a lock that is not re-entrant: a callback of the garbage
collector that runs inside an observation would wait for itself for ever. This one belongs to one thread.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class BatchHistogram(Collector):
    """Counts of observations by upper bound (inclusive), without labels."""

    def __init__(self, name: str, documentation: str, buckets: Sequence[float], registry: CollectorRegistry) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = tuple(buckets)
        self._counts = [0] * (len(buckets) + 1)
        self._sum = 0.0
        registry.register(self)

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

    def collect(self) -> Iterable[Metric]:
        bounds = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        family = HistogramMetricFamily(self._name, self._documentation)
        buckets: list[tuple[str, float]] = list(zip(bounds, accumulate(self._counts), strict=True))
        family.add_metric([], buckets, self._sum)
        return [family]

    def describe(self) -> Iterable[Metric]:
        return [HistogramMetricFamily(self._name, self._documentation)]


def doubling(first: float, count: int = 15) -> tuple[float, ...]:
    """`first`, twice that, four times that …"""
    return tuple(first * 2**step for step in range(count))
