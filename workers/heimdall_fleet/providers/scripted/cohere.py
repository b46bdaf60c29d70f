"""The scripted side of Cohere's chat, version 2."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from heimdall_fleet.providers.scripted.answers import Asked, Scripted
from heimdall_fleet.providers.scripted.pieces import bearer_of, parts_of, texts_of

_FINISH_REASONS = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL"}
_EFFORTS = ((1024, "low"), (2048, "medium"), (1 << 30, "high"))


class CohereWire:
    stream_type = b"text/event-stream"

    def serves(self, path: str) -> bool:
        return path.endswith("/chat")

    def key(self, headers: Mapping[bytes, bytes]) -> str | None:
        return bearer_of(headers)

    def asked(self, provider: str, path: str, body: dict[str, Any]) -> Asked:
        thinking = body.get("thinking") or {}
        budget = thinking.get("token_budget") or 1024
        effort = next(word for limit, word in _EFFORTS if budget <= limit)
        tool = body["tools"][0]["function"]["name"] if body.get("tool_choice") == "REQUIRED" else None
        return Asked(
            provider=provider,
            model=body["model"],
            stream=bool(body.get("stream")),
            texts=tuple(text for message in body["messages"] for text in texts_of(message.get("content"))),
            max_tokens=body.get("max_tokens"),
            effort=effort if thinking.get("type") == "enabled" else None,
            tool=tool,
            json_wanted=(body.get("response_format") or {}).get("type") == "json_object",
        )

    def whole(self, asked: Asked, answer: Scripted, now_s: float) -> bytes:
        message: dict[str, Any] = {"role": "assistant"}
        content = [{"type": "thinking", "thinking": each} for each in _thoughts(answer)]
        if answer.arguments is not None:
            message |= {"tool_plan": "I will look it up.", "tool_calls": [_tool_call(asked, answer, answer.arguments)]}
        else:
            content.append({"type": "text", "text": answer.text})
        if content:
            message["content"] = content
        finish_reason = _FINISH_REASONS[answer.finish_reason]
        return orjson.dumps(
            {"id": answer.id, "message": message, "finish_reason": finish_reason, "usage": _usage(answer)}
        )

    def pieces(self, asked: Asked, answer: Scripted, now_s: float) -> Iterator[tuple[bytes, int]]:
        yield _event("message-start", id=answer.id, delta={"message": {"role": "assistant"}}), 0
        index = 0
        for thought in _thoughts(answer):
            yield from _content_events(index, "thinking", [(thought, 0)])
            index += 1
        if answer.arguments is None:
            yield from _content_events(index, "text", list(parts_of(answer.text)))
        else:
            yield _event("tool-plan-delta", delta={"message": {"tool_plan": "I will look it up."}}), 0
            start = {"message": {"tool_calls": _tool_call(asked, answer, "")}}
            yield _event("tool-call-start", index=0, delta=start), 0
            for part, tokens in parts_of(answer.arguments):
                delta = {"message": {"tool_calls": {"function": {"arguments": part}}}}
                yield _event("tool-call-delta", index=0, delta=delta), tokens
            yield _event("tool-call-end", index=0), 0
        end = {"finish_reason": _FINISH_REASONS[answer.finish_reason], "usage": _usage(answer)}
        yield _event("message-end", id=answer.id, delta=end), 0

    def error(self, status: int, message: str) -> bytes:
        return orjson.dumps({"id": "scripted", "message": message})

    def error_inside(self, message: str, *, stream: bool) -> bytes:
        if stream:
            return _event("message-end", delta={"finish_reason": "ERROR", "error": message})
        failed = {"id": "scripted", "finish_reason": "ERROR", "message": {"role": "assistant", "content": []}}
        return orjson.dumps(failed)


def _content_events(index: int, kind: str, parts: list[tuple[str, int]]) -> Iterator[tuple[bytes, int]]:
    start = {"message": {"content": {"type": kind, kind: ""}}}
    yield _event("content-start", index=index, delta=start), 0
    for part, tokens in parts:
        yield _event("content-delta", index=index, delta={"message": {"content": {kind: part}}}), tokens
    yield _event("content-end", index=index), 0


def _tool_call(asked: Asked, answer: Scripted, arguments: str) -> dict[str, Any]:
    function = {"name": asked.tool, "arguments": arguments}
    return {"id": f"{asked.tool}_{answer.id}", "type": "function", "function": function}


def _thoughts(answer: Scripted) -> list[str]:
    return ["Let me think."] if answer.reasoning_tokens else []


def _usage(answer: Scripted) -> dict[str, Any]:
    tokens = {"input_tokens": float(answer.prompt_tokens), "output_tokens": float(answer.completion_tokens)}
    return {"billed_units": tokens, "tokens": tokens, "cached_tokens": 0.0}


def _event(kind: str, **fields: Any) -> bytes:
    event = {"type": kind, **fields}
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(event) + b"\n\n"
