"""A canonical conversation for the dialects that have turns of their own (Anthropic, Gemini, Bedrock).

What comes out obeys the strictest of them: system messages at the front stand apart and later ones join the user's
turn; roles alternate and the user begins; results of tools come first in their turn; no text is empty.
"""

import base64
import binascii
import mimetypes
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

from heimdall_fleet.providers.dialect import Action, AttemptError, AttemptFailure, Call
from heimdall_fleet.providers.shapes import list_of, object_of, text_of
from heimdall_schemas.failure import FailureCode

_SYSTEM = frozenset({"system", "developer"})
_PDF = "application/pdf"
_PLACEHOLDER = "(no message)"


@dataclass(frozen=True, slots=True)
class Text:
    """`cache` is the caller's mark that the prompt up to here is worth keeping (Anthropic's `cache_control`)."""

    text: str
    cache: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Media:
    """`kind` is image, audio or file. Either `data`, in base64, or `url`."""

    kind: str
    media_type: str
    data: str | None = None
    url: str | None = None
    name: str | None = None
    cache: dict[str, Any] | None = None

    def as_text(self) -> str:
        return base64.b64decode(self.data or "").decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolResult:
    """`name` is that of the function whose call has this id."""

    id: str
    name: str
    content: tuple[Text | Media, ...]

    @property
    def text(self) -> str:
        return "\n".join(part.text for part in self.content if isinstance(part, Text))


@dataclass(frozen=True, slots=True)
class Thought:
    """Reasoning that the same provider wrote earlier; `data` is what it encrypted. `id` is a tool call's, if any."""

    text: str | None
    signature: str | None
    data: str | None
    id: str | None


Part = Text | Media | ToolCall | ToolResult | Thought


@dataclass(slots=True)
class Turn:
    role: str
    parts: list[Part] = field(default_factory=list)


@dataclass(slots=True)
class Conversation:
    system: list[Text] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)

    @property
    def called(self) -> list[str]:
        """The functions that it has calls of."""
        return [part.name for turn in self.turns for part in turn.parts if isinstance(part, ToolCall)]


def read_conversation(call: Call, thoughts: str, *, prefill: bool = True) -> Conversation:
    """The conversation of a call. `thoughts` is the format of the reasoning that this target can be given back.

    Raises AttemptError for a content part that no provider but OpenAI knows, and for a conversation that ends with the
    beginning of the answer where the target takes no such `prefill`.
    """
    conversation = Conversation()
    names: dict[str, str] = {}
    for message in map(object_of, list_of(call.body.get("messages"))):
        role = message.get("role")
        if role in _SYSTEM and not conversation.turns:
            conversation.system += _texts(message.get("content"))
        elif role == "assistant":
            names |= dict(_named_calls(message))
            _add(conversation, "assistant", _assistant(message, call, thoughts))
        elif role == "tool":
            _add(conversation, "user", [_result(message, call, names)])
        else:
            _add(conversation, "user", _content(message.get("content"), call))
    _begin_with_the_user(conversation)
    if not prefill and conversation.turns[-1].role == "assistant":
        raise unsupported(call, "a conversation that ends with an assistant's turn")
    for turn in conversation.turns:
        turn.parts.sort(key=lambda part: not isinstance(part, ToolResult))
    return conversation


def unsupported(call: Call, what: str) -> AttemptError:
    """This target cannot be asked that. Another one may, so nothing is silently left out of a conversation."""
    message = f"{call.target.type} cannot take {what}; another provider may"
    failure = AttemptFailure(FailureCode.PROVIDER_REJECTED, Action.OTHER_PROVIDER, message, connection_only=True)
    return AttemptError(failure)


def _add(conversation: Conversation, role: str, parts: Iterable[Part]) -> None:
    parts = list(parts)
    if not parts:
        return
    if not conversation.turns or conversation.turns[-1].role != role:
        conversation.turns.append(Turn(role))
    conversation.turns[-1].parts += parts


def _begin_with_the_user(conversation: Conversation) -> None:
    turns = conversation.turns
    if not turns and conversation.system:
        turns.append(Turn("user", [*conversation.system]))
        conversation.system = []
    elif not turns or turns[0].role == "assistant":
        turns.insert(0, Turn("user", [Text(_PLACEHOLDER)]))


