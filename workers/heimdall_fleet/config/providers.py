"""The `providers` section: who answers, with which keys, over which network."""

import re
from collections.abc import Collection
from datetime import timedelta
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, SecretStr, Tag

from heimdall_fleet.config.base import Section
from heimdall_fleet.config.provider_types import ProviderType, canonical_type
from heimdall_fleet.config.units import Millis, SecretUrl

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
KeyStrategy = Literal["weighted", "round_robin", "least_latency", "adaptive"]


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")


def http_url(value: str) -> str:
    """An http(s) address without credentials and without a slash at its end. Raises ValueError."""
    parts = _http_parts(value)
    if parts is None:
        raise ValueError("is not an http:// or https:// address")
    if parts.username is not None or parts.password is not None:
        raise ValueError("carries a user name or password; put the credential into keys")
    if "?" in value or "#" in value:
        raise ValueError("goes on after its path, with ? or #; paths are put behind it")
    return value.rstrip("/")


def _proxy_url(value: SecretStr | None) -> SecretStr | None:
    """As it is. Raises ValueError."""
    if value is not None and _http_parts(value.get_secret_value()) is None:
        raise ValueError("is not the address of a proxy; write http://host:port")
    return value


def _http_parts(url: str) -> SplitResult | None:
    """The parts of an http(s) address with a host; None for anything else."""
    try:
        parts = urlsplit(url)
        return parts if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 else None
    except ValueError:
        return None


def _headers(value: dict[str, SecretStr]) -> dict[str, SecretStr]:
    """As they are. Raises ValueError for what would be more than one line, or no header at all."""
    for name, content in value.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"has the name {name[:100]!r}; letters, digits and - are usual, no spaces")
        if not _HEADER_VALUE.fullmatch(content.get_secret_value()):
            raise ValueError(f"has a line break or a control character in {name}")
    return value


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


def _underscores(value: Any) -> Any:
    return value.replace("-", "_") if isinstance(value, str) else value


