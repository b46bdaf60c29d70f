"""What is known of each model: window, abilities, price, latency, standing; and the many spellings of its name."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from heimdall_models.shipped import shipped
from heimdall_schemas.topics import Bucket

MILLION = 1_000_000

DEFAULT_CANDIDATES: Mapping[Bucket, tuple[str, ...]] = {
    Bucket.CHEAP: (
        "openai/gpt-6-luna",
        "anthropic/claude-haiku-5.5",
        "google/gemini-3.5-flash-lite",
        "deepseek/deepseek-v4.1-flash",
        "z-ai/glm-5.3-flash",
        "minimax/minimax-m3",
        "google/gemma-4-31b-it",
    ),
    Bucket.MID: (
        "openai/gpt-6-sol",
        "anthropic/claude-sonnet-5.5",
        "google/gemini-3.8-flash",
        "deepseek/deepseek-v4-pro",
        "qwen/qwen3.8-max",
        "x-ai/grok-4.7",
        "meta/muse-spark-1.3",
        "z-ai/glm-5.3",
    ),
    Bucket.HARD: (
        "openai/gpt-5.5",
        "openai/gpt-6.1-sol",
        "anthropic/claude-opus-5.5",
        "anthropic/claude-fable-5.1",
        "google/gemini-3.8-flash",
        "moonshotai/kimi-k3",
        "meta/muse-spark-1.3",
    ),
}
"""Current models by price and quality, several authors a bucket so that any one provider key can serve it: cheap at
most 2.5 USD a million output tokens, mid at most 10, hard the best whatever they cost. Mid and hard hold the families
that `bucket_defaults` steers, hard a Gemini with a window above a million tokens."""

REASONING_OUTPUT_RATIO = 3.0
"""Prior: a model that thinks writes about three times the tokens of a plain answer. Replaced by measurement."""

_LATENCY_MS_BY_OUTPUT_USD = ((1.0, 3_000.0), (6.0, 8_000.0), (float("inf"), 15_000.0))
_LATENCY_SD_RATIO = 0.5

_PREFIXES = frozenset(
    (
        *("openai", "anthropic", "google", "gemini", "vertex", "vertex_ai", "vertex-ai", "azure", "bedrock", "aws"),
        *("openrouter", "groq", "mistral", "mistralai", "cohere", "deepseek", "fireworks", "fireworks_ai", "together"),
        *("together_ai", "deepinfra", "novita", "cerebras", "xai", "x-ai", "zai", "z-ai", "moonshot", "moonshotai"),
        *("minimax", "meta", "alibaba", "dashscope", "baseten", "cloudflare", "ollama", "perplexity"),
    )
)


class CatalogueError(ValueError):
    """The catalogue or an override of it cannot be used; the message names the model and the field."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Micro-dollars per million tokens. None: no such price is known, the input price holds."""

    input: int
    output: int
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None

    def cost_usd_micros(self, input_tokens: int, output_tokens: int) -> int:
        """Price of a call without cached tokens, rounded up."""
        return -(-(input_tokens * self.input + output_tokens * self.output) // MILLION)


@dataclass(frozen=True, slots=True)
class Price:
    """Prices of one model. `long` holds for the whole call when its prompt is above `long_above_tokens`."""

    standard: Rate
    long: Rate | None = None
    long_above_tokens: int | None = None
    batch: Rate | None = None
    flex: Rate | None = None
    priority: Rate | None = None

    @property
    def dearest_usd_micros(self) -> int:
        """The dearer of input and output at the standard rate, a million tokens."""
        return max(self.standard.input, self.standard.output)

    def at(self, prompt_tokens: int) -> Rate:
        """The standard-tier rate of a call with so many prompt tokens."""
        if self.long is not None and self.long_above_tokens is not None and prompt_tokens > self.long_above_tokens:
            return self.long
        return self.standard


@dataclass(frozen=True, slots=True)
class Abilities:
    """None: no source says it; a guardrail lets such a model pass."""

    tools: bool | None = None
    images: bool | None = None
    structured_output: bool | None = None
    reasoning: bool | None = None
    audio: bool | None = None
    pdf: bool | None = None
    cache: bool | None = None


@dataclass(frozen=True, slots=True)
class Latency:
    """Time to a whole answer. `measured` False: a prior by price class, with the same relative spread for every model,
    so that no model is called jittery before it was seen to be."""

    mean_ms: float
    sd_ms: float
    measured: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """`state` is current, preview, restricted preview, legacy, deprecated or retired."""

    state: str = "current"
    shutdown: dt.date | None = None
    replacement: str | None = None
    note: str | None = None

    @property
    def current(self) -> bool:
        return self.state in ("current", "preview", "restricted preview")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model. Windows are tokens; `max_input` is the most a prompt may have where that is less than the window."""

    id: str
    context_window: int | None
    price: Price | None
    latency: Latency
    max_input: int | None = None
    max_output: int | None = None
    abilities: Abilities = Abilities()
    status: Status = Status()
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    output_ratio: float = 1.0

    @property
    def author(self) -> str:
        return self.id.partition("/")[0]

    @property
    def family(self) -> str:
        """gpt, gemini, claude, … : how the reasoning of its models is steered."""
        return _family(self.id)


@dataclass(frozen=True, slots=True)
class Override:
    """What a configuration says better than the catalogue; None leaves a fact as it is.

    `price` replaces every price of the model, tiers and long prompts included.
    """

    context_window: int | None = None
    max_input: int | None = None
    max_output: int | None = None
    price: Rate | None = None
    tools: bool | None = None
    images: bool | None = None
    structured_output: bool | None = None
    reasoning: bool | None = None
    aliases: tuple[str, ...] = ()
    latency: Latency | None = None
    output_ratio: float | None = None


def _family(model_id: str) -> str:
    name = model_id.rpartition("/")[2].lower()
    for family in ("gpt-oss", "gpt", "gemini", "claude"):
        if name.startswith(family):
            return family
    return name.partition("-")[0]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All models by id, and every other spelling that leads to one. `hash` is over the facts themselves."""

    models: Mapping[str, ModelFacts]
    spellings: Mapping[str, str]
    hash: str
    as_of: str = ""

    def resolve(self, name: str) -> str | None:
        """The id that `name` means, or None. Ids win over aliases; a provider prefix (`bedrock/…`) is skipped."""
        found = self._lookup(name)
        while found is None and "/" in name:
            prefix, _, name = name.partition("/")
            if prefix.lower() not in _PREFIXES:
                return None
            found = self._lookup(name)
        return found

    def facts(self, name: str) -> ModelFacts | None:
        found = self.resolve(name)
        return None if found is None else self.models[found]

    def warning(self, name: str, today: dt.date) -> str | None:
        """What to tell whoever configured `name`, when its model is on the way out; with date and replacement."""
        facts = self.facts(name)
        if facts is None or facts.status.current:
            return None
        status = facts.status
        when = "" if status.shutdown is None else _when(status.shutdown, today)
        instead = f"; use {status.replacement} instead" if status.replacement else ""
        note = f" ({status.note})" if status.note else ""
        meant = "" if name == facts.id else f" (configured as {name})"
        return f"{facts.id}{meant} is {status.state}{when}{note}{instead}; catalogue of {self.as_of}"

    def with_overrides(self, overrides: Mapping[str, Override]) -> Catalogue:
        """The catalogue with the `models:` section of a configuration laid over it; new models are added."""
        models = dict(self.models)
        for name, override in overrides.items():
            model_id = self.resolve(name) or name
            models[model_id] = _overridden(models.get(model_id), model_id, override)
        return catalogue_of(models.values(), self.as_of)

    def _lookup(self, name: str) -> str | None:
        if name in self.models:
            return name
        return self.spellings.get(name.lower())


def _when(shutdown: dt.date, today: dt.date) -> str:
    return f" since {shutdown}" if shutdown <= today else f", it shuts down on {shutdown}"


def catalogue_of(models: Iterable[ModelFacts], as_of: str = "") -> Catalogue:
    """A catalogue of these models; where two claim a spelling, the one whose id ends in it has it, else the first."""
    by_id = {facts.id: facts for facts in models}
    spellings: dict[str, str] = {}
    for model_id in by_id:
        spellings[model_id.lower()] = model_id
    for model_id in by_id:
        spellings.setdefault(model_id.partition("/")[2].lower(), model_id)
    for model_id, facts in by_id.items():
        for names in facts.aliases.values():
            for name in names:
                spellings.setdefault(name.lower(), model_id)
    digest = hashlib.sha256(orjson.dumps([by_id[key] for key in sorted(by_id)], option=orjson.OPT_SORT_KEYS))
    return Catalogue(by_id, spellings, digest.hexdigest(), as_of)


def load_catalogue(today: dt.date, path: Path | None = None) -> Catalogue:
    """The shipped catalogue (or the one at `path`) with the prices that hold on `today`.

    Raises CatalogueError when the file is missing or not a catalogue.
    """
    source = path or shipped("catalogue/models.json")
    try:
        document = orjson.loads(source.read_bytes())
        return catalogue_of((read_model(row, today) for row in document["models"]), document["date"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise CatalogueError(
            f"{source.name} is no model catalogue: {type(error).__name__} {error}; "
            "rebuild it with `python -m heimdall_models.catalogue_build`"
        ) from error


def read_model(row: Mapping[str, Any], today: dt.date) -> ModelFacts:
    """One entry of the catalogue file; a price change that is due on `today` has happened."""
    price = dict(row["price"])
    for change in row.get("price_later", ()):
        if dt.date.fromisoformat(change["from"]) <= today:
            price.update({name: value for name, value in change.items() if name != "from"})
    status = row["status"]
    shutdown = status.get("shutdown")
    abilities = Abilities(**row["abilities"])
    read_price = _price(price)
    return ModelFacts(
        id=row["id"],
        context_window=row["context_window"],
        price=read_price,
        latency=latency_prior(read_price),
        max_input=row.get("max_input"),
        max_output=row.get("max_output"),
        abilities=abilities,
        status=Status(
            status["state"],
            dt.date.fromisoformat(shutdown) if shutdown else None,
            status.get("replacement"),
            status.get("note"),
        ),
        aliases={provider: tuple(names) for provider, names in row["aliases"].items()},
        output_ratio=REASONING_OUTPUT_RATIO if abilities.reasoning else 1.0,
    )


def latency_prior(price: Price | None) -> Latency:
    """A guess until measured: dearer output means a larger model, and a larger model answers later."""
    output_usd = float("inf") if price is None else price.standard.output / MILLION
    mean_ms = next(mean for limit, mean in _LATENCY_MS_BY_OUTPUT_USD if output_usd <= limit)
    return Latency(mean_ms, mean_ms * _LATENCY_SD_RATIO)


def _price(usd: Mapping[str, Any]) -> Price:
    """USD per million tokens → micro-dollars per million tokens."""
    above = usd.get("above_prompt_tokens") or {}
    standard = _rate(usd)
    threshold, over = next(iter(above.items()), (None, None))
    return Price(
        standard=standard,
        long=None if over is None else _rate({**usd, **over}),
        long_above_tokens=None if threshold is None else int(threshold),
        batch=_tier(usd, "batch"),
        flex=_tier(usd, "flex"),
        priority=_tier(usd, "priority"),
    )


def _tier(usd: Mapping[str, Any], name: str) -> Rate | None:
    tier = usd.get(name)
    return None if tier is None else _rate(tier)


def _rate(usd: Mapping[str, Any]) -> Rate:
    names = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
    amounts = {name: round(usd[name] * MILLION) for name in names if usd.get(name) is not None}
    if min(amounts.values()) < 0:
        raise CatalogueError(f"a price is negative: {dict(usd)}; prices are USD per million tokens")
    return Rate(**amounts)


def _overridden(base: ModelFacts | None, model_id: str, override: Override) -> ModelFacts:
    facts = base or ModelFacts(model_id, None, None, latency_prior(None))
    given: dict[str, Any] = {
        name: value
        for name in ("context_window", "max_input", "max_output", "output_ratio")
        if (value := getattr(override, name)) is not None
    }
    if override.context_window is not None:
        given.setdefault("max_input", None)
    if override.price is not None:
        given["price"] = Price(override.price)
        if not facts.latency.measured:
            given["latency"] = latency_prior(given["price"])
    if override.latency is not None:
        given["latency"] = override.latency
    if override.aliases:
        given["aliases"] = {**facts.aliases, "config": override.aliases}
    abilities = {
        name: value
        for name in ("tools", "images", "structured_output", "reasoning")
        if (value := getattr(override, name)) is not None
    }
    return replace(facts, abilities=replace(facts.abilities, **abilities), **given)
