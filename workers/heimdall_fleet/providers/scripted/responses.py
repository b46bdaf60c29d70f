"""The scripted side of OpenAI's Responses."""

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import orjson

from heimdall_fleet.providers.scripted.answers import Asked, Scripted
from heimdall_fleet.providers.scripted.openai import OpenAIWire
from heimdall_fleet.providers.scripted.pieces import bearer_of, parts_of, texts_of


class ResponsesWire:
    stream_type = b"text/event-stream"

    def serves(self, path: str) -> bool:
        return path.endswith("/responses")

    def key(self, headers: Mapping[bytes, bytes]) -> str | None:
        return bearer_of(headers)

    def asked(self, provider: str, path: str, body: dict[str, Any]) -> Asked:
        items = body["input"] if isinstance(body["input"], list) else [{"content": body["input"]}]
        contents = [body.get("instructions"), *(item.get("content", item.get("output")) for item in items)]
        limit = body.get("max_output_tokens")
        choice = body.get("tool_choice")
        tool = choice.get("name") if isinstance(choice, dict) else None
        kind = ((body.get("text") or {}).get("format") or {}).get("type")
        return Asked(
            provider=provider,
            model=body["model"],
            stream=bool(body.get("stream")),
            texts=tuple(text for content in contents for text in texts_of(content)),
            max_tokens=int(limit) if limit else None,
            effort=(body.get("reasoning") or {}).get("effort"),
            tool=body["tools"][0]["name"] if choice == "required" else tool,
            json_wanted=kind in {"json_object", "json_schema"},
        )

    def whole(self, asked: Asked, answer: Scripted, now_s: float) -> bytes:
        return orjson.dumps(_response(asked, answer, now_s, [*_thoughts(answer), _item(asked, answer)]))

    def pieces(self, asked: Asked, answer: Scripted, now_s: float) -> Iterator[tuple[bytes, int]]:
        numbers = count()
        opened = {**_response(asked, answer, now_s, []), "status": "in_progress", "usage": None}
        yield _event(numbers, "response.created", response={**opened, "incomplete_details": None}), 0
        output: list[dict[str, Any]] = []
        for thought in _thoughts(answer):
            yield _event(numbers, "response.output_item.added", output_index=0, item={**thought, "summary": []}), 0
            text = thought["summary"][0]
            where: dict[str, Any] = {"item_id": thought["id"], "output_index": 0, "summary_index": 0}
            empty = {**text, "text": ""}
            yield _event(numbers, "response.reasoning_summary_part.added", **where, part=empty), 0
            yield _event(numbers, "response.reasoning_summary_text.delta", **where, delta=text["text"]), 0
            yield _event(numbers, "response.output_item.done", output_index=0, item=thought), 0
            output.append(thought)
        item = _item(asked, answer)
        yield from _item_events(numbers, item, len(output))
        response = _response(asked, answer, now_s, [*output, item])
        yield _event(numbers, f"response.{response['status']}", response=response), 0

    def error(self, status: int, message: str) -> bytes:
        return OpenAIWire().error(status, message)

    def error_inside(self, message: str, *, stream: bool) -> bytes:
        if not stream:
            return self.error(500, message)
        return _event(count(), "error", code="server_error", message=message, param=None)


def _item_events(numbers: "count[int]", item: dict[str, Any], index: int) -> Iterator[tuple[bytes, int]]:
    where: dict[str, Any] = {"item_id": item["id"], "output_index": index}
    if item["type"] == "function_call":
        opened = {**item, "arguments": "", "status": "in_progress"}
        yield _event(numbers, "response.output_item.added", output_index=index, item=opened), 0
        for part, tokens in parts_of(item["arguments"]):
            yield _event(numbers, "response.function_call_arguments.delta", **where, delta=part), tokens
        done = {"name": item["name"], "arguments": item["arguments"]}
        yield _event(numbers, "response.function_call_arguments.done", **where, **done), 0
    else:
        opened = {**item, "content": [], "status": "in_progress"}
        yield _event(numbers, "response.output_item.added", output_index=index, item=opened), 0
        where["content_index"] = 0
        (content,) = item["content"]
        yield _event(numbers, "response.content_part.added", **where, part={**content, "text": ""}), 0
        for part, tokens in parts_of(content["text"]):
            yield _event(numbers, "response.output_text.delta", **where, delta=part, logprobs=[]), tokens
        yield _event(numbers, "response.output_text.done", **where, text=content["text"], logprobs=[]), 0
        yield _event(numbers, "response.content_part.done", **where, part=content), 0
    yield _event(numbers, "response.output_item.done", output_index=index, item=item), 0


def _item(asked: Asked, answer: Scripted) -> dict[str, Any]:
    if answer.arguments is not None:
        call = {"call_id": f"call_{answer.id}", "name": asked.tool, "arguments": answer.arguments}
        return {"type": "function_call", "id": f"fc_{answer.id}", "status": "completed", **call}
    content = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
    head = {"type": "message", "id": f"msg_{answer.id}", "role": "assistant", "status": "completed"}
    return {**head, "content": [content]}


def _thoughts(answer: Scripted) -> list[dict[str, Any]]:
    if not answer.reasoning_tokens:
        return []
    summary = [{"type": "summary_text", "text": "Let me think."}]
    return [{"type": "reasoning", "id": f"rs_{answer.id}", "summary": summary, "encrypted_content": "c2VjcmV0"}]


def _response(asked: Asked, answer: Scripted, now_s: float, output: list[dict[str, Any]]) -> dict[str, Any]:
    cut = answer.finish_reason == "length"
    usage = {
        "input_tokens": answer.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": answer.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }
    return {
        "id": f"resp_{answer.id}",
        "object": "response",
        "created_at": int(now_s),
        "model": asked.model,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "error": None,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage,
    }


def _event(numbers: "count[int]", kind: str, **fields: Any) -> bytes:
    event = {"type": kind, "sequence_number": next(numbers), **fields}
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(event) + b"\n\n"
