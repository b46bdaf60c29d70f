"""The `kafka` section: where the broker is and how to speak to it."""

import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from heimdall_fleet.config.base import Section
from heimdall_fleet.config.units import Bytes
from heimdall_fleet.kafka.settings import Compression, SaslMechanism, SecurityProtocol
from heimdall_schemas.topics import Topics

_SERVER = re.compile(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+):(\d{1,5})")
_REPLY_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}\*?")


def _servers(value: Any) -> Any:
    return ",".join(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else value


def _each_server(value: str) -> str:
    servers = [server.strip() for server in value.split(",")]
    for server in servers:
        match = _SERVER.fullmatch(server)
        if match is None or not 0 < int(match[2]) < 65536:
            raise ValueError(f"{server!r} is not host:port; write localhost:9092, several with commas between")
    return ",".join(servers)


def _reply_topic(value: str) -> str:
    if not _REPLY_TOPIC.fullmatch(value):
        raise ValueError(
            f"{value[:60]!r} is neither a topic name nor a prefix followed by *; a name is of a-z A-Z 0-9 . _ -"
        )
    return value


ReplyTopic = Annotated[str, AfterValidator(_reply_topic)]


class Kafka(Section):
    """The broker. Names are those of aiokafka; sizes may have units, `…_ms` are milliseconds."""

    bootstrap_servers: Annotated[str, BeforeValidator(_servers), AfterValidator(_each_server)] = "localhost:9092"
    """Brokers to ask first: `host:port`, several with commas between (or a list)."""
    topic_prefix: str = Field("heimdall", pattern=r"^[a-zA-Z0-9._-]{1,100}$")
    """First part of the name of every topic and consumer group of this fleet."""
    client_id: str = Field("heimdall", pattern=r"^[a-zA-Z0-9._-]{1,100}$")
    """Name under which the fleet appears in the broker's logs and quotas."""
    group_instance_id: str | None = Field(None, pattern=r"^[a-zA-Z0-9._-]{1,200}$")
    """Static membership: unique per worker (a StatefulSet's ordinal), or unset. Of two with one id, one stands aside."""

    security_protocol: SecurityProtocol = "PLAINTEXT"
    """Whether the connection is encrypted (SSL) and whether the fleet logs in (SASL)."""
    sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    """How the fleet logs in, with a SASL protocol."""
    sasl_plain_username: str | None = None
    """User of PLAIN and SCRAM."""
    sasl_plain_password: SecretStr | None = None
    """Password of PLAIN and SCRAM."""
    ssl_cafile: str | None = None
    """Certificates that sign the brokers' (PEM); unset: those of the system."""
    ssl_certfile: str | None = None
    """The fleet's own certificate (PEM), for mutual TLS."""
    ssl_keyfile: str | None = None
    """The key of `ssl_certfile` (PEM)."""
    ssl_password: SecretStr | None = None
    """Password of `ssl_keyfile`."""
    ssl_check_hostname: bool = True
    """Compare the broker's name with its certificate."""

    reply_topics: tuple[ReplyTopic, ...] = ()
    """Topics that a request may name as `reply-to`, besides the fleet's own: exact names, or a prefix followed by `*`.
    Topics that the fleet reads or keeps are never allowed."""
    max_message_bytes: Bytes = Field(1_900_000, ge=1024, le=1_073_741_824)
    """Largest record the fleet produces. Stays below `max.message.bytes` of the topics (2 MiB as they are created):
    one refusal by the broker would poison the producer."""
    compression_type: Compression = "zstd"
    """Compression of what the fleet produces; zstd at level 1, batches of long records at 2. lz4 is left out: the client
    only knows its slowest level."""

    session_timeout_ms: int = Field(45_000, ge=500, le=1_800_000)
    """A worker that is silent for so long is expelled from its group."""
    heartbeat_interval_ms: int = Field(3_000, ge=50, le=600_000)
    """Time between a worker's signs of life; at most a third of `session_timeout_ms`."""
    max_poll_interval_ms: int = Field(300_000, ge=1_000, le=86_400_000)
    """A worker that stops reading for so long is expelled from its group."""
    request_timeout_ms: int = Field(90_000, ge=16_000, le=3_600_000)
    """Longest wait for one answer of the broker. To join a group is one request, and a group waits up to 15 s for
    its members at a rebalance."""
    metadata_max_age_ms: int = Field(60_000, ge=100, le=86_400_000)
    """How often the layout of the cluster is read again: so soon a new partition is found."""
    fetch_max_wait_ms: int = Field(500, ge=1, le=30_000)
    """How long the broker waits for records before it answers an empty fetch; 10 to 50 on the embedded broker, which waits
    to the end though a record came in."""
    fetch_max_bytes: Bytes = Field(8 * 1024 * 1024, ge=1024, le=1_073_741_824)
    """Most bytes of one fetch."""
    max_partition_fetch_bytes: Bytes = Field(1024 * 1024, ge=1024, le=1_073_741_824)
    """Most bytes of one fetch and partition; a single larger record still comes through."""

    @property
    def topics(self) -> Topics:
        return Topics(self.topic_prefix)

    @model_validator(mode="after")
    def _login_is_complete(self) -> Self:
        if self.security_protocol.startswith("SASL") and not (self.sasl_plain_username and self.sasl_plain_password):
            raise ValueError(
                f"security_protocol {self.security_protocol} needs sasl_plain_username and sasl_plain_password"
            )
        if bool(self.ssl_certfile) != bool(self.ssl_keyfile):
            raise ValueError("ssl_certfile and ssl_keyfile come together; one of them is missing")
        return self

    @model_validator(mode="after")
    def _heartbeats_fit_the_session(self) -> Self:
        if self.heartbeat_interval_ms * 3 > self.session_timeout_ms:
            raise ValueError(
                f"heartbeat_interval_ms {self.heartbeat_interval_ms} is more than a third of session_timeout_ms "
                f"{self.session_timeout_ms}; one lost heartbeat would expel the worker"
            )
        return self
