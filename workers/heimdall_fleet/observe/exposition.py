"""The metrics as text for Prometheus and as a flat JSON map for everything else."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from heimdall_fleet.observe.metrics import Metrics
from heimdall_fleet.observe.process import live_tasks, resident_bytes

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


def text(metrics: Metrics, labels: Mapping[str, str]) -> bytes:
    """Prometheus' text format, with constant labels on every sample. A metric's own label of that name wins."""
    if not labels:
        return generate_latest(metrics.registry)
    labelled = CollectorRegistry(auto_describe=False)
    labelled.register(_Labelled(metrics.registry, labels))
    return generate_latest(labelled)


def json_map(metrics: Metrics) -> dict[str, float]:
    """The six numbers of the older system's metrics map, then its millisecond and megabyte names. Never a NaN.

    `request_count` counts terminal states in dispatch, decisions in triage; `p99_latency` is of the decision, in ms.
    """
    triage = metrics.triage
    decided = triage.decided_count
    return {
        "request_count": metrics.request_count or decided,
        "cache_hit_count": triage.hit_count,
        "cache_hit_rate": triage.hit_count / decided if decided else 0.0,
        "avg_feature_latency_ms": triage.features.mean * 1e3,
        "avg_decision_latency_ms": triage.decision.mean * 1e3,
        "p99_latency": triage.prehook.quantile(0.99) * 1e3,
        "heimdall_prehook_latency_ms": triage.prehook.mean * 1e3,
        "heimdall_feature_extraction_latency_ms": triage.features.mean * 1e3,
        "heimdall_decision_latency_ms": triage.decision.mean * 1e3,
        "heimdall_embedding_latency_ms": triage.embedding.mean * 1e3,
        "heimdall_memory_usage_mb": resident_bytes() / 1e6,
        "heimdall_goroutines": live_tasks(),
    }


@dataclass(eq=False, slots=True)
class _Labelled(Collector):
    registry: CollectorRegistry
    labels: Mapping[str, str]

    def collect(self) -> Iterable[Metric]:
        for metric in self.registry.collect():
            metric.samples = [sample._replace(labels={**self.labels, **sample.labels}) for sample in metric.samples]
            yield metric
