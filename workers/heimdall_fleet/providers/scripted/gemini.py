"""The scripted side of Gemini's generateContent, on Google AI and on Vertex."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from heimdall_fleet.providers.scripted.answers import Asked, Scripted
from heimdall_fleet.providers.scripted.pieces import bearer_of, parts_of, texts_of

_STATUSES: Mapping[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_FINISH_REASONS = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP"}
_EFFORTS = ((0, "none"), (1024, "low"), (2048, "medium"), (1 << 30, "high"))
_STREAM = ":streamGenerateContent"


class GeminiWire:
    stream_type = b"text/event-stream"

    def serves(self, path: str) -> bool:
        return path.endswith((":generateContent", _STREAM))

    def key(self, headers: Mapping[bytes, bytes]) -> str | None:
        value = headers.get(b"x-goog-api-key")
        return value.decode("latin-1") if value else bearer_of(headers)

    def asked(self, provider: str, path: str, body: dict[str, Any]) -> Asked:
        config = body.get("generationConfig") or {}
        limit = config.get("maxOutputTokens")
        contents = [body.get("systemInstruction") or {}, *body["contents"]]
        return Asked(
            provider=provider,
            model=path.rsplit("/", 1)[1].rsplit(":", 1)[0],
            stream=path.endswith(_STREAM),
            texts=tuple(text for content in contents for text in texts_of(content.get("parts"))),
            max_tokens=int(limit) if limit else None,
            effort=_effort(_camel(config.get("thinkingConfig") or {})),
            tool=_forced_tool(body),
            json_wanted=config.get("responseMimeType") == "application/json",
        )

    def whole(self, asked: Asked, answer: Scripted, now_s: float) -> bytes:
        parts = [*_thoughts(answer), {"text": answer.text}]
        if answer.arguments is not None:
            parts = [*_thoughts(answer), _function_call(asked, answer)]
        return orjson.dumps(_response(asked, answer, now_s, parts, last=True))

    def pieces(self, asked: Asked, answer: Scripted, now_s: float) -> Iterator[tuple[bytes, int]]:
        thoughts = _thoughts(answer)
        if thoughts:
            yield _event(_response(asked, answer, now_s, thoughts)), 0
        if answer.arguments is not None:
            yield _event(_response(asked, answer, now_s, [_function_call(asked, answer)])), answer.completion_tokens
        else:
            for part, tokens in parts_of(answer.text):
                yield _event(_response(asked, answer, now_s, [{"text": part}])), tokens
        yield _event(_response(asked, answer, now_s, [{"text": ""}], last=True)), 0

    def error(self, status: int, message: str) -> bytes:
        return orjson.dumps(
            {"error": {"code": status, "message": message, "status": _STATUSES.get(status, "UNKNOWN"), "details": []}}
        )

    def error_inside(self, message: str, *, stream: bool) -> bytes:
        body = self.error(500, message)
        return b"data: " + body + b"\r\n\r\n" if stream else body


def _camel(value: dict[str, Any]) -> dict[str, Any]:
    """Google takes `thinking_budget` as well as `thinkingBudget`, and its own client sends both kinds."""
    return {re.sub(r"_(.)", lambda match: match[1].upper(), name): each for name, each in value.items()}


def _effort(config: dict[str, Any]) -> str | None:
    if "thinkingLevel" in config:
        return str(config["thinkingLevel"]).lower()
    if "thinkingBudget" not in config:
        return None
    return next(effort for limit, effort in _EFFORTS if config["thinkingBudget"] <= limit)


def _forced_tool(body: dict[str, Any]) -> str | None:
    config = _camel(_camel(body.get("toolConfig") or {}).get("functionCallingConfig") or {})
    if config.get("mode") != "ANY":
        return None
    names = config.get("allowedFunctionNames") or [body["tools"][0]["functionDeclarations"][0]["name"]]
    return str(names[0])


def _thoughts(answer: Scripted) -> list[dict[str, Any]]:
    return [{"text": "Let me think.", "thought": True}] if answer.reasoning_tokens else []


def _function_call(asked: Asked, answer: Scripted) -> dict[str, Any]:
    call = {"name": asked.tool, "args": orjson.loads(answer.arguments or "{}")}
    return {"functionCall": call, "thoughtSignature": "c2lnbmF0dXJl"}


def _response(
    asked: Asked, answer: Scripted, now_s: float, parts: list[dict[str, Any]], *, last: bool = False
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if last:
        candidate["finishReason"] = _FINISH_REASONS[answer.finish_reason]
    usage = {
        "promptTokenCount": answer.prompt_tokens,
        "candidatesTokenCount": answer.completion_tokens - answer.reasoning_tokens,
        "thoughtsTokenCount": answer.reasoning_tokens,
        "totalTokenCount": answer.prompt_tokens + answer.completion_tokens,
    }
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": asked.model,
        "createTime": datetime.fromtimestamp(now_s, UTC).isoformat(),
        "responseId": f"response-{answer.id}",
    }


def _event(response: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(response) + b"\r\n\r\n"
