"""The provider families the fleet speaks, as data: other spellings, addresses, environment variables, own defaults."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

ProviderType = Literal[
    "openai",
    "anthropic",
    "gemini",
    "vertex",
    "bedrock",
    "azure",
    "openrouter",
    "groq",
    "mistral",
    "deepseek",
    "cohere",
    "xai",
    "together",
    "fireworks",
    "ollama",
    "vllm",
    "openai_responses",
    "custom",
]

PROVIDER_TYPES: tuple[ProviderType, ...] = get_args(ProviderType)


@dataclass(frozen=True, slots=True)
class TypeFacts:
    """What a type brings along. `key_variables` are read in order when `providers` is absent from the file."""

    base_url: str | None = None
    key_variables: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    timeout: str | None = None
    needs_key: bool = True
    base_url_variable: str | None = None


FACTS: Mapping[ProviderType, TypeFacts] = {
    "openai": TypeFacts("https://api.openai.com/v1", ("OPENAI_API_KEY",)),
    "anthropic": TypeFacts("https://api.anthropic.com", ("ANTHROPIC_API_KEY",), ("claude",)),
    "gemini": TypeFacts(
        "https://generativelanguage.googleapis.com/v1beta",
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        ("google", "google-ai", "google-genai"),
    ),
    "vertex": TypeFacts(aliases=("vertex-ai", "vertex_ai", "vertexai"), needs_key=False),
    "bedrock": TypeFacts(aliases=("aws", "aws-bedrock", "amazon-bedrock")),
    "azure": TypeFacts(aliases=("azure-openai", "azure_openai", "azureopenai")),
    "openrouter": TypeFacts(
        "https://openrouter.ai/api/v1", ("OPENROUTER_API_KEY",), base_url_variable="OPENROUTER_BASE_URL"
    ),
    "groq": TypeFacts("https://api.groq.com/openai/v1", ("GROQ_API_KEY",), timeout="15s"),
    "mistral": TypeFacts("https://api.mistral.ai/v1", ("MISTRAL_API_KEY",), ("mistralai",)),
    "deepseek": TypeFacts("https://api.deepseek.com", ("DEEPSEEK_API_KEY",)),
    "cohere": TypeFacts("https://api.cohere.com/v2", ("COHERE_API_KEY",)),
    "xai": TypeFacts("https://api.x.ai/v1", ("XAI_API_KEY",), ("x-ai", "grok")),
    "together": TypeFacts("https://api.together.xyz/v1", ("TOGETHER_API_KEY",), ("together-ai", "togetherai")),
    "fireworks": TypeFacts(
        "https://api.fireworks.ai/inference/v1", ("FIREWORKS_API_KEY",), ("fireworks-ai", "fireworksai")
    ),
    "ollama": TypeFacts("http://localhost:11434/v1", needs_key=False),
    "openai_responses": TypeFacts("https://api.openai.com/v1", aliases=("openai-responses", "responses")),
    "vllm": TypeFacts(needs_key=False),
    "custom": TypeFacts(aliases=("openai-compatible", "openai_compatible", "llama-cpp", "llamacpp"), needs_key=False),
}

OWN_SERVERS = frozenset({"custom", "vllm", "ollama"})
"""Types of servers of one's own: each has models of its own."""

ADDRESSLESS = frozenset({"custom", "vllm"})
"""Types whose entries must say where they are."""

ALIASES: Mapping[str, ProviderType] = {alias: name for name, facts in FACTS.items() for alias in (name, *facts.aliases)}


def canonical_type(spelling: object) -> object:
    """The type behind any accepted spelling; what is unknown is returned unchanged, for validation to refuse."""
    return ALIASES.get(spelling.lower(), spelling) if isinstance(spelling, str) else spelling
