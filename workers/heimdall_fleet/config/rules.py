"""Rules that look across sections. Each is a plain function from a Config to what it finds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from ipaddress import ip_address
from urllib.parse import urlsplit

from heimdall_fleet.config.describe import suggestion
from heimdall_fleet.config.issues import Path, Severity
from heimdall_fleet.config.model import Config
from heimdall_fleet.config.provider_types import ADDRESSLESS, FACTS
from heimdall_fleet.shown import shown_address
from heimdall_models.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class Finding:
    path: Path
    message: str
    hint: str = ""
    severity: Severity = "error"


_HEADER_ROOM_BYTES = 64 * 1024

Rule = Callable[[Config, str], Iterator[Finding]]


def check(config: Config, environment: str) -> list[Finding]:
    """All findings of all rules."""
    return [finding for rule in RULES for finding in rule(config, environment)]


def production(config: Config, environment: str) -> Iterator[Finding]:
    """What a production fleet may not do."""
    if environment != "production":
        return
    if not config.enable_observability:
        yield Finding(("enable_observability",), "must be true in production", "remove it, or set it to true")
    if config.enable_exploration and not config.router.exploration.allow_in_production:
        hint = "set it to false, or say yes a second time: router.exploration.allow_in_production: true"
        yield Finding(("enable_exploration",), "must be false in production", hint)
    if config.router.alpha < 0.6:
        message = f"{config.router.alpha} is below 0.6 in production: cost weighs heavily against quality"
        yield Finding(("router", "alpha"), message, "0.6 … 0.8 is usual", "warning")


def exploration(config: Config, _: str) -> Iterator[Finding]:
    """The switch and the share belong together."""
    share = config.router.exploration.share
    if config.enable_exploration and share == 0:
        hint = "set router.exploration.share, such as 0.02"
        yield Finding(("enable_exploration",), "has no effect: router.exploration.share is 0", hint, "warning")
    if share > 0 and not config.enable_exploration:
        path = ("router", "exploration", "share")
        yield Finding(path, "has no effect: enable_exploration is false", "set enable_exploration: true", "warning")


def answer_caches(config: Config, _: str) -> Iterator[Finding]:
    """Caches of answers can be written down but are not kept yet: every request is answered by a provider."""
    for name, cache in (("exact", config.cache.exact), ("semantic", config.cache.semantic)):
        if cache.model_fields_set:
            message = "has no effect yet: no answers are kept, every request goes to a provider"
            yield Finding(("cache", name), message, "remove it; cache.decision keeps decisions", "warning")


def provider_keys(config: Config, _: str) -> Iterator[Finding]:
    """A provider can be called: it has an address, and keys where its type needs them."""
    for name, provider in config.providers.items():
        path: Path = ("providers", name)
        if provider.type in ADDRESSLESS and provider.base_url is None:
            message = f"this key is missing; a {provider.type} provider has no address of its own"
            yield Finding((*path, "base_url"), message)
        usual = FACTS[provider.type].base_url
        needs_key = FACTS[provider.type].needs_key and config.dispatch.account is None
        if not provider.keys and needs_key and provider.base_url == usual:
            hint = 'write keys: [{name: main, value: "${…}"}]'
            yield Finding((*path, "keys"), f"keys are missing; {provider.type} cannot be called without", hint)
        names = [key.name for key in provider.keys]
        for index, key in enumerate(names):
            if key in names[:index]:
                message = f"{key} names two keys of {name}; names must differ"
                yield Finding((*path, "keys", index, "name"), message)
        if provider.keys and not any(key.weight for key in provider.keys):
            yield Finding((*path, "keys"), "every key has weight 0; none would be used", "give one a weight of 1")


def plain_http(config: Config, _: str) -> Iterator[Finding]:
    """Keys do not travel in the clear."""
    for name, provider in config.providers.items():
        address = urlsplit(provider.base_url or "")
        if address.scheme == "http" and provider.keys and not _nearby(address.hostname or ""):
            message = f"keys would go to {address.hostname} unencrypted"
            yield Finding(("providers", name, "base_url"), message, "use https://", "warning")


def _nearby(host: str) -> bool:
    if host == "localhost" or not {".", ":"} & set(host):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return host.endswith((".local", ".internal", ".svc", ".localhost"))
    return address.is_private


def offers(config: Config, _: str) -> Iterator[Finding]:
    """Models name providers that exist."""
    names = tuple(config.providers)
    for model, facts in config.models.items():
        for index, offer in enumerate(facts.providers):
            if offer.provider not in config.providers:
                path = ("models", model, "providers", index, "provider")
                message = f"{offer.provider} is not one of the configured providers"
                yield Finding(path, message, suggestion(offer.provider, names))


def fallbacks(config: Config, _: str) -> Iterator[Finding]:
    """Every link of a chain can be followed: a provider that is configured, or a model that somebody serves."""
    if not config.providers:
        return
    for key, model, chain in config.dispatch.chains():
        for index, link in enumerate(chain):
            first = link.partition("/")[0]
            if first in config.providers or config.offers(link):
                continue
            hint = suggestion(first, tuple(config.providers))
            message = f"{link} is neither a model of a configured provider nor a model id that one serves"
            yield Finding(("dispatch", key, model, index), message, hint)


def candidates(config: Config, _: str) -> Iterator[Finding]:
    """Candidates that nobody serves are skipped, and that is said."""
    if not config.providers:
        return
    for bucket in ("cheap", "mid", "hard"):
        section = f"{bucket}_candidates"
        models: tuple[str, ...] = getattr(config.router, section)
        unserved = [model for model in models if not config.offers(model)]
        if unserved:
            all_of_them = f"; nothing is left for {bucket} requests" if len(unserved) == len(models) else ""
            message = f"no configured provider serves {', '.join(unserved)}; skipped{all_of_them}"
            hint = f'configure its provider or openrouter, or write models."{unserved[0]}".providers'
            yield Finding(("router", section), message, hint, "warning")


def artifact_url(config: Config, _: str) -> Iterator[Finding]:
    """Bundles come from where nobody on the way can put another one in."""
    found: list[tuple[Path, str]] = [(("tuning", "artifact_url"), config.tuning.artifact_url)]
    for index, experiment in enumerate(config.router.experiments):
        for place, arm in enumerate(experiment.arms):
            if arm.bundle is not None:
                found.append((("router", "experiments", index, "arms", place, "bundle"), arm.bundle))
    for path, url in found:
        address = urlsplit(url)
        if "@" in address.netloc:
            yield Finding(path, "credentials do not belong in the address; they are not sent", "an address without")
        if address.scheme in ("", "file", "https"):
            continue
        if address.scheme != "http" or address.hostname not in ("localhost", "127.0.0.1", "::1"):
            yield Finding(
                path, f"{shown_address(url)} is not safe to load from", "use a directory, file:// or https://"
            )


def retired(config: Config, catalogue: Catalogue, today: date) -> Iterator[Finding]:
    """Candidates that their makers have retired or will: said at the start and by `config lint`. Not one of `RULES`,
    since the rules know no catalogue."""
    for bucket in ("cheap", "mid", "hard"):
        section = f"{bucket}_candidates"
        for index, model in enumerate(getattr(config.router, section)):
            if (said := catalogue.warning(model, today)) is not None:
                yield Finding(("router", section, index), said, "", "warning")


def incomplete(config: Config, catalogue: Catalogue) -> Iterator[Finding]:
    """Candidates that cannot be chosen since their price or window is unknown. A worker says so of its own judge."""
    for bucket in ("cheap", "mid", "hard"):
        section = f"{bucket}_candidates"
        for index, model in enumerate(getattr(config.router, section)):
            facts = catalogue.facts(model)
            lacks = [name for name in ("price", "context_window") if getattr(facts, name, None) is None]
            if lacks:
                verb, them = ("are", "them") if len(lacks) > 1 else ("is", "it")
                message = f"{model} is left out: its {' and '.join(lacks)} {verb} unknown"
                yield Finding(("router", section, index), message, f'set {them} under models."{model}"', "warning")


def unknown(config: Config, catalogue: Catalogue) -> Iterator[Finding]:
    """Names that no model or author of the catalogue has: a rule about them has no effect. Not one of `RULES` either."""
    authors = tuple(sorted({facts.author.lower() for facts in catalogue.models.values()}))
    named: list[tuple[Path, str]] = [
        (("router", "openrouter", "exclude_authors", at), f"{author}/")
        for at, author in enumerate(config.router.openrouter.exclude_authors)
    ]
    named += [
        (("router", "tenants", tenant, at), name)
        for tenant, names in config.router.tenants.items()
        for at, name in enumerate(names)
    ]
    for path, name in named:
        if name.endswith("/") and name[:-1].lower() not in authors:
            message = f"no model of the catalogue is by {name[:-1]!r}, so this has no effect"
            yield Finding(path, message, suggestion(name.strip("/"), authors), "warning")
        elif not name.endswith("/") and catalogue.resolve(name) is None:
            message = f"{name} is not in the catalogue, so this has no effect"
            yield Finding(path, message, suggestion(name, tuple(catalogue.models)), "warning")


def reply_topics(config: Config, _: str) -> Iterator[Finding]:
    """Replies never go to a topic that the fleet itself reads or keeps."""
    internal = config.kafka.topics.internal()
    for index, pattern in enumerate(config.kafka.reply_topics):
        path = ("kafka", "reply_topics", index)
        if pattern in internal:
            yield Finding(path, f"{pattern} is a topic of the fleet itself; replies may not go there")
        elif pattern.endswith("*") and any(topic.startswith(pattern[:-1]) for topic in internal):
            message = f"{pattern} also covers topics of the fleet itself; those stay forbidden"
            yield Finding(path, message, "", "warning")


def body_fits_a_record(config: Config, _: str) -> Iterator[Finding]:
    """An order carries the request's body and its headers."""
    most = config.kafka.max_message_bytes - _HEADER_ROOM_BYTES
    if config.limits.max_body_bytes > most:
        message = (
            f"{config.limits.max_body_bytes:,} must stay {_HEADER_ROOM_BYTES:,} bytes below kafka.max_message_bytes "
            f"({config.kafka.max_message_bytes:,}), since an order carries the body and its headers"
        )
        yield Finding(("limits", "max_body_bytes"), message, f"at most {most:,}, or raise kafka.max_message_bytes")


RULES: tuple[Rule, ...] = (
    production,
    exploration,
    answer_caches,
    provider_keys,
    plain_http,
    offers,
    fallbacks,
    candidates,
    artifact_url,
    reply_topics,
    body_fits_a_record,
)
