"""Short forms to declare metrics in one registry, so that the list of them reads as a list."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge

from heimdall_fleet.observe.histogram import BatchHistogram, HistogramFamily, doubling
from heimdall_fleet.observe.tally import TallyFamily


@dataclass(frozen=True, slots=True)
class Declare:
    """Each call makes and registers one metric; `labels` are its label names."""

    registry: CollectorRegistry

    def counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=self.registry)

    def gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(name, meaning, labels, registry=self.registry)

    def tally(self, name: str, meaning: str, *labels: str) -> TallyFamily:
        """A counter for what every request does."""
        return TallyFamily(name, meaning, labels, self.registry)

    def histogram(self, name: str, meaning: str, bounds: tuple[float, ...], *labels: str) -> HistogramFamily:
        return HistogramFamily(name, meaning, labels, bounds, self.registry)

    def batches(self, name: str, meaning: str, bounds: tuple[float, ...]) -> BatchHistogram:
        return BatchHistogram(name, meaning, bounds, self.registry)

    def step(self, name: str, meaning: str, first_s: float) -> BatchHistogram:
        """A step of triage: fifteen bounds, each twice the one before (0.0001 ends at 1.6384 s)."""
        return self.batches(name, meaning, doubling(first_s))
