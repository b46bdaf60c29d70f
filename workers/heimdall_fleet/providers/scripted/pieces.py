"""What the wire formats of the scripted providers share."""

from collections.abc import Iterator, Mapping
from typing import Any

_WORDS_PER_PIECE = 4


def parts_of(text: str) -> Iterator[tuple[str, int]]:
    """The text in pieces of four words, each with its number of words: the tokens it stands for."""
    words = text.split(" ")
    for start in range(0, len(words), _WORDS_PER_PIECE):
        part = words[start : start + _WORDS_PER_PIECE]
        yield (" " if start else "") + " ".join(part), len(part)


def texts_of(content: Any) -> list[str]:
    """The texts in a content that is a string, or a list of parts that may have a `text`."""
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content or () if isinstance(part.get("text"), str)]


def bearer_of(headers: Mapping[bytes, bytes]) -> str | None:
    value = headers.get(b"authorization", b"").decode("latin-1")
    return value.removeprefix("Bearer ") or None