def _not_empty(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().strip():
        raise ValueError("is empty; is the variable behind it set?")
    return value


Secret = Annotated[SecretStr, AfterValidator(_not_empty)]
HttpUrl = Annotated[str, AfterValidator(http_url)]


def serves(patterns: Collection[str], model: str) -> bool:
    """Whether a list of models (`*` at the end of a name stands for anything; empty: all) has this one."""
    return not patterns or any(
        model.startswith(pattern[:-1]) if pattern.endswith("*") else model == pattern for pattern in patterns
    )


class Key(Section):
    """One credential. Outside of this file it is only ever called by its name."""

    name: Name
    """What logs, metrics, audit records and replies call it."""
    value: Secret
    """The credential: `${NAME}` or `${file:/run/secrets/x}`. For Bedrock the access key id, or a bearer key."""
    weight: float = Field(1, ge=0, le=1_000_000)
    """Share of the traffic among the keys that serve a model; 0 takes no new traffic."""
    models: tuple[str, ...] = ("*",)
    """Models it may serve, by the provider's names; `*` at the end of a name stands for anything."""
    rpm: int | None = Field(None, ge=1)
    """Requests a minute that the provider allows; unset: learned from its answers."""
    tpm: int | None = Field(None, ge=1)
    """Tokens a minute that the provider allows; unset: learned from its answers."""
    quota_group: Name | None = None
    """Keys with the same group share one quota at the provider (one organisation, one project). Unset: the provider's
    keys are taken as one group, since most providers limit the organisation and not the key."""


class Network(Section):
    """One HTTP call to a provider."""

    timeout: Millis = Field(timedelta(seconds=60), ge=timedelta(milliseconds=100), le=timedelta(hours=2))
    """From sending a call to the end of its answer; a request's deadline may be earlier. Groq: 15s by default."""
    connect_timeout: Millis = Field(timedelta(seconds=5), ge=timedelta(milliseconds=10), le=timedelta(minutes=1))
    """To open a connection."""
    max_retries: int = Field(2, ge=0, le=20)
    """Further calls with the same key after a failure that may pass; `dispatch.max_attempts` bounds the whole chain."""
    backoff_initial: Millis = Field(timedelta(milliseconds=500), ge=timedelta(0), le=timedelta(minutes=1))
    """Wait before the first such call; it doubles each time, times a random 0.8 to 1.2."""
    backoff_max: Millis = Field(timedelta(seconds=5), ge=timedelta(0), le=timedelta(minutes=10))
    """Longest such wait."""
    proxy: Annotated[SecretUrl | None, BeforeValidator(_none_if_empty), AfterValidator(_proxy_url)] = None
    """HTTP proxy, `http://host:port`; `${HTTP_PROXY:-}` takes that of the environment, which is not used otherwise."""
    ca_file: Annotated[str | None, BeforeValidator(_none_if_empty)] = None
    """Certificates (PEM) that sign the server's, of an authority of your own; read again when the file has changed. Unset:
    those that the public trusts."""
    extra_headers: Annotated[dict[str, SecretStr], AfterValidator(_headers)] = Field(default_factory=dict)
    """Headers added to every call, such as `X-Organization`."""


class Circuit(Section):
    """When calls stop because a key or a provider is failing."""

    failure_ratio: float = Field(0.1, gt=0, le=1)
    """Share of server errors above which the circuit opens."""
    min_calls: int = Field(20, ge=1)
    """Calls in the window before the share counts."""
    window: Millis = Field(timedelta(seconds=60), ge=timedelta(seconds=1), le=timedelta(hours=1))
    """What is looked back at."""
    open_for: Millis = Field(timedelta(seconds=30), ge=timedelta(milliseconds=10), le=timedelta(hours=1))
    """How long it stays open before a few calls probe it."""


class HealthCheck(Section):
    """An optional probe that costs nothing (the provider's list of models)."""

    enabled: bool = False
    """Probe at all; without it health is judged by real calls alone."""
    interval: Millis = Field(timedelta(seconds=60), ge=timedelta(seconds=1), le=timedelta(days=1))
    """Time between probes."""
    timeout: Millis = Field(timedelta(seconds=5), ge=timedelta(milliseconds=10), le=timedelta(minutes=1))
    """Longest wait for one probe."""
    unhealthy_threshold: int = Field(3, ge=1, le=100)
    """Failures in a row after which the provider gets no traffic."""
    healthy_threshold: int = Field(2, ge=1, le=100)
    """Successes in a row after which it gets traffic again."""


class ProviderDefaults(Section):
    """Settings of every provider that does not set them itself."""

    network: Network = Field(default_factory=Network)
    """Time-outs, retries, proxy."""
    circuit: Circuit = Field(default_factory=Circuit)
    """Circuit breaker of the provider and of each of its keys."""
    health_check: HealthCheck = Field(default_factory=HealthCheck)
    """Active probe."""
    key_strategy: Annotated[KeyStrategy, BeforeValidator(_underscores)] = "weighted"
    """How a key is picked: weighted by `weight`, in turn, the fastest, or adaptive (errors, latency, headroom)."""
    concurrency: int | None = Field(None, ge=1, le=10_000)
    """Most calls in flight to the provider from one worker; unset: `dispatch.max_in_flight` and what it bears."""
    buffer: int = Field(100, ge=1, le=100_000)
    """Most requests of one worker that wait for a free place of `concurrency`; more stay in Kafka."""


class Provider(ProviderDefaults):
    """One provider, or one account at a provider. Its name is the key under `providers`. It also has every key of
    `provider_defaults`."""

    type: Annotated[ProviderType, BeforeValidator(canonical_type)]
    """Dialect family. `custom` is any OpenAI-compatible server at `base_url`."""
    base_url: HttpUrl | None = None
    """Where it is; the address of the type by default. Azure, Bedrock and Vertex take theirs from `meta`."""
    keys: tuple[Key, ...] = ()
    """Its credentials. May be empty for a server of your own, for Ollama, and for Vertex (`meta.auth_credentials`)."""
    models: tuple[str, ...] = ("*",)
    """Models it is used for, by its own names; `*` at the end of a name stands for anything. A name that is listed may
    be asked for as `model`, also where no price of it is known."""
    organization: str | None = None
    """Sent as `OpenAI-Organization`."""
    max_tokens: int | None = Field(None, ge=1)
    """Output tokens asked for when the request does not say. Unset: at Anthropic, which insists on a number, what the
    model can write (4096 where that is unknown); elsewhere the provider's own default."""


class AzureMeta(Section):
    endpoint: HttpUrl
    """`https://<resource>.openai.azure.com`."""
    api_version: str = "2024-02-15-preview"
    """Sent as `api-version`."""
    deployments: dict[str, str] = Field(default_factory=dict)
    """Model → name of its deployment; a model that is not named is deployed under its own name."""


class BedrockMeta(Section):
    region: str = Field("us-east-1", pattern=r"^[a-z0-9-]{1,40}$")
    """AWS region."""
    secret_access_key: Secret | None = None
    """Signs the calls, together with the access key id in `keys`. Without it the key is sent as a bearer key."""
    session_token: Annotated[SecretStr | None, BeforeValidator(_none_if_empty)] = None
    """For temporary credentials."""
    arn: Annotated[str | None, BeforeValidator(_none_if_empty)] = None
    """Prefix of inference-profile ids."""


class VertexMeta(Section):
    project_id: str = Field(min_length=1)
    """Google Cloud project."""
    location: str = Field("us-central1", pattern=r"^[a-z0-9-]{1,40}$")
    """Region, `global`, `us` or `eu`."""
    auth_credentials: Annotated[SecretStr | None, BeforeValidator(_none_if_empty)] = None
    """A service account as JSON, or the path of its file; unset: the credentials of the machine."""


class AzureProvider(Provider):
    """Azure OpenAI."""

    meta: AzureMeta
    """Resource and deployments."""


def listed(provider: Provider) -> frozenset[str]:
    """The models that an entry names one by one: in `models`, or as deployments of Azure."""
    deployed = provider.meta.deployments if isinstance(provider, AzureProvider) else ()
    return frozenset(name for name in (*provider.models, *deployed) if not name.endswith("*"))


class BedrockProvider(Provider):
    """Amazon Bedrock."""

    meta: BedrockMeta = Field(default_factory=BedrockMeta)
    """Region and the rest of the credential."""


class VertexProvider(Provider):
    """Gemini and partner models on Google Cloud."""

    meta: VertexMeta
    """Project, location and credential."""


def _kind(value: Any) -> str:
    """Which class reads an entry: the one with this type's `meta`."""
    name = canonical_type(value.get("type") if isinstance(value, dict) else getattr(value, "type", None))
    return name if isinstance(name, str) and name in ("azure", "bedrock", "vertex") else "plain"


AnyProvider = Annotated[
    Annotated[Provider, Tag("plain")]
    | Annotated[AzureProvider, Tag("azure")]
    | Annotated[BedrockProvider, Tag("bedrock")]
    | Annotated[VertexProvider, Tag("vertex")],
    Discriminator(_kind),
]
