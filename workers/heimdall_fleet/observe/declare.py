"""Short forms to declare metrics in one registry, so that the list of them reads as a list."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from heimdall_fleet.observe.histogram import BatchHistogram, doubling


@dataclass(frozen=True, slots=True)
class Declare:
    """Each call makes and registers one metric; `labels` are its label names."""

    registry: CollectorRegistry

    def counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=self.registry)

    def gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(name, meaning, labels, registry=self.registry)

    def histogram(self, name: str, meaning: str, bounds: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, meaning, labels, buckets=bounds, registry=self.registry)

    def batches(self, name: str, meaning: str, bounds: tuple[float, ...]) -> BatchHistogram:
        return BatchHistogram(name, meaning, bounds, self.registry)

    def step(self, name: str, meaning: str, first_s: float) -> BatchHistogram:
        """A step of triage: fifteen bounds, each twice the one before (0.0001 ends at 1.6384 s)."""
        return self.batches(name, meaning, doubling(first_s))
