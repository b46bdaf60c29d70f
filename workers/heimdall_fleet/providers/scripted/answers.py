"""Answers that follow from the request alone: the same conversation and model always get the same words."""

import zlib
from dataclasses import dataclass

import orjson

from heimdall_fleet.providers.scripted.fate import draw_for
from heimdall_fleet.providers.scripted.plan import Spread

CHARS_PER_TOKEN = 4
_TOKENS_PER_MESSAGE = 4
_REASONING_SHARE = {"none": 0.0, "minimal": 0.1, "low": 0.5, "medium": 1.5, "high": 4.0, "xhigh": 8.0, "max": 12.0}
_SENTENCE = (
    "the result follows from a short argument and we can check it step by step with an example where each value is "
    "known so first take the input then compare both sides keep what is equal and move the rest until only one term "
    "remains this shows that the answer holds for every case in question because nothing else was assumed here"
)
_VOCABULARY = _SENTENCE.split()
_WORDS = [_VOCABULARY[(i * i + 3 * i) % 61 % len(_VOCABULARY)] for i in range(8192)]
_TEXT = " ".join(_WORDS)
_STARTS = [0]
for _word in _WORDS:
    _STARTS.append(_STARTS[-1] + len(_word) + 1)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for, whatever its wire format. `tool` is a function that must be called."""

    provider: str
    model: str
    stream: bool
    texts: tuple[str, ...]
    max_tokens: int | None = None
    effort: str | None = None
    tool: str | None = None
    json_wanted: bool = False


@dataclass(frozen=True, slots=True)
class Scripted:
    """An answer in words; `arguments` instead of text when a tool is called."""

    id: str
    text: str
    arguments: str | None
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int


def answer_to(asked: Asked, length: Spread) -> Scripted:
    """The answer: words by the conversation, their number by conversation and model, usage by the characters."""
    digest = zlib.crc32("\n".join(asked.texts).encode())
    wanted = length.median
    if length.sigma:
        wanted = length.at(draw_for(digest, asked.model)[0])
    tokens = max(1, round(wanted))
    finish_reason = "stop"
    if asked.max_tokens is not None and tokens > asked.max_tokens:
        tokens, finish_reason = asked.max_tokens, "length"
    text = words(digest, tokens)
    arguments = None
    if asked.tool:
        arguments, finish_reason = orjson.dumps({"query": text}).decode(), "tool_calls"
    elif asked.json_wanted:
        text = orjson.dumps({"answer": text}).decode()
    reasoning = round(tokens * _REASONING_SHARE.get(asked.effort, 0.0)) if asked.effort else 0
    return Scripted(
        id=f"{digest:08x}",
        text="" if asked.tool else text,
        arguments=arguments,
        finish_reason=finish_reason,
        prompt_tokens=prompt_tokens(asked.texts),
        completion_tokens=tokens + reasoning,
        reasoning_tokens=reasoning,
    )


def words(digest: int, count: int) -> str:
    """`count` words, taken from a place in a fixed text that `digest` picks."""
    first = digest % 4096
    if first + count <= len(_WORDS):
        return _TEXT[_STARTS[first] : _STARTS[first + count] - 1]
    return " ".join(_WORDS[(first + i) % len(_WORDS)] for i in range(count))


def prompt_tokens(texts: tuple[str, ...]) -> int:
    return max(1, sum(map(len, texts)) // CHARS_PER_TOKEN + _TOKENS_PER_MESSAGE * len(texts))
