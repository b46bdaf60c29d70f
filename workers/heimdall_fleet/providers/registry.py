"""Which dialect speaks for a provider's `type`, and where such a provider lives unless `base_url` says otherwise."""

from collections.abc import Mapping
from difflib import get_close_matches

from heimdall_fleet.providers import anthropic, bedrock, cohere, gemini, responses, vertex
from heimdall_fleet.providers.compat import PROFILES
from heimdall_fleet.providers.dialect import Dialect
from heimdall_fleet.providers.openai_chat import OpenAIChat
from heimdall_schemas.failure import Failure, FailureCode

DIALECTS: Mapping[str, Dialect] = {
    **{family: OpenAIChat(family, profile) for family, profile in PROFILES.items()},
    anthropic.FAMILY: anthropic.Anthropic(),
    gemini.FAMILY: gemini.Gemini(),
    bedrock.FAMILY: bedrock.Bedrock(),
    responses.FAMILY: responses.Responses(),
    cohere.FAMILY: cohere.Cohere(),
    vertex.FAMILY: vertex.Vertex(),
}

BASE_URLS: Mapping[str, str] = {
    **{family: profile.base_url for family, profile in PROFILES.items() if profile.base_url},
    anthropic.FAMILY: anthropic.BASE_URL,
    gemini.FAMILY: gemini.BASE_URL,
    responses.FAMILY: responses.BASE_URL,
    cohere.FAMILY: cohere.BASE_URL,
}


def dialect_for(family: str) -> Dialect:
    """The dialect of a configured `type`. Raises Failure (`heimdall_config`) for an unknown one."""
    dialect = DIALECTS.get(family)
    if dialect is None:
        near = get_close_matches(family, DIALECTS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise Failure(
            FailureCode.HEIMDALL_CONFIG,
            f"providers.*.type {family!r} is no dialect{hint} Known: {', '.join(sorted(DIALECTS))}. "
            "A server that speaks OpenAI's Chat Completions works as custom with its base_url.",
        )
    return dialect
