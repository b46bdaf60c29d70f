"""The sections that decide which model answers: `router`, `models`, `tuning`, `catalog`, `cache`."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from heimdall_fleet.config.base import Section
from heimdall_fleet.config.providers import HttpUrl, Name
from heimdall_fleet.config.units import Millis, Seconds, UsdMicros
from heimdall_models.catalogue import DEFAULT_CANDIDATES
from heimdall_schemas.topics import Bucket


def _model_id(value: str) -> str:
    author, slash, model = value.partition("/")
    if not (author and slash and model) or value != value.strip() or not value.isprintable() or len(value) > 200:
        raise ValueError(f"{value[:60]!r} is not a model id; write author/model, such as openai/gpt-5")
    return value


ModelId = Annotated[str, AfterValidator(_model_id)]
Candidates = Annotated[tuple[ModelId, ...], Field(min_length=1)]
Effort = Literal["low", "medium", "high"]


class Thresholds(Section):
    """Where the buckets part, on the percentile of difficulty over reference traffic: 0 is easiest, 1 hardest."""

    cheap: float = Field(0.3, ge=0, le=1)
    """Below it a request is cheap. Raise it to save more."""
    hard: float = Field(0.7, ge=0, le=1)
    """Above it a request is hard. Raise it to use premium models less."""

    @model_validator(mode="after")
    def _cheap_is_below_hard(self) -> Self:
        if self.cheap >= self.hard:
            raise ValueError(f"cheap ({self.cheap}) must be below hard ({self.hard})")
        return self


class Penalties(Section):
    """What is taken off a candidate's score."""

    latency_sd: float = Field(0.1, ge=0)
    """Times the model's normalised latency deviation."""
    ctx_over_80pct: float = Field(0.15, ge=0)
    """When the conversation fills more than 80 % of the model's context window."""


class MidDefaults(Section):
    """How hard a model thinks about a mid request, where the caller does not say."""

    gpt5_reasoning_effort: Effort = "medium"
    """Reasoning effort of GPT-5 models."""
    gemini_thinking_budget: int = Field(15_000, ge=0)
    """Thinking tokens of Gemini models."""


class HardDefaults(Section):
    """How hard a model thinks about a hard request, where the caller does not say."""

    gpt5_reasoning_effort: Effort = "high"
    """Reasoning effort of GPT-5 models."""
    gemini_thinking_budget: int = Field(30_000, ge=0)
    """Thinking tokens of Gemini models."""


class BucketDefaults(Section):
    mid: MidDefaults = Field(default_factory=MidDefaults)
    """For the mid bucket."""
    hard: HardDefaults = Field(default_factory=HardDefaults)
    """For the hard bucket."""


class OpenRouterPreferences(Section):
    sort: Literal["quality", "price", "throughput", "latency"] = "quality"
    """How OpenRouter picks among its hosts; `quality` leaves that to the fleet's own ranking and sends nothing."""
    max_price_usd_micros: UsdMicros = Field(30_000_000, alias="max_price", gt=0)
    """Dearest price accepted through OpenRouter, USD per million tokens, for input and for output."""
    allow_fallbacks: bool = True
    """Let OpenRouter try another host by itself."""


class OpenRouter(Section):
    exclude_authors: tuple[str, ...] = ()
    """Authors (first part of a model id) that are never chosen."""
    provider: OpenRouterPreferences = Field(default_factory=OpenRouterPreferences)
    """OpenRouter's own choice of a host."""


class Exploration(Section):
    """A small share of requests goes to a candidate that is not the best, to learn. Needs `enable_exploration`."""

    share: float = Field(0, ge=0, le=0.5)
    """Share of requests that explore."""
    across: bool = False
    """Draw among the candidates of all buckets that pass the guardrails, not of the request's own bucket alone. Only so a log
    can tell what a harder or an easier bucket is worth where the lists have no model in common."""
    allow_in_production: bool = False
    """The second, explicit yes without which a production fleet refuses to explore."""


def _model_or_author(value: str) -> str:
    author, slash, model = value.partition("/")
    return value if author and slash and not model and author == author.strip() else _model_id(value)


ModelOrAuthor = Annotated[str, AfterValidator(_model_or_author)]


