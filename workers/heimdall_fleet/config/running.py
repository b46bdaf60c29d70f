"""The sections that say how workers run: `dispatch`, `limits`, `state`, `observe`, `auth_adapters`."""

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from heimdall_fleet.config.base import Section
from heimdall_fleet.config.units import Bytes, Millis, Seconds, SecretUrl
from heimdall_fleet.shown import shown_address
from heimdall_schemas.codec import DEFAULT_LIMITS

AdapterName = Literal["openai-key", "anthropic-oauth", "google-oauth"]
Chains = dict[str, Annotated[tuple[str, ...], Field(min_length=1)]]

_STATE_SCHEMES = ("memory", "redis", "rediss", "unix")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def object_url(value: str) -> str:
    """A place for objects, without credentials. Raises ValueError."""
    parts = urlsplit(value)
    if parts.username or parts.password:
        raise ValueError("credentials do not belong in the address; the usual AWS variables name them")
    if not ((parts.scheme == "file" and parts.path) or (parts.scheme == "s3" and parts.netloc)):
        raise ValueError(
            f"{shown_address(value)[:100]!r} is no place for objects; use file:///directory or s3://bucket/prefix"
        )
    return value


class Dispatch(Section):
    """How orders are answered."""

    max_in_flight: int = Field(500, ge=1, le=100_000)
    """Most calls in flight in one worker."""
    max_in_flight_bytes: Bytes = Field(256 * 1024 * 1024, ge=1024 * 1024)
    """Most bytes of requests in flight in one worker."""
    deadline: Millis = Field(timedelta(minutes=5), ge=timedelta(seconds=1), le=timedelta(days=7))
    """Time from the request's own time to its answer, where the request does not say."""
    max_attempts: int = Field(4, ge=1, le=50)
    """Most provider calls for one request, over all models, providers and keys."""
    grace: Millis = Field(timedelta(seconds=30), ge=timedelta(0), le=timedelta(hours=1))
    """How long a stopping worker waits for its calls. A rebalance waits for none: they end beside it."""
    account: str | None = Field(None, min_length=1)
    """Entry point (group `heimdall_fleet.accounts`) of an installed package: a class that gives the keys of the configured
    providers, asked at the start and every five minutes. Unset: the keys of the configuration."""
    fallbacks: Chains = Field(default_factory=dict)
    """Model → what to try after it, in order: a model id, or `provider/model-there` with the name of a provider."""
    context_window_fallbacks: Chains = Field(default_factory=dict)
    """The same, when the conversation is too long for the model."""
    content_policy_fallbacks: Chains = Field(default_factory=dict)
    """The same, when the model's content policy refuses the request."""
    hedge_after: Millis | None = Field(None, ge=timedelta(milliseconds=10), le=timedelta(hours=1))
    """Ask the next model as well when the first has not answered after this; the first answer wins, both are paid.
    Not for streams. Unset: never."""
    large_replies: Literal["error", "claim_check"] = "error"
    """What becomes of a reply over `kafka.max_message_bytes`: an error, or a claim check for the whole reply in
    `object_store`."""
    object_store: Annotated[str, AfterValidator(object_url)] | None = None
    """Where large replies go: `file:///directory` that all workers and readers share, or `s3://bucket/prefix` (extra
    `s3`; region, endpoint and credentials by the usual AWS variables)."""

    def chains(self) -> Iterator[tuple[str, str, Sequence[str]]]:
        """Every configured chain: the key it stands under, its model, its links."""
        for key in ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks"):
            for model, links in getattr(self, key).items():
                yield key, model, links

    @model_validator(mode="after")
    def _claims_have_a_place(self) -> Self:
        if self.large_replies == "claim_check" and self.object_store is None:
            raise ValueError("large_replies is claim_check, which needs object_store: file:///directory or s3://bucket")
        return self


