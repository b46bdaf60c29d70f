"""What of a failure's words may be kept: a provider that refuses a request may repeat what stood in it.

The reply goes to who wrote the request and has every word. The audit and the log hold no prompt text, so there a message
that repeats some of it is replaced as a whole.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

WITHHELD = "the provider's words repeat the request; they are in the reply"
_PIECE = 10
_LEAST = 4
_LOOK_AT = 64 * 1024


def kept(message: str, body: Mapping[str, Any]) -> str:
    """`message`, or `WITHHELD` where it has a piece of the conversation in `body`.

    A piece is a run of 19 characters, or all of a shorter text of at least four. Of a conversation over 128 KiB only the two
    ends are looked at.
    """
    return WITHHELD if _repeats(message, body.get("messages")) else message


def _repeats(message: str, messages: Any) -> bool:
    said = orjson.dumps(messages).decode()
    if len(said) > 2 * _LOOK_AT:
        said = f"{said[:_LOOK_AT]}\n{said[-_LOOK_AT:]}"
    # A run of 19 characters holds one of these pieces as a whole, wherever it begins.
    pieces = (message[at : at + _PIECE] for at in range(0, len(message) - _PIECE + 1, _PIECE))
    return any(piece in said for piece in pieces) or any(text in message for text in _short_texts(messages))


def _short_texts(messages: Any) -> Iterator[str]:
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        parts = content if isinstance(content, list) else [{"text": content}]
        for part in parts:
            text = part.get("text") if isinstance(part, dict) else None
            if isinstance(text, str) and _LEAST <= len(text) < 2 * _PIECE:
                yield text