class Arm(Section):
    """One treatment of an experiment. What it does not say is as for everybody."""

    name: Name
    """Recorded as `EXPERIMENT:NAME` in `experiment` of every decision."""
    share: float = Field(gt=0, le=1)
    """Share of sessions (of requests, where they name no session) that get it."""
    alpha: float | None = Field(None, ge=0, le=1)
    """Instead of `router.alpha`."""
    cheap_candidates: Candidates | None = None
    """Instead of `router.cheap_candidates`."""
    mid_candidates: Candidates | None = None
    """Instead of `router.mid_candidates`."""
    hard_candidates: Candidates | None = None
    """Instead of `router.hard_candidates`."""
    bundle: str | None = Field(None, min_length=1)
    """Instead of `tuning.artifact_url`, in the same forms; loaded when the configuration is."""


class Experiment(Section):
    """An A/B test. Who gets what is drawn from a hash of the session: a session keeps its arm."""

    name: Name
    """Seeds the draw: another name draws anew."""
    arms: Annotated[tuple[Arm, ...], Field(min_length=1, max_length=16)]
    """The treatments; the rest of the traffic is the arm `control`."""

    @model_validator(mode="after")
    def _arms_differ_and_fit(self) -> Self:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names) or "control" in names:
            raise ValueError("arms need names of their own; control is the name of the rest of the traffic")
        if sum(arm.share for arm in self.arms) > 1 + 1e-9:
            raise ValueError(f"the shares sum to {sum(arm.share for arm in self.arms):g}; at most 1 is there to share")
        return self


class Router(Section):
    """How a request gets its bucket and its model."""

    alpha: float = Field(0.7, ge=0, le=1)
    """Quality against cost: 1 looks at quality alone, 0 at cost alone."""
    thresholds: Thresholds = Field(default_factory=Thresholds)
    """Where the buckets part."""
    top_p: int = Field(5, ge=1, le=1000)
    """How many nearest clusters of past requests are looked at (not the sampling parameter of a request)."""
    penalties: Penalties = Field(default_factory=Penalties)
    """What is taken off a score."""
    bucket_defaults: BucketDefaults = Field(default_factory=BucketDefaults)
    """Reasoning power by bucket."""
    cheap_candidates: Candidates = DEFAULT_CANDIDATES[Bucket.CHEAP]
    """Models for cheap requests, as `author/model`."""
    mid_candidates: Candidates = DEFAULT_CANDIDATES[Bucket.MID]
    """Models for mid requests."""
    hard_candidates: Candidates = DEFAULT_CANDIDATES[Bucket.HARD]
    """Models for hard requests."""
    openrouter: OpenRouter = Field(default_factory=OpenRouter)
    """Preferences of calls through OpenRouter."""
    exploration: Exploration = Field(default_factory=Exploration)
    """Trying other models on purpose."""
    switch_margin: float = Field(0.05, ge=0, le=1)
    """Gain in score above which a session leaves the model it has."""
    tenants: dict[str, Annotated[tuple[ModelOrAuthor, ...], Field(min_length=1)]] = Field(default_factory=dict)
    """Tenant → the models (`author/model`) and authors (`author/`) it may use; one that is not named may use all."""
    experiments: Annotated[tuple[Experiment, ...], Field(max_length=1)] = ()
    """The A/B test that runs. One at a time: two would blur each other."""

    def candidates(self) -> tuple[str, ...]:
        """Every candidate once, in the order of the buckets."""
        return tuple(dict.fromkeys((*self.cheap_candidates, *self.mid_candidates, *self.hard_candidates)))


class Price(Section):
    """US dollars per million tokens; integer micro-dollars per million tokens in the program."""

    input_usd_micros: UsdMicros = Field(alias="input")
    """Prompt tokens."""
    output_usd_micros: UsdMicros = Field(alias="output")
    """Completion tokens, reasoning included."""
    cache_read_usd_micros: UsdMicros | None = Field(None, alias="cache_read")
    """Prompt tokens read from the provider's cache; unset: as input."""
    cache_write_usd_micros: UsdMicros | None = Field(None, alias="cache_write")
    """Prompt tokens written to the provider's cache; unset: as input."""


class Offer(Section):
    """One place where a model can be called."""

    provider: Name
    """Name of an entry of `providers`."""
    model: str = Field(min_length=1, max_length=300)
    """What the model is called there."""
    weight: float | None = Field(None, gt=0)
    """Share of the orders that begin here, among the places of the model that have a weight. Unset: asked in order, after
    those that have one."""