class LimitsSection(Section):
    """What a request may weigh. Above it the request is answered with an error and kept in the DLQ."""

    max_body_bytes: Bytes = Field(DEFAULT_LIMITS.max_body_bytes, ge=1024, le=1_073_741_824)
    """Bytes of the body. Must stay 64 KiB below `kafka.max_message_bytes`."""
    max_json_depth: int = Field(DEFAULT_LIMITS.max_depth, ge=4, le=1_000)
    """Nested JSON levels."""
    max_messages: int = Field(DEFAULT_LIMITS.max_messages, ge=1, le=1_000_000)
    """Messages of a conversation."""
    max_headers: int = Field(DEFAULT_LIMITS.max_headers, ge=8, le=10_000)
    """Kafka headers of a request."""
    max_header_bytes: Bytes = Field(DEFAULT_LIMITS.max_header_bytes, ge=1024, le=1_048_576)
    """Bytes of all headers of a request."""


def _state_url(value: SecretStr) -> SecretStr:
    scheme = urlsplit(value.get_secret_value()).scheme
    if scheme.startswith("postgres"):
        raise ValueError("PostgreSQL is not built as a state; use redis://host:port/0 or memory://")
    if scheme not in _STATE_SCHEMES:
        raise ValueError("is not a state address; write memory://, redis://host:port/0, rediss://… or unix://…")
    return value


class State(Section):
    """What workers share: budgets, limits, reservations, cached answers."""

    url: Annotated[SecretUrl, AfterValidator(_state_url)] = SecretStr("memory://")
    """`memory://` for one process, `redis://host:port/0` (`rediss://` encrypted) for a fleet.
    Also `HEIMDALL_STATE_URL`."""


class LogFile(Section):
    """Used with `output: file`."""

    path: str = Field("/var/log/heimdall/heimdall.log", min_length=1)
    """Where the log is."""
    max_size_bytes: Bytes = Field(100_000_000, alias="max_size", ge=1024)
    """A file of this size is put aside and a new one begun."""
    max_age: Seconds = Field(timedelta(days=30), gt=timedelta(0))
    """Older ones are deleted."""
    compress: bool = True
    """Those put aside are compressed with gzip."""


class Log(Section):
    level: Literal["debug", "info", "warn", "error"] = "info"
    """Least weight of a line that is written."""
    format: Literal["json", "text"] = "json"
    """One JSON object a line, or text for people."""
    output: Literal["stderr", "stdout", "file"] = "stderr"
    """Where lines go."""
    file: LogFile = Field(default_factory=LogFile)
    """The file, and when it is put aside."""


def _label_name(value: str) -> str:
    if not _LABEL.fullmatch(value) or value.startswith("__"):
        raise ValueError(f"{value[:60]!r} is not a label name; use letters, digits and _, not starting with a digit")
    return value


class MetricsSection(Section):
    """The HTTP server of a worker: metrics and health."""

    host: str = Field("0.0.0.0", min_length=1)
    """Address to listen on."""
    port: int = Field(9090, ge=0, le=65_535)
    """Port to listen on; 0 takes a free one. Also `--metrics-port`."""
    path: str = Field("/metrics", pattern=r"^/[A-Za-z0-9/._-]*$")
    """Where the metrics are. `/prometheus` serves them too."""
    labels: dict[Annotated[str, AfterValidator(_label_name)], str] = Field(default_factory=dict)
    """Labels added to every metric, such as `environment`."""

    @model_validator(mode="after")
    def _path_is_free(self) -> Self:
        if self.path in ("/", "/health", "/healthz", "/readyz"):
            raise ValueError(f"path {self.path} is taken by the health checks or empty; /metrics is usual")
        return self


class Observe(Section):
    log: Log = Field(default_factory=Log)
    """Log lines."""
    metrics: MetricsSection = Field(default_factory=MetricsSection)
    """Metrics and health over HTTP."""


class AuthAdapters(Section):
    enabled: tuple[AdapterName, ...] = ("openai-key", "anthropic-oauth", "google-oauth")
    """Kinds of callers' own credentials that the gateway detects."""
