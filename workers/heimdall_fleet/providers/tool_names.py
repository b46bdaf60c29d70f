"""Tool names and ids as a provider accepts them, and back again.

The same body always gives the same names, so a reader that sees only the call can undo what the request did.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from heimdall_fleet.providers.shapes import list_of, object_of, text_of

_FOREIGN = re.compile(r"[^a-zA-Z0-9_-]")
_DIGEST_CHARS = 8


class ToolNames:
    """The names of one body. Legal ones stay; others lose their foreign characters and end in a digest."""

    def __init__(self, body: Mapping[str, Any], longest: int) -> None:
        self._there = {name: _legal(name, longest) for name in _names(body)}
        self._here = {legal: name for name, legal in self._there.items()}

    def there(self, name: str) -> str:
        return self._there.get(name, name)

    def here(self, name: str) -> str:
        return self._here.get(name, name)


def legal_id(tool_call_id: str) -> str:
    """An id of at most 64 letters, digits, `_` and `-`: the same one for the same id, so results find their calls."""
    return _legal(tool_call_id, 64)


def _legal(name: str, longest: int) -> str:
    if name and len(name) <= longest and not _FOREIGN.search(name):
        return name
    digest = hashlib.blake2b(name.encode()).hexdigest()[:_DIGEST_CHARS]
    head = _FOREIGN.sub("_", name)[: longest - _DIGEST_CHARS - 1]
    return f"{head}_{digest}"


def _names(body: Mapping[str, Any]) -> Iterator[str]:
    tools = [*list_of(body.get("tools"))]
    for message in list_of(body.get("messages")):
        tools += list_of(object_of(message).get("tool_calls"))
    for tool in tools:
        name = text_of(object_of(object_of(tool).get("function")).get("name"))
        if name is not None:
            yield name
