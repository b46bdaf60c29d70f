"""What dispatch is told at its start: plain frozen values that `bootstrap` fills from the configuration."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from heimdall_models.catalogue import Price
from heimdall_models.ceiling import UNKNOWN_PRICE, USUAL_OUTPUT_TOKENS


class KeyStrategy(StrEnum):
    """How a key is picked among the healthy ones that serve the model."""

    WEIGHTED = "weighted"
    ROUND_ROBIN = "round_robin"
    LEAST_LATENCY = "least_latency"
    ADAPTIVE = "adaptive"


@dataclass(frozen=True, slots=True)
class KeySettings:
    """One credential. Only `name` may ever be shown; `secret` keeps out of `repr`."""

    name: str
    secret: str = field(repr=False)
    weight: float = 1.0
    models: tuple[str, ...] = ("*",)
    rpm: int | None = None
    tpm: int | None = None
    quota_group: str | None = None


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When calls to a key or a provider stop because it fails, and how it is tried again."""

    failure_ratio: float = 0.1
    min_calls: int = 20
    window_ms: int = 60_000
    open_for_ms: int = 30_000
    failures_in_a_row: int = 3
    successes_to_close: int = 2
    max_probes: int = 1


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """Limits of one HTTP call, and of calling again with the same key."""

    timeout_ms: int = 60_000
    connect_timeout_ms: int = 5_000
    idle_timeout_ms: int = 60_000
    max_retries: int = 2
    backoff_initial_ms: int = 500
    backoff_max_ms: int = 5_000
    max_bytes: int = 32 * 1024 * 1024
    max_decompressed_bytes: int = 16 * 1024 * 1024
    proxy: str | None = field(default=None, repr=False)
    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """One configured provider.

    `concurrency` None: what the provider bears, found by AIMD, up to `max_concurrency`. `buffer`: orders of one worker
    in line for a place here, from which on a runner-up that is free is asked at once. `probe_every_ms` None: health is
    judged by real calls alone.
    """

    name: str
    type: str
    base_url: str
    keys: tuple[KeySettings, ...]
    models: tuple[str, ...] = ("*",)
    strategy: KeyStrategy = KeyStrategy.WEIGHTED
    network: NetworkSettings = NetworkSettings()
    circuit: BreakerSettings = BreakerSettings()
    concurrency: int | None = None
    max_concurrency: int = 1_000
    start_concurrency: int = 16
    buffer: int = 100
    floor_share: float = 0.05
    extra_headers: Mapping[str, str] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    usual_output: int | None = None
    probe_every_ms: int | None = None
    probe_timeout_ms: int = 5_000


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """What is known of a model."""

    price: Price | None = None
    context_window: int | None = None
    max_output: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


Chains = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class FailoverSettings:
    """Chains are keyed by model; a member is a model id or `provider/model-there`."""

    enabled: bool = True
    max_attempts: int = 4
    fallbacks: Chains = field(default_factory=dict)
    context_window_fallbacks: Chains = field(default_factory=dict)
    content_policy_fallbacks: Chains = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """Who scores a `share` of the pairs. `prompt` has the places `{request}`, `{a}` and `{b}`."""

    model: str
    prompt: str
    max_tokens: int = 1_000
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class ShadowSettings:
    """`share` of the answered requests of `tenants` (`*`: all, also those that name none) is asked of another model, too."""

    share: float = 0.0
    tenants: tuple[str, ...] = ("*",)
    budget_usd_micros_per_day: int = 0
    judge: JudgeSettings | None = None


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    """Everything else. `wait_in_process_ms`: longest wait for capacity before an order rests on a retry topic.
    `lease_ms`: how long the reservation of a call outlives its worker; it is renewed while the work goes on.
    `shared_state`: other workers see what this one reserves.
    `hedge_after_ms`: how long the first model has alone, before the next one is asked as well; None: for ever.
    """

    worker: str
    failover: FailoverSettings = FailoverSettings()
    unknown_price: Price = UNKNOWN_PRICE
    expected_output_tokens: int = USUAL_OUTPUT_TOKENS
    wait_in_process_ms: int = 10_000
    spill_after_ms: int = 2_000
    look_again_ms: int = 1_000
    lease_ms: int = 10_000
    keep_reply_ms: int = 3_600_000
    keep_key_ms: int = 86_400_000
    max_reply_bytes: int = 1_500_000
    grace_ms: int = 5_000
    hedge_after_ms: int | None = None
    audit_partitions: int = 12
    shared_state: bool = True
    shadow: ShadowSettings = ShadowSettings()
