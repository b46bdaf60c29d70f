"""Names of metrics in the systems before this one, and what they are called here.

The suffix is kept wherever it was free; times are in seconds and memory in bytes where they were not.
"""

from collections.abc import Mapping

FORMER_NAMES: Mapping[str, str] = {
    "heimdall_prehook_latency_ms": "heimdall_prehook_duration_seconds",
    "heimdall_feature_extraction_latency_ms": "heimdall_feature_extraction_duration_seconds",
    "heimdall_decision_latency_ms": "heimdall_decision_duration_seconds",
    "heimdall_embedding_latency_ms": "heimdall_embedding_duration_seconds",
    "heimdall_memory_usage_mb": "heimdall_memory_usage_bytes",
    "bifrost_requests_total": "heimdall_dispatch_attempts_total",
    "bifrost_request_duration_seconds": "heimdall_dispatch_attempt_duration_seconds",
    "bifrost_request_errors_total": "heimdall_request_errors_total",
    "bifrost_cost_dollars_total": "heimdall_cost_dollars_total",
    "bifrost_cost_per_request": "heimdall_cost_per_request",
    "bifrost_tokens_total": "heimdall_tokens_total",
    "bifrost_fallback_triggered_total": "heimdall_fallback_triggered_total",
    "bifrost_provider_health": "heimdall_provider_health",
}
