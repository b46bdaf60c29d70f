"""The scripted side of Anthropic's Messages API."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from heimdall_fleet.providers.scripted.answers import Asked, Scripted
from heimdall_fleet.providers.scripted.pieces import bearer_of, parts_of, texts_of

_ERROR_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    503: "overloaded_error",
    529: "overloaded_error",
}
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


class AnthropicWire:
    stream_type = b"text/event-stream"

    def serves(self, path: str) -> bool:
        return path.endswith("/messages")

    def key(self, headers: Mapping[bytes, bytes]) -> str | None:
        value = headers.get(b"x-api-key")
        return value.decode("latin-1") if value else bearer_of(headers)

    def asked(self, provider: str, path: str, body: dict[str, Any]) -> Asked:
        return asked_of_claude(provider, body["model"], body, stream=bool(body.get("stream")))

    def whole(self, asked: Asked, answer: Scripted, now_s: float) -> bytes:
        block: dict[str, Any] = {"type": "text", "text": answer.text}
        if answer.arguments is not None:
            block = {**_tool_use(asked, answer), "input": orjson.loads(answer.arguments)}
        stop_reason = _STOP_REASONS[answer.finish_reason]
        message = {**_message(asked, answer), "content": [*_thoughts(answer), block], "stop_reason": stop_reason}
        return orjson.dumps({**message, "usage": _usage(answer, answer.completion_tokens)})

    def pieces(self, asked: Asked, answer: Scripted, now_s: float) -> Iterator[tuple[bytes, int]]:
        message = {**_message(asked, answer), "content": [], "stop_reason": None, "usage": _usage(answer, 1)}
        yield _event({"type": "message_start", "message": message}) + _event({"type": "ping"}), 0
        thoughts = _thoughts(answer)
        if thoughts:
            yield from _thought_events(thoughts[0])
        index = len(thoughts)
        block: dict[str, Any] = {"type": "text", "text": ""}
        if answer.arguments is not None:
            block = {**_tool_use(asked, answer), "input": {}}
        yield _event({"type": "content_block_start", "index": index, "content_block": block}), 0
        for part, tokens in parts_of(answer.text if answer.arguments is None else answer.arguments):
            delta = {"type": "text_delta", "text": part}
            if answer.arguments is not None:
                delta = {"type": "input_json_delta", "partial_json": part}
            yield _event({"type": "content_block_delta", "index": index, "delta": delta}), tokens
        yield _event({"type": "content_block_stop", "index": index}), 0
        change = {"stop_reason": _STOP_REASONS[answer.finish_reason], "stop_sequence": None}
        usage = _usage(answer, answer.completion_tokens)
        yield _event({"type": "message_delta", "delta": change, "usage": usage}), 0
        yield _event({"type": "message_stop"}), 0

    def error(self, status: int, message: str) -> bytes:
        error = {"type": _ERROR_TYPES.get(status, "api_error"), "message": message}
        return orjson.dumps({"type": "error", "error": error, "request_id": "req_scripted"})

    def error_inside(self, message: str, *, stream: bool) -> bytes:
        body = self.error(500, message)
        return b"event: error\ndata: " + body + b"\n\n" if stream else body


def asked_of_claude(provider: str, model: str, body: dict[str, Any], *, stream: bool) -> Asked:
    """What a Messages body asks for, on whichever host. Raises KeyError where a required field is missing."""
    choice = body.get("tool_choice") or {}
    tool = choice.get("name")
    if choice.get("type") == "any":
        tool = body["tools"][0]["name"]
    config = body.get("output_config") or {}
    thinks = (body.get("thinking") or {}).get("type") in {"enabled", "adaptive"}
    contents = [body.get("system"), *(message["content"] for message in body["messages"])]
    return Asked(
        provider=provider,
        model=model,
        stream=stream,
        texts=tuple(text for content in contents for text in texts_of(content)),
        max_tokens=int(body["max_tokens"]),
        effort=config.get("effort", "medium") if thinks else None,
        tool=tool,
        json_wanted="format" in config,
    )


def _message(asked: Asked, answer: Scripted) -> dict[str, Any]:
    return {
        "id": f"msg_{answer.id}",
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "stop_sequence": None,
        "stop_details": None,
    }


def _tool_use(asked: Asked, answer: Scripted) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{answer.id}", "name": asked.tool}


def _thoughts(answer: Scripted) -> list[dict[str, Any]]:
    if not answer.reasoning_tokens:
        return []
    return [{"type": "thinking", "thinking": "Let me think.", "signature": f"signature-{answer.id}"}]


def _thought_events(thought: dict[str, Any]) -> Iterator[tuple[bytes, int]]:
    opened = {"type": "thinking", "thinking": "", "signature": ""}
    yield _event({"type": "content_block_start", "index": 0, "content_block": opened}), 0
    for kind, name in (("thinking_delta", "thinking"), ("signature_delta", "signature")):
        delta = {"type": kind, name: thought[name]}
        yield _event({"type": "content_block_delta", "index": 0, "delta": delta}), 0
    yield _event({"type": "content_block_stop", "index": 0}), 0


def _usage(answer: Scripted, output_tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": answer.prompt_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output_tokens,
        "output_tokens_details": {"thinking_tokens": answer.reasoning_tokens},
    }


def _event(event: dict[str, Any]) -> bytes:
    return b"event: " + str(event["type"]).encode() + b"\ndata: " + orjson.dumps(event) + b"\n\n"
