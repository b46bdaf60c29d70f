"""The scripted side of OpenAI's Chat Completions."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from heimdall_fleet.providers.scripted.answers import Asked, Scripted

_WORDS_PER_CHUNK = 4
_ERROR_CODES: Mapping[int, tuple[str, str | None]] = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}


class OpenAIWire:
    stream_type = b"text/event-stream"

    def serves(self, path: str) -> bool:
        return f"/{path}".endswith("/chat/completions")

    def key(self, headers: Mapping[bytes, bytes]) -> str | None:
        value = headers.get(b"authorization") or headers.get(b"api-key")
        return value.decode("latin-1").removeprefix("Bearer ") if value else None

    def asked(self, provider: str, path: str, body: dict[str, Any]) -> Asked:
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        return Asked(
            provider=provider,
            model=body["model"],
            stream=bool(body.get("stream")),
            texts=tuple(text for message in body["messages"] for text in _texts(message)),
            max_tokens=int(limit) if limit else None,
            effort=body.get("reasoning_effort"),
            tool=_forced_tool(body),
            json_wanted=(body.get("response_format") or {}).get("type") in {"json_object", "json_schema"},
        )

    def whole(self, asked: Asked, answer: Scripted, now_s: float) -> bytes:
        message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None, "annotations": []}
        if answer.arguments is not None:
            message |= {"content": None, "tool_calls": [_tool_call(asked, answer, answer.arguments)]}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
        completion = _head(asked, answer, now_s, "chat.completion")
        return orjson.dumps({**completion, "choices": [choice], "usage": _usage(answer)})

    def pieces(self, asked: Asked, answer: Scripted, now_s: float) -> Iterator[tuple[bytes, int]]:
        head = _head(asked, answer, now_s, "chat.completion.chunk")
        yield _event(head, {"role": "assistant", "content": ""}), 0
        if answer.arguments is not None:
            yield _event(head, {"tool_calls": [{"index": 0, **_tool_call(asked, answer, "")}]}), 0
            for part, tokens in _parts(answer.arguments):
                yield _event(head, {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}), tokens
        else:
            for part, tokens in _parts(answer.text):
                yield _event(head, {"content": part}), tokens
        yield _event(head, {}, answer.finish_reason), 0
        usage = orjson.dumps({**head, "choices": [], "usage": _usage(answer)})
        yield b"data: " + usage + b"\n\ndata: [DONE]\n\n", 0

    def error(self, status: int, message: str) -> bytes:
        kind, code = _ERROR_CODES.get(status, ("server_error", None))
        return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})

    def error_inside(self, message: str, *, stream: bool) -> bytes:
        body = self.error(500, message)
        return b"data: " + body + b"\n\n" if stream else body


def _texts(message: dict[str, Any]) -> list[str]:
    content = message.get("content")
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content or () if part.get("type") == "text"]


def _forced_tool(body: dict[str, Any]) -> str | None:
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        return str(choice["function"]["name"])
    if choice == "required" and body.get("tools"):
        return str(body["tools"][0]["function"]["name"])
    return None


def _head(asked: Asked, answer: Scripted, now_s: float, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{answer.id}", "object": kind, "created": int(now_s), "model": asked.model}


def _event(head: dict[str, Any], delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return b"data: " + orjson.dumps({**head, "choices": [choice], "usage": None}) + b"\n\n"


def _tool_call(asked: Asked, answer: Scripted, arguments: str) -> dict[str, Any]:
    function = {"name": asked.tool, "arguments": arguments}
    return {"id": f"call_{answer.id}", "type": "function", "function": function}


def _parts(text: str) -> Iterator[tuple[str, int]]:
    words = text.split(" ")
    for start in range(0, len(words), _WORDS_PER_CHUNK):
        part = words[start : start + _WORDS_PER_CHUNK]
        yield (" " if start else "") + " ".join(part), len(part)


def _usage(answer: Scripted) -> dict[str, Any]:
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
    }
