"""What a decision needs to know of one chat body, read in bounded time.

A body may hold ten megabytes of one character or a hundred thousand messages; it has been validated as an
OpenAI Chat Completions body, yet nothing here relies on more than its being a mapping.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard

SCAN_CHARS = 4096
"""Characters kept from the head, and again from the tail, of the text that is scanned."""

SHORT_ASK_CHARS = 64
"""An ask shorter than this is a follow-up: the user turn before it is scanned with it."""

WALKED_MESSAGES = 4096
"""Messages read one by one; sizes of the others are extrapolated from these."""

WALKED_PARTS = 4096
"""Content parts read in one message."""


class Conversation(NamedTuple):
    """The shape of one chat body and the text that says how hard it is.

    `text` is what the user asks last (with the user turn before it when that is very short; without any user turn
    the last text there is), clipped to head and tail; all `_chars` are lengths before clipping. `truncated` says that
    something was not read.
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
    structured_output: bool
    max_tokens: int
    truncated: bool

    @property
    def total_chars(self) -> int:
        """Characters of all messages and tool definitions."""
        return self.user_chars + self.system_chars + self.assistant_chars + self.tool_chars + self.tool_definition_chars


@dataclass(slots=True)
class _Tally:
    chars: dict[str, int]
    turns: dict[str, int]
    tool_calls: int = 0
    images: int = 0
    truncated: bool = False
    other_text: str = ""


_ROLES = {
    "user": "user",
    "system": "system",
    "developer": "system",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_NO_KINDS = dict.fromkeys(_ROLES.values(), 0)
_IMAGE_PARTS = frozenset({"image_url", "input_image", "image"})


def read_conversation(body: Mapping[str, Any]) -> Conversation:
    """Read one OpenAI chat body; never raises, whatever its values are."""
    messages = _list(body.get("messages"))
    tally = _Tally({**_NO_KINDS}, {**_NO_KINDS})
    asks: list[str] = []
    walked = _walked(messages)
    for message in walked:
        if _is_mapping(message):
            _count(message, tally, asks)
    if len(walked) < len(messages):
        tally.truncated = True
        _extrapolate(tally, len(messages) / len(walked))
    return _conversation(body, len(messages), tally, asks)


def _conversation(body: Mapping[str, Any], message_count: int, tally: _Tally, asks: Sequence[str]) -> Conversation:
    text, ask_chars = _scanned(asks or [tally.other_text])
    tools = _list(body.get("tools")) or _list(body.get("functions"))
    chars, turns = tally.chars, tally.turns
    return Conversation(
        text=text,
        ask_chars=ask_chars,
        user_chars=chars["user"],
        system_chars=chars["system"],
        assistant_chars=chars["assistant"],
        tool_chars=chars["tool"],
        message_count=message_count,
        user_turns=turns["user"],
        assistant_turns=turns["assistant"],
        tool_turns=turns["tool"],
        tool_definition_count=len(tools),
        tool_definition_chars=sum(map(_json_chars, tools[:WALKED_PARTS])) if tools else 0,
        tool_call_count=tally.tool_calls,
        image_count=tally.images,
        structured_output=_is_structured(body.get("response_format")),
        max_tokens=_positive_int(body.get("max_completion_tokens")) or _positive_int(body.get("max_tokens")),
        truncated=tally.truncated or ask_chars > len(text),
    )


def _count(message: Mapping[str, Any], tally: _Tally, asks: list[str]) -> None:
    role = message.get("role")
    kind = _ROLES.get(role, "user") if isinstance(role, str) else "user"
    tally.turns[kind] += 1
    content = message.get("content")
    if isinstance(content, str):
        tally.chars[kind] += len(content)
        _keep(content, kind, tally, asks)
    elif content is not None:
        _count_parts(_list(content), kind, tally, asks)
    calls = message.get("tool_calls")
    if calls:
        listed = _list(calls)
        tally.tool_calls += len(listed)
        tally.chars[kind] += sum(_json_chars(call) for call in listed[:WALKED_PARTS])


def _count_parts(parts: Sequence[Any], kind: str, tally: _Tally, asks: list[str]) -> None:
    texts: list[str] = []
    tally.truncated |= len(parts) > WALKED_PARTS
    for part in parts[:WALKED_PARTS]:
        if isinstance(part, str):
            texts.append(part)
        elif _is_mapping(part):
            text = part.get("text")
            if isinstance(text, str):
                texts.append(text)
            elif isinstance(part.get("type"), str) and part["type"] in _IMAGE_PARTS:
                tally.images += 1
    tally.chars[kind] += sum(map(len, texts))
    if texts:
        _keep("\n".join(texts), kind, tally, asks)


def _keep(text: str, kind: str, tally: _Tally, asks: list[str]) -> None:
    if kind == "user":
        asks.append(text)
    else:
        tally.other_text = text


def _extrapolate(tally: _Tally, factor: float) -> None:
    for sums in (tally.chars, tally.turns):
        for kind, value in sums.items():
            sums[kind] = round(value * factor)


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


def _is_structured(response_format: Any) -> bool:
    return _is_mapping(response_format) and response_format.get("type") in ("json_schema", "json_object")


def _is_mapping(value: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether it is an object; the look at the exact type spares most values a dear look at an abstract one."""
    return isinstance(value, dict) or (value is not None and isinstance(value, Mapping))


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _positive_int(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
