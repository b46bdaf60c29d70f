"""What the decision record says of the question itself: a keyed hash, and the words only where a tenant allows it."""

import hashlib
import hmac
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

KEPT_CHARS = 8192
"""Of a long question, half from its head and half from its tail: an audit record stays small."""

LOOKED_AT = 4096
"""Messages, and parts of one, that are looked at from the end: a hostile body costs no more."""

DIGEST_CHARS = 32


@dataclass(frozen=True, slots=True)
class Questions:
    """`secret` None: no hash. `text_of`: the tenants whose last question is kept in words."""

    secret: bytes | None = None
    text_of: frozenset[str] = frozenset()

    @property
    def any(self) -> bool:
        """Whether anything is said of any question."""
        return self.secret is not None or bool(self.text_of)

    def fields(self, body: Mapping[str, Any], tenant: str | None) -> dict[str, str]:
        """`question` and `text` for a decision record, each only where it may stand there and there is one."""
        keeps_text = tenant is not None and tenant in self.text_of
        if self.secret is None and not keeps_text:
            return {}
        text = last_question(body)
        said = {}
        if self.secret is not None and (plain := normalised(text)):
            said["question"] = hmac.new(self.secret, plain.encode(), hashlib.sha256).hexdigest()[:DIGEST_CHARS]
        if keeps_text and text:
            said["text"] = text
        return said


def last_question(body: Mapping[str, Any]) -> str:
    """The text of the last user message, clipped; empty where there is none."""
    messages = body.get("messages")
    for message in islice(reversed(messages), LOOKED_AT) if isinstance(messages, list) else ():
        if isinstance(message, Mapping) and message.get("role") == "user" and (text := _text(message.get("content"))):
            return text if len(text) <= KEPT_CHARS else text[: KEPT_CHARS // 2] + text[-KEPT_CHARS // 2 :]
    return ""


def normalised(text: str) -> str:
    """The same for a question asked again with other capitals, spaces or forms of a character."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    parts: Sequence[Any] = content if isinstance(content, list) else ()
    texts = (part.get("text") for part in islice(parts, LOOKED_AT) if isinstance(part, Mapping))
    return "\n".join(text for text in texts if isinstance(text, str))
