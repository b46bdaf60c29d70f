"""The scripted side of Bedrock's Converse."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from heimdall_fleet.providers.eventstream import frame
from heimdall_fleet.providers.scripted.answers import Asked, Scripted
from heimdall_fleet.providers.scripted.pieces import bearer_of, parts_of, texts_of

_EXCEPTIONS: Mapping[int, str] = {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
}
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_ACCESS_KEY = re.compile(r"Credential=([^/]+)/")
_PATH = re.compile(r"(?:.*/)?model/(.+)/(converse|converse-stream)")


class BedrockWire:
    stream_type = b"application/vnd.amazon.eventstream"

    def serves(self, path: str) -> bool:
        return _PATH.fullmatch(path) is not None

    def key(self, headers: Mapping[bytes, bytes]) -> str | None:
        value = bearer_of(headers) or ""
        signed = _ACCESS_KEY.search(value)
        return signed[1] if signed else value or None

    def asked(self, provider: str, path: str, body: dict[str, Any]) -> Asked:
        match = _PATH.fullmatch(path)
        if match is None:
            raise ValueError(f"{path} is not /model/…/converse")
        limit = (body.get("inferenceConfig") or {}).get("maxTokens")
        contents = [body.get("system"), *(message["content"] for message in body["messages"])]
        output = body.get("outputConfig") or {}
        extra = body.get("additionalModelRequestFields") or {}
        thinks = (extra.get("thinking") or {}).get("type") in {"enabled", "adaptive"}
        return Asked(
            provider=provider,
            model=match[1],
            stream=match[2] == "converse-stream",
            texts=tuple(text for content in contents for text in texts_of(content)),
            max_tokens=int(limit) if limit else None,
            effort=output.get("effort", "medium" if thinks else None),
            tool=_forced_tool(body.get("toolConfig") or {}),
            json_wanted="textFormat" in output,
        )

    def whole(self, asked: Asked, answer: Scripted, now_s: float) -> bytes:
        block: dict[str, Any] = {"text": answer.text}
        if answer.arguments is not None:
            block = {"toolUse": {**_tool_use(asked, answer), "input": orjson.loads(answer.arguments)}}
        content = [*({"reasoningContent": {"reasoningText": each}} for each in _thoughts(answer)), block]
        return orjson.dumps(
            {
                "output": {"message": {"role": "assistant", "content": content}},
                "stopReason": _STOP_REASONS[answer.finish_reason],
                "usage": _usage(answer),
                "metrics": {"latencyMs": 1},
            }
        )

    def pieces(self, asked: Asked, answer: Scripted, now_s: float) -> Iterator[tuple[bytes, int]]:
        yield _event("messageStart", {"role": "assistant"}), 0
        index = 0
        for thought in _thoughts(answer):
            for name, value in thought.items():
                delta: dict[str, Any] = {"reasoningContent": {name: value}}
                yield _event("contentBlockDelta", {"contentBlockIndex": index, "delta": delta}), 0
            yield _event("contentBlockStop", {"contentBlockIndex": index}), 0
            index += 1
        if answer.arguments is not None:
            start = {"toolUse": _tool_use(asked, answer)}
            yield _event("contentBlockStart", {"contentBlockIndex": index, "start": start}), 0
        for part, tokens in parts_of(answer.text if answer.arguments is None else answer.arguments):
            delta = {"text": part} if answer.arguments is None else {"toolUse": {"input": part}}
            yield _event("contentBlockDelta", {"contentBlockIndex": index, "delta": delta}), tokens
        yield _event("contentBlockStop", {"contentBlockIndex": index}), 0
        yield _event("messageStop", {"stopReason": _STOP_REASONS[answer.finish_reason]}), 0
        yield _event("metadata", {"usage": _usage(answer), "metrics": {"latencyMs": 1}}), 0

    def error(self, status: int, message: str) -> bytes:
        # The service names the exception in a header too; its body alone is enough for the official client.
        return orjson.dumps({"__type": _EXCEPTIONS.get(status, "InternalServerException"), "message": message})

    def error_inside(self, message: str, *, stream: bool) -> bytes:
        if not stream:
            return orjson.dumps({"error": {"message": message}})
        headers = {":message-type": "exception", ":exception-type": "internalServerException"}
        return frame({**headers, ":content-type": "application/json"}, orjson.dumps({"message": message}))


def _forced_tool(config: dict[str, Any]) -> str | None:
    choice = config.get("toolChoice") or {}
    if "tool" in choice:
        return str(choice["tool"]["name"])
    return str(config["tools"][0]["toolSpec"]["name"]) if "any" in choice else None


def _tool_use(asked: Asked, answer: Scripted) -> dict[str, Any]:
    return {"toolUseId": f"tooluse_{answer.id}", "name": asked.tool}


def _thoughts(answer: Scripted) -> list[dict[str, Any]]:
    return [{"text": "Let me think.", "signature": f"signature-{answer.id}"}] if answer.reasoning_tokens else []


def _usage(answer: Scripted) -> dict[str, Any]:
    return {
        "inputTokens": answer.prompt_tokens,
        "outputTokens": answer.completion_tokens,
        "totalTokens": answer.prompt_tokens + answer.completion_tokens,
    }


def _event(name: str, event: dict[str, Any]) -> bytes:
    headers = {":message-type": "event", ":event-type": name, ":content-type": "application/json"}
    return frame(headers, orjson.dumps(event))
