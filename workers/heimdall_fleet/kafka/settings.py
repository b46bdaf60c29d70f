"""How the fleet talks to Kafka. The values are measured; the reasons stand beside them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
Compression = Literal["none", "gzip", "snappy", "zstd"]

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """One connection to a cluster; names as aiokafka has them."""

    bootstrap_servers: str = "localhost:9092"
    client_id: str = "heimdall"
    security_protocol: SecurityProtocol = "PLAINTEXT"
    ssl_cafile: str | None = None
    """PEM file with the authorities to trust; None trusts the system's."""
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_password: str | None = None
    ssl_check_hostname: bool = True
    sasl_mechanism: SaslMechanism = "PLAIN"
    sasl_plain_username: str | None = None
    sasl_plain_password: str | None = None

    session_timeout_ms: int = 45_000
    """A member whose event loop stands still longer than this is expelled."""
    heartbeat_interval_ms: int = 3_000
    metadata_max_age_ms: int = 60_000
    """How soon a new partition is found at the latest."""
    rebalance_timeout_ms: int = 15_000
    """Time the group waits for a member to rejoin: the bounded commit on revoke (`COMMIT_TIMEOUT_S`) plus 10 s."""
    request_timeout_ms: int = 40_000
    """Must stay above `rebalance_timeout_ms`, because a join request waits that long."""
    max_poll_interval_ms: int = 300_000
    fetch_max_wait_ms: int = 500
    """The embedded broker waits the whole time when a fetch is empty: 10 there."""
    fetch_max_bytes: int = 8 * MIB
    max_partition_fetch_bytes: int = 512 * KIB
    group_instance_id: str | None = None
    """Static membership. Of two members with the same id one stands aside: derive it from a unique ordinal."""

    def __post_init__(self) -> None:
        if self.request_timeout_ms <= self.rebalance_timeout_ms:
            raise ValueError(
                f"kafka.request_timeout_ms ({self.request_timeout_ms}) must be above rebalance_timeout_ms "
                f"({self.rebalance_timeout_ms}): joining a group takes one request of that length"
            )
        if self.heartbeat_interval_ms * 3 > self.session_timeout_ms:
            raise ValueError(
                f"kafka.heartbeat_interval_ms ({self.heartbeat_interval_ms}) must be at most a third of "
                f"session_timeout_ms ({self.session_timeout_ms}), or one lost heartbeat expels the worker"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerSettings:
    """One use of a producer."""

    linger_ms: int = 0
    """How long a record may wait for company."""
    patient_ms: Mapping[str, int] = field(default_factory=dict)
    """Topics whose records may wait longer, since nobody waits for them: fewer and fuller batches."""
    batch_bytes: int = 256 * KIB
    """Size at which a batch is full, before it is compressed; must stay below the topic's `max.message.bytes`. Half as large
    ones cost 5 % more where records are large: each batch is a request of its own, and compressed by itself."""
    compression: Compression = "zstd"
    max_record_bytes: int = MIB
    """Our own limit on key, value and headers of one record, below the broker's: one record that the broker refuses
    as too large poisons an idempotent producer for its whole partition."""
    max_pending_bytes: int = 64 * MIB
    """Unconfirmed bytes above which sending is refused, so that memory stays bounded while the broker is away."""
    delivery_timeout_s: float = 120.0
    """After this a record's delivery is unknown. Longer than a broker's restart: what waits here was paid for."""
    request_timeout_ms: int = 30_000
    metadata_timeout_s: float = 5.0
    """Longest wait to learn whether a topic exists (the client's own wait is 40 s)."""


COMMIT_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeSettings:
    """Bounds of a slow-handler consumer."""

    group_id: str
    topics: tuple[str, ...]
    max_in_flight: int = 500
    max_in_flight_bytes: int = 64 * MIB
    """Bytes of key and value in flight; passed by a few records when their size grows suddenly."""
    handler_deadline_s: float = 900.0
    """A handler that runs longer is cancelled; see `intake` for what then happens to its record."""
    retry_backoff_s: float = 1.0
    """First wait before a failed handler is tried again; doubles up to 60 s."""
    commit_interval_s: float = 0.75
    grace_s: float = 25.0
    """How long a stop waits for running handlers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """Bounds of a micro-batch consumer."""

    group_id: str
    topics: tuple[str, ...]
    max_records: int = 128
    """What triage decides in one go: a decision of a full batch costs half as much as one of a batch of sixteen."""
    max_open_batches: int = 16
    """Batches handed out and not committed; above it `next_batch` waits."""
    commit_interval_s: float = 0.75
