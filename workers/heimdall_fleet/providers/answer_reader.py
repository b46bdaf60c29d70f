"""What a 200 brings to a call that asked for a stream: the stream, or one whole answer.

Many servers ignore the wish for a stream, for some of their models or while tools are on. That is an answer all the same.
"""

from typing import Any

from heimdall_fleet.providers.dialect import Call, Dialect, StreamReader

_BRACKETS = (b"{", b"[", b"<")


class AnswerReader:
    """A `StreamReader` for either. The first byte that is no white space tells which: JSON, and the page of a proxy, begin
    with a bracket, server-sent events with a name or a colon, Bedrock's frames with 0 or 1. The content type does not:
    some servers name the wrong one.

    `whole`: what came is no stream, so there are no chunks of it.
    """

    def __init__(self, dialect: Dialect, call: Call) -> None:
        self.whole = False
        self._dialect = dialect
        self._call = call
        self._stream: StreamReader | None = None
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The canonical `chat.completion.chunk`s that these bytes complete. Raises AttemptError."""
        if self._stream is not None:
            return self._stream.feed(data)
        self._parts.append(data)
        first = data.lstrip()[:1]
        if self.whole or not first:
            return []
        if first in _BRACKETS:
            self.whole = True
            return []
        self._stream = self._dialect.reader(self._call)
        before, self._parts = self._parts, []
        return self._stream.feed(b"".join(before))

    def finish(self) -> dict[str, Any]:
        """The whole `chat.completion`. Raises AttemptError."""
        if self.whole:
            return self._dialect.from_wire(b"".join(self._parts), self._call)
        return (self._stream or self._dialect.reader(self._call)).finish()


def chunk_of(completion: dict[str, Any]) -> dict[str, Any]:
    """A whole answer as the one `chat.completion.chunk` that says it all."""
    choices = [
        {name: value for name, value in choice.items() if name != "message"} | {"delta": _delta_of(choice["message"])}
        for choice in completion["choices"]
    ]
    return {**completion, "object": "chat.completion.chunk", "choices": choices}


def _delta_of(message: dict[str, Any]) -> dict[str, Any]:
    delta = {name: value for name, value in message.items() if value is not None}
    if "tool_calls" in delta:
        delta["tool_calls"] = [{"index": index, **tool} for index, tool in enumerate(delta["tool_calls"])]
    return delta