class ModelLatency(Section):
    """How long a model takes for a whole answer, as measured."""

    mean: Millis = Field(gt=timedelta(0))
    """On average."""
    sd: Millis = Field(ge=timedelta(0))
    """Standard deviation."""


class Model(Section):
    """What the catalogue lacks or gets wrong about one model. The key is its id, `author/model`."""

    context_window: int | None = Field(None, ge=1)
    """Tokens that fit, input and output together."""
    max_output: int | None = Field(None, ge=1)
    """Most tokens of one answer."""
    price: Price | None = None
    """A model without any known price is no candidate."""
    latency: ModelLatency | None = None
    """Unset: a guess by its price, with the same relative deviation for all, so that `latency_sd` prefers none."""
    tools: bool | None = None
    """It can call tools."""
    images: bool | None = None
    """It can see images."""
    structured_output: bool | None = None
    """It can follow a JSON schema."""
    aliases: tuple[str, ...] = ()
    """Other spellings of its id that requests may use."""
    providers: tuple[Offer, ...] = ()
    """Who serves it, in order. Unset: the provider named like the author, then others of that type, those whose `models`
    list it, and `openrouter`; each by the name that the list, else the catalogue, has for it there."""


class Tuning(Section):
    """Where the classifier bundle comes from."""

    artifact_url: str = Field("bundles/default", min_length=1)
    """A directory, or the address (`https://…`, `file://…`) of a JSON pointer `{name, url, sha256}` to an archive; see
    docs/bundles.md. Relative directories start at the shipped models."""
    reload_seconds: int = Field(600, ge=1)
    """How often it is looked at for a new one."""
    cache_dir: str | None = Field(None, min_length=1)
    """Where archives are kept once they were fetched. Unset: `heimdall` in the user's cache directory."""


class Embedding(Section):
    """What turns a text into the vector by which it finds its clusters."""

    plugin: str | None = Field(None, min_length=1)
    """Entry point (group `heimdall_fleet.embedders`) of an installed package; unset: the built-in hashed embedding. The
    bundle's clusters must have been made with the same one."""
    cache_size: int = Field(10_000, ge=1, le=1_000_000)
    """Vectors of a plug-in that one worker keeps."""


class Catalog(Section):
    """Where prices and abilities of models come from."""

    base_url: HttpUrl | None = None
    """A catalogue server; unset: the snapshots on the control topic."""
    refresh_seconds: int = Field(300, ge=1)
    """How often it is asked."""


class DecisionCache(Section):
    """Decisions of triage, by the exact conversation and settings."""

    ttl: Seconds = Field(timedelta(minutes=5), gt=timedelta(0))
    """How long a decision is used again."""
    max_size: int = Field(10_000, ge=1, le=1_000_000)
    """Entries of one worker."""


class ExactCache(Section):
    """Answers, by the exact request within one tenant. It has no effect yet: no answers are kept."""

    enabled: bool = False
    """Answer a repeated request from the cache."""
    ttl: Seconds = Field(timedelta(hours=1), gt=timedelta(0))
    """How long an answer is used again."""
    max_size: int = Field(10_000, ge=1, le=10_000_000)
    """Answers kept."""


class SemanticCache(Section):
    """Answers, by the likeness of the request within one tenant, model and settings. It has no effect yet: no answers are
    kept."""

    enabled: bool = False
    """Answer a similar request from the cache."""
    similarity_threshold: float = Field(0.95, ge=0, le=1)
    """0.99 for critical answers, 0.95 recommended, 0.90 for most hits."""
    ttl: Seconds = Field(timedelta(hours=1), gt=timedelta(0))
    """How long an answer is used again."""
    max_tokens: int = Field(4_000, ge=1)
    """Longest answer kept."""
    max_size: int = Field(10_000, ge=1, le=10_000_000)
    """Answers kept."""
    embedding_model: str | None = None
    """A model that embeds requests, called and paid like any other; unset: the fleet's own embedding, free."""
    exclude_models: tuple[str, ...] = ("gpt-4o-realtime-preview-2024-10-01", "whisper-1", "tts-1", "tts-1-hd")
    """Models whose answers are never kept."""


class Cache(Section):
    decision: DecisionCache = Field(default_factory=DecisionCache)
    """Triage's decisions."""
    exact: ExactCache = Field(default_factory=ExactCache)
    """Answers to the same request."""
    semantic: SemanticCache = Field(default_factory=SemanticCache)
    """Answers to a similar request."""
