"""How the servers that speak OpenAI's Chat Completions differ, as data.

A new compatible provider is one row here, or `type: custom` with a `base_url` and no row at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


LADDER = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
SAMPLING = _names("temperature top_p presence_penalty frequency_penalty logprobs top_logprobs logit_bias")
# Parameters of single servers. Where a target does not list one among its extras, it is dropped by name.
EXTENSIONS = _names(
    """top_k min_p top_a repetition_penalty provider models route transforms plugins reasoning include_reasoning
    reasoning_format thinking safe_prompt prompt_mode random_seed search_parameters chat_template_kwargs
    guided_json guided_regex guided_choice think"""
)
_OPENAI_ONLY = _names(
    """store metadata prediction modalities audio web_search_options service_tier prompt_cache_key
    prompt_cache_retention safety_identifier verbosity"""
)
_REPLAYED = frozenset({"reasoning_content", "reasoning", "reasoning_details"})


@dataclass(frozen=True, slots=True)
class Profile:
    """One server's dialect of Chat Completions.

    limit             name of the output limit: `max_tokens`, `max_completion_tokens`, or `by_model` (the new name for
                      reasoning models)
    drops, extras     parameters it refuses; those of EXTENSIONS it takes
    takes             when not None: it refuses every parameter outside this list
    reasoning_drops   what its reasoning models refuse
    efforts           the reasoning efforts it takes; another one becomes the nearest
    effort_style      `reasoning_effort`; `switch` (thinking on or off); `none`
    message_drops     fields of a message that it refuses
    strict_schema     False: no `strict`, `$id`, `$schema` in a tool
    """

    base_url: str | None = None
    auth: str = "bearer"
    limit: str = "max_tokens"
    drops: frozenset[str] = frozenset()
    extras: frozenset[str] = frozenset()
    takes: frozenset[str] | None = None
    renames: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    reasoning_drops: frozenset[str] = frozenset()
    efforts: tuple[str, ...] = LADDER
    effort_style: str = "reasoning_effort"
    message_drops: frozenset[str] = _REPLAYED
    strict_schema: bool = True
    short_tool_ids: bool = False
    json_schema: bool = True
    stream_usage: bool = True


_MISTRAL_TAKES = _names(
    """messages temperature top_p max_tokens stop seed metadata response_format tools tool_choice
    presence_penalty frequency_penalty n prediction parallel_tool_calls prompt_mode reasoning_effort
    safe_prompt logprobs top_logprobs top_k"""
)

PROFILES: Mapping[str, Profile] = {
    "openai": Profile(
        base_url="https://api.openai.com/v1",
        limit="max_completion_tokens",
        reasoning_drops=SAMPLING,
    ),
    "azure": Profile(auth="api-key", limit="by_model", reasoning_drops=SAMPLING),
    "groq": Profile(
        base_url="https://api.groq.com/openai/v1",
        limit="max_completion_tokens",
        drops=_OPENAI_ONLY - {"service_tier"} | {"logprobs", "top_logprobs", "logit_bias", "n"},
        extras=frozenset({"reasoning_format", "include_reasoning"}),
        efforts=("none", "low", "medium", "high"),
        message_drops=_REPLAYED | {"name", "refusal"},
    ),
    "openrouter": Profile(
        base_url="https://openrouter.ai/api/v1",
        drops=_OPENAI_ONLY - {"prediction", "modalities", "audio", "web_search_options", "verbosity", "service_tier"},
        extras=EXTENSIONS - {"random_seed", "safe_prompt", "prompt_mode", "think"},
        message_drops=frozenset(),
    ),
    "mistral": Profile(
        base_url="https://api.mistral.ai/v1",
        takes=_MISTRAL_TAKES,
        extras=frozenset({"prompt_mode", "safe_prompt", "top_k"}),
        renames=MappingProxyType({"seed": "random_seed"}),
        message_drops=_REPLAYED | {"name", "refusal"},
        strict_schema=False,
        short_tool_ids=True,
        stream_usage=False,
    ),
    "deepseek": Profile(
        base_url="https://api.deepseek.com",
        drops=_OPENAI_ONLY | {"logit_bias", "n", "seed", "parallel_tool_calls", "user"},
        extras=frozenset({"thinking"}),
        reasoning_drops=frozenset({"logprobs", "top_logprobs"}),
        effort_style="switch",
        message_drops=frozenset({"reasoning", "reasoning_details"}),
        json_schema=False,
    ),
    "xai": Profile(
        base_url="https://api.x.ai/v1",
        limit="max_completion_tokens",
        drops=_OPENAI_ONLY | {"logit_bias"},
        extras=frozenset({"search_parameters"}),
        reasoning_drops=frozenset({"presence_penalty", "frequency_penalty", "stop"}),
        efforts=("low", "high"),
    ),
    "together": Profile(
        base_url="https://api.together.xyz/v1",
        drops=_OPENAI_ONLY | {"parallel_tool_calls"},
        extras=frozenset({"top_k", "min_p", "repetition_penalty", "chat_template_kwargs"}),
        efforts=("low", "medium", "high"),
    ),
    "fireworks": Profile(
        base_url="https://api.fireworks.ai/inference/v1",
        drops=_OPENAI_ONLY,
        extras=frozenset({"top_k", "min_p", "repetition_penalty", "thinking"}),
        efforts=("none", "low", "medium", "high"),
    ),
    "ollama": Profile(
        base_url="http://localhost:11434/v1",
        drops=_OPENAI_ONLY | {"tool_choice", "parallel_tool_calls", "logit_bias", "n", "user"},
        efforts=("none", "low", "medium", "high"),
    ),
    "vllm": Profile(drops=_OPENAI_ONLY, extras=EXTENSIONS, message_drops=frozenset()),
    "custom": Profile(extras=EXTENSIONS, message_drops=frozenset()),
}