def _assistant(message: dict[str, Any], call: Call, thoughts: str) -> Iterator[Part]:
    yield from _thoughts(message, thoughts)
    yield from _content(message.get("content"), call)
    if text := text_of(message.get("refusal")):
        yield Text(text)
    for tool in map(object_of, list_of(message.get("tool_calls"))):
        function = object_of(tool.get("function"))
        yield ToolCall(str(tool.get("id")), str(function.get("name")), arguments_of(function.get("arguments")))


def _thoughts(message: dict[str, Any], wanted: str) -> Iterator[Thought]:
    for detail in map(object_of, list_of(message.get("reasoning_details"))):
        if detail.get("format") == wanted:
            text, signature, data = (text_of(detail.get(name)) for name in ("text", "signature", "data"))
            if signature or data:
                yield Thought(text, signature, data, text_of(detail.get("id")))


def _named_calls(message: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for tool in map(object_of, list_of(message.get("tool_calls"))):
        yield str(tool.get("id")), str(object_of(tool.get("function")).get("name"))


def _result(message: dict[str, Any], call: Call, names: dict[str, str]) -> ToolResult:
    tool_call_id = str(message.get("tool_call_id"))
    name = names.get(tool_call_id) or text_of(message.get("name")) or tool_call_id
    return ToolResult(tool_call_id, name, tuple(_content(message.get("content"), call)))


def arguments_of(arguments: Any) -> dict[str, Any]:
    """Tool arguments as an object; the empty text is none, and what is no object is kept under one name."""
    if isinstance(arguments, dict):
        return arguments
    text = text_of(arguments) or ""
    if not text.strip():
        return {}
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = text
    return value if isinstance(value, dict) else {"arguments": value}


def _texts(content: Any) -> Iterator[Text]:
    if isinstance(content, str):
        if content.strip():
            yield Text(content)
        return
    for part in map(object_of, list_of(content)):
        text = text_of(part.get("text"))
        if text and text.strip():
            yield Text(text, _cache(part))


def _content(content: Any, call: Call) -> Iterator[Text | Media]:
    if isinstance(content, str):
        yield from _texts(content)
        return
    for part in map(object_of, list_of(content)):
        kind = part.get("type")
        if kind == "text":
            yield from _texts([part])
        elif kind == "refusal":
            yield from _texts(part.get("refusal"))
        else:
            yield media_of(part, call)


def media_of(part: dict[str, Any], call: Call) -> Media:
    """An image, a sound or a file. Raises AttemptError for what is none of them."""
    kind = part.get("type")
    inner = part.get(str(kind))
    if kind == "image_url":
        url = text_of(inner) or text_of(object_of(inner).get("url"))
        if url:
            return _located(Media("image", "image/jpeg", url=url, cache=_cache(part)), call)
    audio = object_of(inner)
    if kind == "input_audio" and text_of(audio.get("data")):
        return Media("audio", f"audio/{audio.get('format') or 'wav'}", audio["data"], cache=_cache(part))
    if kind == "file" and text_of(audio.get("file_data")):
        name = text_of(audio.get("filename"))
        guessed = mimetypes.guess_type(name or "")[0] or _PDF
        data = audio["file_data"]
        if data.startswith("data:"):
            return _located(Media("file", guessed, url=data, name=name, cache=_cache(part)), call)
        return Media("file", guessed, data, name=name, cache=_cache(part))
    raise unsupported(call, f"a content part {kind!r}" + (" by its file_id" if "file_id" in audio else ""))


def _located(media: Media, call: Call) -> Media:
    """A data URL becomes its data; the type of another URL is guessed from its ending."""
    url = media.url or ""
    if not url.startswith("data:"):
        guessed = mimetypes.guess_type(url.partition("?")[0])[0]
        return Media(media.kind, guessed or media.media_type, None, url, media.name, media.cache)
    head, comma, data = url[5:].partition(",")
    media_type, *flags = head.split(";")
    try:
        content = data if "base64" in flags else base64.b64encode(unquote_to_bytes(data)).decode()
        base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        comma = ""
    if not comma:
        failure = AttemptFailure(
            FailureCode.CALLER_BAD_REQUEST,
            Action.FINAL,
            f"the data URL of a content part ({media.kind}) cannot be read",
        )
        raise AttemptError(failure)
    return Media(media.kind, media_type.lower() or media.media_type, content, None, media.name, media.cache)


def _cache(part: dict[str, Any]) -> dict[str, Any] | None:
    control = part.get("cache_control")
    if isinstance(control, dict):
        return control
    return {"type": "ephemeral"} if part.get("prompt_cache_breakpoint") else None
