"""What a decision needs to know of one chat body, read in bounded time.

A body may hold ten megabytes of one character or a hundred thousand messages; it has been validated as an
OpenAI Chat Completions body, yet nothing here relies on more than its being a mapping.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray

SCAN_CHARS = 4096
"""Characters kept from the head, and again from the tail, of the text that is scanned."""

SHORT_ASK_CHARS = 64
"""An ask shorter than this is a follow-up: the user turn before it is scanned with it."""

WALKED_MESSAGES = 4096
"""Messages read one by one; sizes of the others are extrapolated from these."""

WALKED_PARTS = 4096
"""Content parts read in one message; the size of the others is extrapolated too."""

_MOST_TOKENS = 1 << 53
"""More output than any window holds counts as so much, which a float has exactly."""


class Conversation(NamedTuple):
    """The shape of one chat body and the text that says how hard it is.

    `text` is what the user asks last (with the user turn before it when that is very short; without any user turn
    the last text there is), clipped to head and tail; all `_chars` are lengths before clipping. `attachment_count`:
    audio and files. `truncated` says that something was not read.
    """

    text: str
    ask_chars: int
    user_chars: int
    system_chars: int
    assistant_chars: int
    tool_chars: int
    message_count: int
    user_turns: int
    assistant_turns: int
    tool_turns: int
    tool_definition_count: int
    tool_definition_chars: int
    tool_call_count: int
    image_count: int
    attachment_count: int
    structured_output: bool
    json_schema: bool
    max_tokens: int
    truncated: bool


def shapes_of(conversations: Sequence[Conversation]) -> dict[str, NDArray[np.float64]]:
    """(n,) numbers by the name of the field of `Conversation`; that of `text` is its length."""
    fields = Conversation._fields
    flat = chain.from_iterable((len(each.text), *each[1:]) for each in conversations)
    table = np.fromiter(flat, np.float64, len(conversations) * len(fields)).reshape(-1, len(fields))
    return dict(zip(fields, np.ascontiguousarray(table.T), strict=True))


@dataclass(slots=True)
class _Tally:
    """`chars` and `turns` by kind of message; `asks`: what the user said, in order; `other_text`: the last of others."""

    chars: list[int]
    turns: list[int]
    asks: list[str]
    tool_calls: int = 0
    images: int = 0
    attachments: int = 0
    truncated: bool = False
    other_text: str = ""


_USER, _SYSTEM, _ASSISTANT, _TOOL = range(4)
_SHAPING = frozenset({"tools", "functions", "response_format", "max_completion_tokens", "max_tokens"})
"""What a body may hold beside its messages that counts; most have none of it."""

_ROLES = {
    "user": _USER,
    "system": _SYSTEM,
    "developer": _SYSTEM,
    "assistant": _ASSISTANT,
    "tool": _TOOL,
    "function": _TOOL,
}
_IMAGE_PARTS = frozenset({"image_url", "input_image", "image"})
_ATTACHED_PARTS = frozenset({"input_audio", "audio_url", "audio", "file", "input_file", "document", "video_url"})


def read_conversation(body: Mapping[str, Any]) -> Conversation:
    """Read one OpenAI chat body; never raises, whatever its values are."""
    messages = _list(body.get("messages"))
    tally = _Tally([0] * 4, [0] * 4, [])
    walked = _walked(messages)
    for message in walked:
        if _is_mapping(message):
            _count(message, tally)
    if len(walked) < len(messages):
        tally.truncated = True
        _extrapolate(tally, len(messages) / len(walked))
    return _conversation(body, len(messages), tally)


def _conversation(body: Mapping[str, Any], message_count: int, tally: _Tally) -> Conversation:
    text, ask_chars = _scanned(tally.asks or [tally.other_text])
    tools: Sequence[Any] = ()
    structured, schema, max_tokens = False, False, 0
    if not _SHAPING.isdisjoint(body):
        tools = _list(body.get("tools")) or _list(body.get("functions"))
        structured, schema = _structured(body.get("response_format"))
        max_tokens = output_limit(body)
    user, system, assistant, tool = tally.chars
    turns = tally.turns
    return Conversation(  # by place: by name it takes twice as long
        text,
        ask_chars,
        user,
        system,
        assistant,
        tool,
        message_count,
        turns[_USER],
        turns[_ASSISTANT],
        turns[_TOOL],
        len(tools),
        sum(map(_json_chars, tools[:WALKED_PARTS])) if tools else 0,
        tally.tool_calls,
        tally.images,
        tally.attachments,
        structured,
        schema,
        max_tokens,
        tally.truncated or ask_chars > len(text),
    )


def _count(message: Mapping[str, Any], tally: _Tally) -> None:
    role = message.get("role")
    kind = _ROLES.get(role, _USER) if isinstance(role, str) else _USER
    tally.turns[kind] += 1
    content = message.get("content")
    if isinstance(content, str):
        tally.chars[kind] += len(content)
        _keep(content, kind, tally)
    elif content is not None:
        _count_parts(_list(content), kind, tally)
    calls = message.get("tool_calls")
    if calls:
        listed = _list(calls)
        tally.tool_calls += len(listed)
        tally.chars[kind] += sum(_json_chars(call) for call in listed[:WALKED_PARTS])


def _count_parts(parts: Sequence[Any], kind: int, tally: _Tally) -> None:
    texts: list[str] = []
    media: list[str] = []
    for part in parts[:WALKED_PARTS]:
        if isinstance(part, str):
            texts.append(part)
        elif _is_mapping(part):
            text, medium = part.get("text"), _medium(part.get("type"))
            if medium:
                media.append(medium)
            if isinstance(text, str) and (text or not medium):
                texts.append(text)
    chars, images, attachments = (
        sum(map(len, texts)),
        sum(each in _IMAGE_PARTS for each in media),
        sum(each in _ATTACHED_PARTS for each in media),
    )
    if len(parts) > WALKED_PARTS:
        tally.truncated = True
        factor = len(parts) / WALKED_PARTS
        chars, images, attachments = round(chars * factor), round(images * factor), round(attachments * factor)
    tally.chars[kind] += chars
    tally.images += images
    tally.attachments += attachments
    if texts:
        _keep("\n".join(texts), kind, tally)


def _medium(kind: Any) -> str | None:
    """The type of a part that is no text, also where a serializer wrote an empty `text` beside the picture."""
    return kind if isinstance(kind, str) and (kind in _IMAGE_PARTS or kind in _ATTACHED_PARTS) else None


def _keep(text: str, kind: int, tally: _Tally) -> None:
    if kind == _USER:
        tally.asks.append(text)
    else:
        tally.other_text = text


def _extrapolate(tally: _Tally, factor: float) -> None:
    for sums in (tally.chars, tally.turns):
        sums[:] = [round(value * factor) for value in sums]


def _walked(messages: Sequence[Any]) -> Sequence[Any]:
    if len(messages) <= WALKED_MESSAGES:
        return messages
    half = WALKED_MESSAGES // 2
    return [*messages[:half], *messages[-half:]]


def _scanned(asks: Sequence[str]) -> tuple[str, int]:
    """The clipped text to scan and the length it had; a short follow-up carries the turn before it."""
    last = asks[-1]
    if len(last) >= SHORT_ASK_CHARS or len(asks) == 1:
        return _clip(last), len(last)
    before = asks[-2]
    return f"{_clip(before, SCAN_CHARS - SHORT_ASK_CHARS)}\n{last}", len(before) + 1 + len(last)


def _clip(text: str, keep: int = SCAN_CHARS) -> str:
    if len(text) <= 2 * keep:
        return text
    return text[:keep] + text[-keep:]


def _json_chars(value: Any) -> int:
    """About as many characters as `value` has as JSON, without writing it; deep or huge values stop early."""
    total = 0
    for count, size in enumerate(_sizes(value)):
        total += size
        if count >= WALKED_PARTS:
            break
    return total


def _sizes(value: Any) -> Iterator[int]:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield len(item) + 2
        elif _is_mapping(item):
            yield 2 + sum(len(key) + 4 for key in item if isinstance(key, str))
            pending.extend(item.values())
        elif isinstance(item, (list, tuple)):
            yield 2 + len(item)
            pending.extend(item)
        else:
            yield 4


def _structured(response_format: Any) -> tuple[bool, bool]:
    """Whether JSON is asked for, and whether by a schema."""
    if response_format is None or not _is_mapping(response_format):
        return False, False
    kind = response_format.get("type")
    return kind in ("json_schema", "json_object"), kind == "json_schema"


def _is_mapping(value: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether it is an object; the look at the exact type spares most values a dear look at an abstract one."""
    return isinstance(value, dict) or (value is not None and isinstance(value, Mapping))


def _list(value: Any) -> Sequence[Any]:
    return value if value is not None and isinstance(value, (list, tuple)) else ()


def output_limit(body: Mapping[str, Any]) -> int:
    """Tokens of output that the caller allows, 0 where the body does not say."""
    return _positive_int(body.get("max_completion_tokens")) or _positive_int(body.get("max_tokens"))


def _positive_int(value: Any) -> int:
    return min(value, _MOST_TOKENS) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
