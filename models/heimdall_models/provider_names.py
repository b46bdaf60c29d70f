"""What providers call the models of the shipped catalogue."""

import datetime as dt
from collections.abc import Mapping
from functools import lru_cache

from heimdall_models.catalogue import Catalogue, load_catalogue

# Where the catalogue has the names of a type of provider under another word.
_GROUP = {"bedrock": "aws", "gemini": "google", "xai": "x-ai", "openai_responses": "openai"}


def names_at(model_id: str, provider_type: str) -> tuple[str, ...]:
    """What a provider of this type may call the model, the usual name first; the last is the model's own, which holds for
    models that the catalogue lacks as well: the whole id at OpenRouter, elsewhere the part after the author."""
    own = model_id if provider_type == "openrouter" else model_id.partition("/")[2]
    return tuple(dict.fromkeys((*_given(model_id, provider_type), own)))


def is_known_there(model_id: str, provider_type: str, name: str) -> bool:
    """Whether the catalogue says that providers of this type call the model so."""
    return name in _given(model_id, provider_type)


def id_of(name: str) -> str:
    """The id of the model that the catalogue calls so, in any spelling; of one that it lacks, the name itself."""
    return _catalogue().resolve(name) or name


def _given(model_id: str, provider_type: str) -> tuple[str, ...]:
    return _aliases().get(model_id, {}).get(_GROUP.get(provider_type, provider_type), ())


@lru_cache(maxsize=1)
def _aliases() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    return {model.id: model.aliases for model in _catalogue().models.values()}


@lru_cache(maxsize=1)
def _catalogue() -> Catalogue:
    return load_catalogue(dt.date.min)
